package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// run is what RunTask asks for.
type run struct {
	Cluster, TaskDefinition, StartedBy, Group, LaunchType, PlatformVersion, ClientToken string

	Count                    *int
	CapacityProviderStrategy []struct{ CapacityProvider string }
	NetworkConfiguration     struct {
		AwsvpcConfiguration *struct {
			Subnets, SecurityGroups []string
		}
	}
	Overrides struct {
		ContainerOverrides []struct {
			Name    string
			Command []string
		}
	}
	Tags []any
}

// answered is what a client token has brought about.
type answered struct {
	body  []byte
	tasks []*task
}

// holders are the cluster's services in their order, and then the groups of
// tasks that RunTask started, which are services whose scheduler never begins.
func (cl *cluster) holders() []*service { return append(sortedServices(cl), cl.runs...) }

func (c *Cloud) runTask(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	var in run
	if err = q.into(&in); err != nil {
		return nil, err
	}
	def, err := c.findDefinition(in.TaskDefinition)
	if err != nil {
		return nil, refuse("ClientException", "TaskDefinition not found.")
	}
	if in.Count == nil {
		one := 1
		in.Count = &one
	}
	if err := c.checkRun(q, in, def); err != nil {
		return nil, err
	}
	if before, repeated := c.ecs.tokens[in.ClientToken]; repeated && in.ClientToken != "" {
		if !bytes.Equal(before.body, q.body) {
			return nil, refuse("ConflictException", "The request conflicts with a former one that has the same client token.") // assumed
		}
		return runAnswer(before.tasks, nil), nil
	}
	s := newService(c, cl, def.family, map[string]json.RawMessage{})
	s.group = cmp.Or(in.Group, "family:"+def.family)
	d := &deployment{id: in.StartedBy, status: "PRIMARY", def: def, created: q.now, updated: q.now}
	s.deployments = []*deployment{d}
	cl.runs = append(cl.runs, s)
	var failures []any
	for range *in.Count {
		t := s.launch(d, in.shown(s.group, q.body), q.now)
		if reason := t.behaviour.Unplaced; reason != "" {
			failures = append(failures, map[string]any{"arn": c.arn("ecs", "container-instance/"+cl.name+"/"+t.id), "reason": reason})
			s.tasks = slices.DeleteFunc(s.tasks, func(each *task) bool { return each == t })
			s.agenda = nil
		}
	}
	c.ecs.tokens[in.ClientToken] = answered{q.body, s.tasks}
	return runAnswer(s.tasks, failures), nil
}

func runAnswer(tasks []*task, failures []any) map[string]any {
	out := []any{}
	for _, t := range tasks {
		out = append(out, t.json())
	}
	return map[string]any{"tasks": out, "failures": append([]any{}, failures...)}
}

// checkRun refuses what RunTask refuses.
func (c *Cloud) checkRun(q *request, in run, def *taskDefinition) error {
	text := func(member string) string { s, _ := def.doc[member].(string); return s }
	awsvpc := in.NetworkConfiguration.AwsvpcConfiguration
	fargate := in.LaunchType == "FARGATE"
	for _, each := range in.CapacityProviderStrategy {
		fargate = fargate || each.CapacityProvider == "FARGATE" || each.CapacityProvider == "FARGATE_SPOT"
	}
	switch {
	case def.status != "ACTIVE":
		return refuse("ClientException", "TaskDefinition is inactive")
	case *in.Count < 1 || *in.Count > 10:
		return refuse("InvalidParameterException", "count should be between 1 and 10.") // assumed
	case in.LaunchType != "" && len(in.CapacityProviderStrategy) > 0:
		return refuse("InvalidParameterException", "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.")
	case text("networkMode") == "awsvpc" && (awsvpc == nil || len(awsvpc.Subnets) == 0):
		return refuse("InvalidParameterException", "Network Configuration must be provided when networkMode 'awsvpc' is specified.")
	case text("networkMode") != "awsvpc" && awsvpc != nil:
		return refuse("InvalidParameterException", "Network Configuration is not valid for the given networkMode of this task definition.")
	case fargate && text("networkMode") != "awsvpc":
		return refuse("InvalidParameterException", "Task definition does not support launch_type FARGATE.")
	}
	for _, each := range in.Overrides.ContainerOverrides {
		if !slices.ContainsFunc(def.containers, func(d containerDefinition) bool { return d.Name == each.Name }) {
			return refuse("InvalidParameterException", "Override for container named %s is not a container in the TaskDefinition.", each.Name)
		}
	}
	if len(in.Tags) > 0 {
		if err := q.who.allow("ecs:TagResource", c.arn("ecs", "task/"+lastSegment(cmp.Or(in.Cluster, "default"))+"/*"), "ecs:CreateAction", "RunTask"); err != nil {
			return err
		}
	}
	if err := q.who.passRoles(text("executionRoleArn"), text("taskRoleArn")); err != nil {
		return err
	}
	return q.passVolumeRoles()
}

