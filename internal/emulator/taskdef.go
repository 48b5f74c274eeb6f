package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// taskDefinition is one registered revision. Its document is kept raw, so that
// members which nobody knows yet come back as they were sent.
type taskDefinition struct {
	family   string
	revision int
	arn      string
	status   string
	doc      map[string]any
	tags     []any

	registered   time.Time
	deregistered time.Time
	by           string

	containers []containerDefinition
	cpu        string
	memory     string
	// architecture is the CPU's, in the words of images.
	architecture string
}

// containerDefinition is what the emulator itself reads of a container.
type containerDefinition struct {
	Name, Image string

	Environment, Secrets []struct{ Name string }

	Essential        *bool
	HealthCheck      any
	LogConfiguration struct {
		LogDriver string
		Options   map[string]string
	}
	Memory, MemoryReservation int
}

// twice is a secret's name that another secret or a variable has too, or empty.
func (d containerDefinition) twice() string {
	seen := map[string]bool{}
	for _, e := range d.Environment {
		seen[e.Name] = true
	}
	for _, secret := range d.Secrets {
		if seen[secret.Name] {
			return secret.Name
		}
		seen[secret.Name] = true
	}
	return ""
}

func (d containerDefinition) essential() bool { return d.Essential == nil || *d.Essential }

// RegisterTaskDefinition registers a JSON document and gives the revision's ARN.
func (c *Cloud) RegisterTaskDefinition(doc string) (arn string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	def, err := c.register([]byte(doc), c.arn("iam", "root"), time.Now())
	if err != nil {
		return "", err
	}
	return def.arn, nil
}

// register validates a document as RegisterTaskDefinition does and adds it as
// its family's next revision.
func (c *Cloud) register(body []byte, by string, now time.Time) (*taskDefinition, error) {
	var typed struct {
		Family, CPU, Memory, NetworkMode string

		ContainerDefinitions    []containerDefinition
		RequiresCompatibilities []string
		Tags                    []any
		RuntimePlatform         struct{ CPUArchitecture string }
	}
	doc := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&doc); err != nil {
		return nil, refuse("SerializationException", "%v", err)
	}
	if err := json.Unmarshal(body, &typed); err != nil {
		return nil, refuse("SerializationException", "%v", err)
	}
	if len(body) > 64<<10 {
		return nil, refuse("ClientException", "Actual length of the task definition is %d bytes, the maximum is 65536 bytes.", len(body))
	}
	if err := checkDefinition(typed.Family, typed.ContainerDefinitions); err != nil {
		return nil, err
	}
	if slices.Contains(typed.RequiresCompatibilities, "FARGATE") {
		if err := checkFargate(typed.CPU, typed.Memory, typed.NetworkMode); err != nil {
			return nil, err
		}
	}
	if err := checkMemory(typed.Memory, typed.ContainerDefinitions); err != nil {
		return nil, err
	}
	delete(doc, "tags")
	for _, outputOnly := range []string{
		"taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities",
		"registeredAt", "registeredBy", "deregisteredAt", "deleteRequestedAt",
	} {
		delete(doc, outputOnly)
	}
	fillDefaults(doc)
	revision := len(c.ecs.families[typed.Family]) + 1
	def := &taskDefinition{
		family: typed.Family, revision: revision, status: "ACTIVE", doc: doc, tags: typed.Tags,
		arn:        c.arn("ecs", fmt.Sprintf("task-definition/%s:%d", typed.Family, revision)),
		registered: now, by: by, containers: typed.ContainerDefinitions, cpu: typed.CPU, memory: typed.Memory,
		architecture: "amd64",
	}
	if typed.RuntimePlatform.CPUArchitecture == "ARM64" {
		def.architecture = "arm64"
	}
	c.ecs.families[typed.Family] = append(c.ecs.families[typed.Family], def)
	return def, nil
}

func checkDefinition(family string, containers []containerDefinition) error {
	switch {
	case family == "":
		return refuse("ClientException", "Family cannot be null or empty.")
	case !regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`).MatchString(family):
		return refuse("ClientException", "Family contains invalid characters.")
	case len(containers) == 0:
		return refuse("ClientException", "Container list cannot be empty.")
	case len(containers) > 10:
		return refuse("ClientException", "Container list cannot have more than 10 elements.")
	}
	seen, essential := map[string]bool{}, false
	for _, d := range containers {
		switch {
		case d.Name == "":
			return refuse("ClientException", "Container.name should not be null or empty.")
		case !regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`).MatchString(d.Name):
			return refuse("ClientException", "Invalid container name.")
		case d.Image == "":
			return refuse("ClientException", "Container.image should not be null or empty.")
		case strings.ContainsAny(d.Image, " \t\n"):
			return refuse("ClientException", "Container.image contains invalid characters.")
		case seen[d.Name]:
			return refuse("ClientException", "Container.name must be unique.")
		}
		if name := d.twice(); name != "" {
			return refuse("ClientException", "The secret name must be unique and not shared with any new or existing environment variables set on the container, such as '%s'.", name)
		}
		seen[d.Name] = true
		essential = essential || d.essential()
	}
	if !essential {
		return refuse("ClientException", "At least one container must be marked as essential.")
	}
	return nil
}

func checkMemory(task string, containers []containerDefinition) error {
	for _, d := range containers {
		if task == "" && d.Memory == 0 && d.MemoryReservation == 0 {
			return refuse("ClientException", "Invalid setting for container '%s'. At least one of 'memory' or 'memoryReservation' must be specified.", d.Name)
		}
	}
	return nil
}

