package rehearse

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
)

const (
	demoAccount = "111122223333"
	demoRegion  = "eu-central-1"
	demoSHA     = "4e5d1f7a90b3c2d8e6f1a0b9c8d7e6f5a4b3c2d1"
	// bakedMinute is how long a minute of waiting between two shares of the traffic
	// takes in a rehearsal.
	bakedMinute = time.Second
)

// stepInputs are the inputs of the step that is rehearsed.
type stepInputs struct {
	values map[string]string
	// env is the environment that the workflow gives to the step.
	env map[string]string
	// fromWorkflow says that the inputs are somebody's: only what is empty in
	// them is filled in.
	fromWorkflow bool
}

func (in *stepInputs) get(name string) string { return strings.TrimSpace(in.values[name]) }

func (in *stepInputs) isTrue(name string) bool { return strings.EqualFold(in.get(name), "true") }

// setDefault gives an input that is empty a value; of a workflow's inputs only
// those that stand there.
func (in *stepInputs) setDefault(name, value string) {
	if _, stands := in.values[name]; in.get(name) == "" && (stands || !in.fromWorkflow) {
		in.values[name] = value
	}
}

// setDefaults makes of nothing a deployment of everything.
func (in *stepInputs) setDefaults() {
	in.setDefault("repository", "rehearsal")
	in.setDefault("cluster", "rehearsal")
	in.setDefault("service", "web")
	account, _ := in.shown()
	if in.get("aws-access-key-id") == "" {
		in.setDefault("role-to-assume", "arn:aws:iam::"+cmp.Or(account, demoAccount)+":role/towline-rehearsal")
	}
}

// hosts are the registries that some inputs name.
func (in *stepInputs) hosts(named ...string) []string {
	var hosts, names []string
	for _, input := range named {
		names = slices.AppendSeq(names, strings.FieldsFuncSeq(in.values[input], func(r rune) bool { return r == '\n' || r == ',' }))
	}
	for _, name := range names {
		host, _, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(name), "https://"), "/")
		if found && (strings.ContainsAny(host, ".:") || host == "localhost") && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// shown gives the account and the region that the inputs show, each empty if
// they do not.
func (in *stepInputs) shown() (account, region string) {
	for _, input := range []string{"role-to-assume", "service", "cluster"} {
		if parts := strings.Split(in.get(input), ":"); len(parts) == 6 && parts[0] == "arn" {
			account, region = cmp.Or(account, parts[4]), cmp.Or(region, parts[3])
		}
	}
	for _, host := range in.hosts("tags", "repository", "image") {
		if found := inputs.ECRRegion(host); found != "" {
			account, region = cmp.Or(account, host[:min(12, len(host))]), cmp.Or(region, found)
		}
	}
	return account, region
}

// stage is an account in one region, in which the inputs of the steps so far would
// work.
type stage struct {
	cloud *emulator.Cloud
	// host is where it answers.
	host string
	// there is what has been added to it: a kind and a name.
	there map[string]bool
}

// missing says whether something is not on the stage yet, and notes that it is now.
func (s *stage) missing(kind, name string) bool {
	key := kind + " " + name
	before := s.there[key]
	s.there[key] = true
	return !before
}

// where the step acts: its account and region, by what the inputs show.
func (in *stepInputs) where() (account, region string, err error) {
	in.setDefaults()
	account, region = in.shown()
	account = cmp.Or(account, demoAccount)
	region = cmp.Or(in.get("aws-region"), in.env["AWS_REGION"], in.env["AWS_DEFAULT_REGION"], region)
	if region == "" {
		region = demoRegion
		in.values["aws-region"] = region
	}
	return account, region, in.oneAccount(account)
}

func newCloud(account, region, blobs string) (*emulator.Cloud, error) {
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	cloud := emulator.New(emulator.Options{
		Region: region, Account: account, Dir: blobs, Minute: bakedMinute,
		Job: emulator.Job{Repository: "octo-org/rehearsal", SHA: demoSHA},
	})
	return cloud, nil
}