// passVolumeRoles checks iam:PassRole for the roles that ECS is to make the
// request's volumes with.
func (q *request) passVolumeRoles() error {
	var in struct {
		VolumeConfigurations []struct{ ManagedEBSVolume struct{ RoleArn string } }
	}
	if err := q.into(&in); err != nil {
		return err
	}
	for _, volume := range in.VolumeConfigurations {
		if err := q.who.allow("iam:PassRole", volume.ManagedEBSVolume.RoleArn, "iam:PassedToService", "ecs.amazonaws.com"); err != nil {
			return err
		}
	}
	return nil
}

// shown is what DescribeTasks shows of the request.
func (in run) shown(group string, body []byte) map[string]any {
	var raw struct {
		Overrides map[string]any
		Tags      []any
	}
	_ = json.Unmarshal(body, &raw) // it was read before
	out := map[string]any{"group": group, "overrides": raw.Overrides, "tags": append([]any{}, raw.Tags...), "launchType": cmp.Or(in.LaunchType, "EC2")}
	if len(in.CapacityProviderStrategy) > 0 {
		out["capacityProviderName"], out["launchType"] = in.CapacityProviderStrategy[0].CapacityProvider, "FARGATE"
	}
	if in.PlatformVersion != "" && in.PlatformVersion != "LATEST" {
		out["platformVersion"] = in.PlatformVersion
	}
	return out
}

// commands are the commands that a task's containers run in place of their own.
func (t *task) commands() map[string][]string {
	encoded, err := json.Marshal(t.extra["overrides"])
	var overrides struct {
		ContainerOverrides []struct {
			Name    string
			Command []string
		}
	}
	if err != nil || json.Unmarshal(encoded, &overrides) != nil {
		return nil
	}
	commands := map[string][]string{}
	for _, each := range overrides.ContainerOverrides {
		if each.Command != nil {
			commands[each.Name] = each.Command
		}
	}
	return commands
}

func (c *Cloud) stopTask(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	for _, s := range cl.holders() {
		for _, t := range s.tasks {
			if t.id == lastSegment(q.member("task")) {
				t.stop(q.now, "UserInitiated", cmp.Or(q.member("reason"), "Task stopped by user"))
				return map[string]any{"task": t.json()}, nil
			}
		}
	}
	return nil, refuse("InvalidParameterException", "The referenced task was not found.")
}

// TaskCount is how many tasks RunTask has started so far.
func (c *Cloud) TaskCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, cl := range c.ecs.clusters {
		for _, s := range cl.runs {
			n += len(s.tasks)
		}
	}
	return n
}

func (c *Cloud) listClusters(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	arns := []string{}
	for _, name := range slices.Sorted(maps.Keys(c.ecs.clusters)) {
		arns = append(arns, c.ecs.clusters[name].arn)
	}
	return map[string]any{"clusterArns": arns}, nil
}

// catchUpRuns brings the tasks that RunTask started to now.
func (cl *cluster) catchUpRuns(now time.Time) {
	for _, s := range cl.runs {
		s.catchUp(now)
	}
}