func checkFargate(cpu, memory, networkMode string) error {
	if cpu == "" {
		return refuse("ClientException", "Fargate requires task definition to have 'cpu' defined.")
	}
	if memory == "" {
		return refuse("ClientException", "Fargate requires task definition to have 'memory' defined.")
	}
	if networkMode != "awsvpc" {
		return refuse("ClientException", "Fargate only supports network mode ‘awsvpc’.")
	}
	if units, err := strconv.Atoi(cpu); err == nil && !slices.Contains([]int{256, 512, 1024, 2048, 4096, 8192, 16384}, units) {
		return refuse("ClientException", "No Fargate configuration exists for given values: %s CPU, %s memory. See the Amazon ECS documentation for the valid values.", cpu, memory)
	}
	return nil
}

// fillDefaults adds what DescribeTaskDefinition shows though nobody sent it.
func fillDefaults(doc map[string]any) {
	for _, list := range []string{"volumes", "placementConstraints"} {
		if doc[list] == nil {
			doc[list] = []any{}
		}
	}
	containers, _ := doc["containerDefinitions"].([]any)
	for _, each := range containers {
		container, isObject := each.(map[string]any)
		if !isObject {
			continue
		}
		for _, list := range []string{"environment", "mountPoints", "volumesFrom", "portMappings", "systemControls"} {
			if container[list] == nil {
				container[list] = []any{}
			}
		}
		if container["cpu"] == nil {
			container["cpu"] = 0
		}
		if container["essential"] == nil {
			container["essential"] = true
		}
	}
}

// definitionOf names the task definition that a request is about.
func (c *Cloud) definitionOf(q *request) string {
	if def, err := c.findDefinition(q.member("taskDefinition")); err == nil {
		return def.arn
	}
	return c.arn("ecs", "task-definition/"+lastSegment(q.member("taskDefinition")))
}

// findDefinition resolves FAMILY, FAMILY:REVISION or an ARN.
func (c *Cloud) findDefinition(ref string) (*taskDefinition, error) {
	unknown := refuse("ClientException", "Unable to describe task definition.")
	family, revision, numbered := strings.Cut(lastSegment(ref), ":")
	revisions := c.ecs.families[family]
	if !numbered {
		for _, def := range slices.Backward(revisions) {
			if def.status == "ACTIVE" {
				return def, nil
			}
		}
		return nil, unknown
	}
	n, err := strconv.Atoi(revision)
	if err != nil || n < 1 || n > len(revisions) {
		return nil, unknown
	}
	return revisions[n-1], nil
}

func (d *taskDefinition) json() map[string]any {
	out := maps.Clone(d.doc)
	out["taskDefinitionArn"], out["family"], out["revision"], out["status"] = d.arn, d.family, d.revision, d.status
	out["registeredAt"], out["registeredBy"] = epoch(d.registered), d.by
	if !d.deregistered.IsZero() {
		out["deregisteredAt"] = epoch(d.deregistered)
	}
	out["compatibilities"] = []any{"EC2", "FARGATE"}
	out["requiresAttributes"] = []any{map[string]any{"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"}}
	return out
}

func (c *Cloud) describeTaskDefinition(q *request) (any, error) {
	var in struct {
		TaskDefinition string
		Include        []string
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	def, err := c.findDefinition(in.TaskDefinition)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"taskDefinition": def.json()}
	if slices.Contains(in.Include, "TAGS") {
		out["tags"] = append([]any{}, def.tags...)
	}
	return out, nil
}

func (c *Cloud) registerTaskDefinition(q *request) (any, error) {
	var in struct {
		ExecutionRoleArn, TaskRoleArn string

		Tags []any
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if err := q.who.passRoles(in.ExecutionRoleArn, in.TaskRoleArn); err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if err := q.who.allow("ecs:TagResource", c.arn("ecs", "task-definition/"+q.member("family")+":*"),
			"ecs:CreateAction", "RegisterTaskDefinition"); err != nil {
			return nil, err
		}
	}
	def, err := c.register(q.body, q.who.arn, q.now)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"taskDefinition": def.json()}
	if len(def.tags) > 0 {
		out["tags"] = def.tags
	}
	return out, nil
}

// passRoles checks iam:PassRole for each role that is named.
func (p *principal) passRoles(arns ...string) error {
	for _, arn := range arns {
		if arn == "" {
			continue
		}
		if err := p.allow("iam:PassRole", arn, "iam:PassedToService", "ecs-tasks.amazonaws.com"); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cloud) deregisterTaskDefinition(q *request) (any, error) {
	ref := q.member("taskDefinition")
	def, err := c.findDefinition(ref)
	if err != nil || !strings.Contains(lastSegment(ref), ":") {
		return nil, refuse("ClientException", "The specified task definition does not exist.")
	}
	if def.status != "ACTIVE" {
		return nil, refuse("ClientException", "The specified task definition is inactive.")
	}
	def.status, def.deregistered = "INACTIVE", q.now
	return map[string]any{"taskDefinition": def.json()}, nil
}

func (c *Cloud) listTaskDefinitions(q *request) (any, error) {
	var in struct {
		FamilyPrefix, Status, Sort, NextToken string
		MaxResults                            int
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	arns := []string{}
	for _, family := range slices.Sorted(maps.Keys(c.ecs.families)) {
		for _, def := range c.ecs.families[family] {
			if (in.FamilyPrefix == "" || in.FamilyPrefix == family) && cmp.Or(in.Status, "ACTIVE") == def.status {
				arns = append(arns, def.arn)
			}
		}
	}
	if in.Sort == "DESC" {
		slices.Reverse(arns)
	}
	from, _ := strconv.Atoi(in.NextToken)
	arns = arns[min(from, len(arns)):]
	out := map[string]any{"taskDefinitionArns": arns}
	if most := cmp.Or(in.MaxResults, 100); len(arns) > most {
		out["taskDefinitionArns"], out["nextToken"] = arns[:most], strconv.Itoa(from+most)
	}
	return out, nil
}