// set adds to a stage what the inputs need, unless an earlier step needed it too:
// the role trusts the repository, and the ECR repositories, the cluster and the
// service exist. dir is the workspace.
func (in *stepInputs) set(on *stage, dir, account, region string) error {
	if key := in.get("aws-access-key-id"); key != "" {
		on.cloud.AddUser(key, in.get("aws-secret-access-key"))
		delete(in.values, "aws-session-token") // keys of a user here
	}
	if err := in.addRole(on, account); err != nil {
		return err
	}
	for _, name := range in.repositories(account) {
		if on.missing("repository", name) {
			on.cloud.AddRepository(emulator.Repository{Name: name})
		}
	}
	if err := in.addImages(on.cloud, account, region); err != nil {
		return err
	}
	return in.addService(on, dir, region)
}

// oneAccount refuses inputs that need more than the emulator has.
func (in *stepInputs) oneAccount(account string) error {
	refused := func(input string, err error) error {
		return &problem.Error{Op: "set the stage", Input: input, Value: in.get(input), Err: err, Fix: "Rehearse with one account of the partition aws."}
	}
	for _, input := range []string{"role-to-assume", "service", "cluster"} {
		parts := strings.Split(in.get(input), ":")
		if len(parts) != 6 || parts[0] != "arn" {
			continue
		}
		if parts[1] != "aws" {
			return refused(input, fmt.Errorf("the partition %s is not played", parts[1]))
		}
		if parts[4] != account {
			return refused(input, fmt.Errorf("it is of account %s, another input of account %s", parts[4], account))
		}
	}
	for _, host := range in.hosts("tags", "repository") {
		if inputs.ECRRegion(host) != "" && !strings.HasPrefix(host, account) {
			return refused("repository", fmt.Errorf("the registry %s is of another account than %s", host, account))
		}
	}
	return nil
}

// addRole adds the role that is to be assumed, by ID token or by keys.
func (in *stepInputs) addRole(on *stage, account string) error {
	role := in.get("role-to-assume")
	if role == "" || !on.missing("role", role) {
		return nil
	}
	cloud := on.cloud
	audience := cmp.Or(in.get("audience"), "sts.amazonaws.com")
	cloud.AddProvider(emulator.Provider{URL: "https://token.actions.githubusercontent.com", Audiences: []string{audience}})
	trust, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{
			map[string]any{
				"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
				"Principal": map[string]any{"Federated": "arn:aws:iam::" + account + ":oidc-provider/token.actions.githubusercontent.com"},
				"Condition": map[string]any{
					"StringEquals": map[string]any{"token.actions.githubusercontent.com:aud": audience},
					"StringLike":   map[string]any{"token.actions.githubusercontent.com:sub": "repo:octo-org/rehearsal:*"}, //nolint:gosec // a name
				},
			},
			map[string]any{
				"Effect": "Allow", "Action": []string{"sts:AssumeRole", "sts:TagSession"}, "Principal": map[string]any{"AWS": "*"},
			},
		},
	})
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	if _, name, found := strings.Cut(role, ":role/"); found {
		role = name
	}
	if _, err := cloud.AddRole(emulator.Role{Name: role, TrustPolicy: string(trust), MaxSession: 12 * time.Hour}); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	return nil
}

// repositories are the names of the account's ECR repositories that the inputs name.
func (in *stepInputs) repositories(account string) []string {
	var names []string
	add := func(reference string) {
		reference, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(reference), "https://"), "@")
		host, name, found := strings.Cut(reference, "/")
		if !found || inputs.ECRRegion(host) == "" || !strings.HasPrefix(host, account) {
			return
		}
		name, _, _ = strings.Cut(name, ":")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for tag := range strings.FieldsFuncSeq(in.values["tags"], func(r rune) bool { return r == '\n' || r == ',' }) {
		add(tag)
	}
	add(in.values["image"])
	for _, input := range []string{"cache-from", "cache-to"} {
		for field := range strings.FieldsFuncSeq(in.values[input], func(r rune) bool { return r == '\n' || r == ',' }) {
			add(strings.TrimPrefix(strings.TrimSpace(field), "ref="))
		}
	}
	repository := in.get("repository")
	add(repository)
	if host, _, _ := strings.Cut(repository, "/"); repository != "" && !strings.ContainsAny(host, ".:") {
		names = append(names, repository)
	}
	return names
}

// addService adds the service with what it runs before.
func (in *stepInputs) addService(on *stage, dir, region string) error {
	cloud := on.cloud
	service := in.get("service")
	if service == "" {
		return nil
	}
	cluster := lastPart(in.get("cluster"))
	if parts := strings.Split(service, "/"); len(parts) == 3 {
		cluster = cmp.Or(cluster, parts[1])
	}
	running := emulator.Service{
		Cluster: cluster, Name: lastPart(service), DesiredCount: 2,
		CircuitBreaker: &emulator.CircuitBreaker{Enable: true, Rollback: true},
		Settings: `{"networkConfiguration": {"awsvpcConfiguration": {
			"subnets": ["subnet-0rehearsal"], "securityGroups": ["sg-0rehearsal"], "assignPublicIp": "DISABLED"}}}`,
	}
	cloud.AddLogGroup("/rehearsal")
	if err := in.addNeeds(cloud); err != nil {
		return err
	}
	if !on.missing("service", cluster+"/"+running.Name) {
		return nil
	}
	if file := in.get("task-definition"); file != "" {
		// A file that ECS would refuse is refused by the step, in better words.
		if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil && json.Valid(data) { //nolint:gosec // the user names the file
			if err := addNeeds(cloud, string(data)); err != nil {
				return err
			}
			running.TaskDefinition = string(data)
			if _, err := cloud.AddService(running); err == nil {
				return nil
			}
		}
	}
	definition, err := in.definition(region)
	if err != nil {
		return err
	}
	running.TaskDefinition = definition
	_, err = cloud.AddService(running)
	return err
}

// containers are those that the inputs name, or one.
func (in *stepInputs) containers() []string {
	separated := func(r rune) bool { return r == '\n' || r == ',' }
	var names []string
	for name := range strings.FieldsFuncSeq(in.get("container-name"), separated) {
		names = append(names, strings.TrimSpace(name))
	}
	for line := range strings.Lines(in.get("image")) {
		if name, _, found := strings.Cut(strings.TrimSpace(line), "="); found && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = append(names, "app")
	}
	return names
}

// definition is a small task definition with the containers that the inputs name.
func (in *stepInputs) definition(region string) (string, error) {
	var containers []any
	for i, name := range in.containers() {
		containers = append(containers, map[string]any{
			"name": name, "image": "public.ecr.aws/docker/library/httpd:2.4", "essential": true,
			"portMappings": []any{map[string]any{"containerPort": 8080 + i}},
			"logConfiguration": map[string]any{"logDriver": "awslogs", "options": map[string]any{
				"awslogs-group": "/rehearsal", "awslogs-region": region, "awslogs-stream-prefix": name,
			}},
		})
	}
	doc, err := json.Marshal(map[string]any{
		"family": lastPart(in.get("service")), "networkMode": "awsvpc", "cpu": "256", "memory": "512",
		"requiresCompatibilities": []string{"FARGATE"},
		"containerDefinitions":    containers,
	})
	if err != nil {
		return "", fmt.Errorf("task definition: %w", err)
	}
	return string(doc), nil
}

// otherRegistries are the hosts besides ECR to which the image would be pushed.
// They are played too: a rehearsal changes nothing anywhere.
func (in *stepInputs) otherRegistries() ([]string, error) {
	var others []string
	for _, host := range in.hosts("tags", "repository", "image") {
		switch {
		case inputs.ECRRegion(host) != "" || in.get("image") != "":
		case host == "docker.io" || host == "index.docker.io":
			return nil, dockerHub()
		default:
			others = append(others, host)
		}
	}
	for tag := range strings.FieldsFuncSeq(in.values["tags"], func(r rune) bool { return r == '\n' || r == ',' }) {
		if host, _, found := strings.Cut(strings.TrimSpace(tag), "/"); found && !strings.ContainsAny(host, ".:") && host != "localhost" {
			return nil, dockerHub() // USER/NAME
		}
	}
	return others, nil
}

func dockerHub() error {
	return &problem.Error{
		Op: "set the stage", Input: "tags",
		Err: errors.New("a rehearsal cannot play Docker Hub, from which base images come"),
		Fix: "Rehearse with a tag of another registry, such as an ECR repository's.",
	}
}

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
