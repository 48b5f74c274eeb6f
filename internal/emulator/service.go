package emulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// service is one ECS service with its scheduler's state.
type service struct {
	cloud    *Cloud
	cluster  *cluster
	name     string
	arn      string
	created  time.Time
	settings map[string]json.RawMessage
	desired  int
	// group is that of tasks which RunTask started; empty for a service's.
	group string

	// deployments are those that DescribeServices shows: the PRIMARY first.
	deployments []*deployment
	// history holds all service deployments and revisions, oldest first.
	history   []*serviceDeployment
	revisions []*serviceRevision
	// candidate is the last deployment that completed: the target of a rollback.
	candidate *deployment
	tasks     []*task
	events    []event
	agenda    []appointment
	serial    int
	// settled is whether the steady state has been announced.
	settled bool
	// grumbled is when each trouble was last announced.
	grumbled map[string]time.Time
	// noRollout hides rollout states, as ECS does behind a Classic Load Balancer.
	noRollout bool
}

type event struct {
	id      string
	at      time.Time
	message string
}

// deployment is an entry of the service's deployments: ecs-svc/N.
type deployment struct {
	id, status      string
	def             *taskDefinition
	rollout, reason string

	created, updated time.Time
	// record is the service deployment that this one belongs to.
	record   *serviceDeployment
	revision *serviceRevision
	// begun is set once the scheduler works on it, halted once it gave up.
	begun, halted bool
	// external is the CodeDeploy deployment that made this task set, or empty.
	external string
	// failed counts the tasks that failed one after another.
	failed int
	// nextLaunch is when the scheduler may start tasks again, rounds how
	// often it has been throttled.
	nextLaunch time.Time
	rounds     int
	// shift is the way of a deployment that moves traffic, else nil.
	shift *shift
	// baked is when a rolling deployment has been watched by its alarms.
	baked time.Time
}

// serviceRevision is what a deployment rolls out.
type serviceRevision struct {
	arn     string
	def     *taskDefinition
	created time.Time
	images  []map[string]any
}

// deploymentSettings is what the scheduler reads of deploymentConfiguration.
type deploymentSettings struct {
	Strategy                                                 string
	MaximumPercent, MinimumHealthyPercent, BakeTimeInMinutes *int
	DeploymentCircuitBreaker                                 struct {
		Enable, Rollback       bool
		ResetOnHealthyTask     *bool
		ThresholdConfiguration *struct {
			Type  string
			Value int
		}
	}
	Alarms struct {
		AlarmNames       []string
		Enable, Rollback bool
	}
	CanaryConfiguration struct {
		CanaryPercent           *float64
		CanaryBakeTimeInMinutes *int
	}
	LinearConfiguration struct {
		StepPercent           *float64
		StepBakeTimeInMinutes *int
	}
	LifecycleHooks []lifecycleHook
}

func newService(c *Cloud, cl *cluster, name string, settings map[string]json.RawMessage) *service {
	return &service{
		cloud: c, cluster: cl, name: name, settings: settings, created: time.Now(), grumbled: map[string]time.Time{},
		arn: c.arn("ecs", "service/"+cl.name+"/"+name),
	}
}

// populate gives a new service tasks that run and a deployment that completed.
func (s *service) populate(def *taskDefinition, desired int, now time.Time) {
	s.desired = desired
	d := s.newDeployment(def, now)
	d.begun, d.rollout = true, "COMPLETED"
	d.reason = fmt.Sprintf("ECS deployment %s completed.", d.id)
	d.record.status, d.record.started, d.record.finished = "SUCCESSFUL", now, now
	s.deployments, s.candidate, s.settled = []*deployment{d}, d, true
	for range desired {
		t := s.newTask(d, Behaviour{}, now)
		t.pullStarted, t.pullStopped, t.started = now, now, now
		t.lastStatus, t.good = "RUNNING", true
		for _, k := range t.containers {
			k.status, k.health = "RUNNING", k.healthWhen("HEALTHY")
		}
	}
	s.say(now, "(service %s) has reached a steady state.", s.name)
}

func (s *service) newDeployment(def *taskDefinition, now time.Time) *deployment {
	revision := &serviceRevision{
		arn: s.cloud.arn("ecs", fmt.Sprintf("service-revision/%s/%s/%s", s.cluster.name, s.name, digits(s.cloud.unique("revision"), 19))),
		def: def, created: now,
	}
	for _, each := range def.containers {
		entry := map[string]any{"containerName": each.Name, "image": each.Image}
		if found, _ := s.cloud.resolve(each.Image); found != "" {
			entry["imageDigest"] = found
		}
		revision.images = append(revision.images, entry)
	}
	s.revisions = append(s.revisions, revision)
	d := &deployment{
		id: "ecs-svc/" + digits(s.cloud.unique("deployment"), 19), status: "PRIMARY", def: def, rollout: "IN_PROGRESS",
		created: now, updated: now, revision: revision,
	}
	d.reason = fmt.Sprintf("ECS deployment %s in progress.", d.id)
	d.record = &serviceDeployment{
		arn:    s.cloud.arn("ecs", fmt.Sprintf("service-deployment/%s/%s/%s", s.cluster.name, s.name, s.cloud.unique("service deployment")[:21])),
		status: "PENDING", created: now, updated: now, target: d,
	}
	d.record.sources = append(d.record.sources, s.deployments...)
	s.history = append(s.history, d.record)
	return d
}

// controller is the type of the service's deployment controller.
func (s *service) controller() string {
	var out struct{ Type string }
	if raw, set := s.settings["deploymentController"]; !set || json.Unmarshal(raw, &out) != nil || out.Type == "" {
		return "ECS"
	}
	return out.Type
}

// status is ACTIVE unless the service was added with another.
func (s *service) status() string {
	status := "ACTIVE"
	if raw, set := s.settings["status"]; set && json.Unmarshal(raw, &status) != nil {
		return "ACTIVE"
	}
	return status
}

func (s *service) deploymentSettings() deploymentSettings {
	var out deploymentSettings
	if json.Unmarshal(s.settings["deploymentConfiguration"], &out) != nil {
		return deploymentSettings{}
	}
	return out
}

// bounds gives how many tasks must be healthy and how many may run.
func (s *service) bounds() (least, most int) {
	settings := s.deploymentSettings()
	lowest, highest := 100, 200
	if settings.MinimumHealthyPercent != nil {
		lowest = *settings.MinimumHealthyPercent
	}
	if settings.MaximumPercent != nil {
		highest = *settings.MaximumPercent
	}
	return (s.desired*lowest + 99) / 100, s.desired * highest / 100
}

// say adds a service event.
func (s *service) say(now time.Time, format string, args ...any) {
	s.events = append(s.events, event{id: uuid(s.cloud.unique("event")), at: now, message: fmt.Sprintf(format, args...)})
	if n := len(s.events); n > 100 {
		s.events = s.events[n-100:]
	}
}

// grumble adds a service event about a trouble. ECS says it once until the
// trouble is over, or six hours have passed.
func (s *service) grumble(now time.Time, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if said, before := s.grumbled[message]; before && now.Sub(said) < 6*time.Hour {
		return
	}
	s.grumbled[message] = now
	s.say(now, "%s", message)
}

func uuid(hexDigits string) string {
	return fmt.Sprintf("%s-%s-%s-%s-%s", hexDigits[:8], hexDigits[8:12], hexDigits[12:16], hexDigits[16:20], hexDigits[20:32])
}

// count gives the running and pending tasks of one deployment, or of all.
func (s *service) count(d *deployment) (running, pending int) {
	for _, t := range s.tasks {
		if d != nil && t.deployment != d {
			continue
		}
		switch t.lastStatus {
		case "RUNNING":
			running++
		case "PROVISIONING", "PENDING", "ACTIVATING":
			pending++
		}
	}
	return running, pending
}

func (s *service) json() map[string]any {
	out := map[string]any{
		"launchType": "FARGATE", "platformVersion": "LATEST", "platformFamily": "Linux",
		"loadBalancers": []any{}, "serviceRegistries": []any{}, "placementConstraints": []any{}, "placementStrategy": []any{},
		"schedulingStrategy": "REPLICA", "deploymentController": map[string]any{"type": "ECS"},
		"enableECSManagedTags": false, "enableExecuteCommand": false, "propagateTags": "NONE",
		"healthCheckGracePeriodSeconds": 0, "availabilityZoneRebalancing": "DISABLED",
		"createdBy": s.cloud.arn("iam", "root"), "tags": []any{},
	}
	for name, value := range s.settings {
		out[name] = value
	}
	running, pending := s.count(nil)
	maps.Copy(out, map[string]any{
		"serviceArn": s.arn, "serviceName": s.name, "clusterArn": s.cluster.arn, "status": s.status(),
		"desiredCount": s.desired, "runningCount": running, "pendingCount": pending,
		"roleArn":   s.cloud.arn("iam", "role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"),
		"createdAt": epoch(s.created), "taskDefinition": s.deployments[0].def.arn,
		"currentServiceDeployment": s.history[len(s.history)-1].arn,
	})
	events := []any{}
	for _, e := range slices.Backward(s.events) {
		events = append(events, map[string]any{"id": e.id, "createdAt": epoch(e.at), "message": e.message})
	}
	out["events"] = events
	deployments := []any{}
	for _, d := range s.deployments {
		deployments = append(deployments, s.deploymentJSON(d))
	}
	out["deployments"] = deployments
	if s.controller() == "CODE_DEPLOY" {
		out["deployments"], out["taskSets"] = []any{}, s.taskSetsJSON()
		delete(out, "currentServiceDeployment")
	}
	if revisions := s.liveRevisions(); len(revisions) > 0 {
		out["currentServiceRevisions"] = revisions
	}
	return out
}

func (s *service) liveRevisions() []any {
	var out []any
	for _, d := range s.deployments {
		running, pending := s.count(d)
		out = append(out, map[string]any{
			"arn": d.revision.arn, "requestedTaskCount": s.wanted(d), "runningTaskCount": running, "pendingTaskCount": pending,
		})
	}
	return out
}

// wanted is the desired count of one deployment.
func (s *service) wanted(d *deployment) int {
	if d.status == "PRIMARY" && !d.halted {
		return s.desired
	}
	return len(s.alive(d))
}

func (s *service) deploymentJSON(d *deployment) map[string]any {
	running, pending := s.count(d)
	out := map[string]any{
		"id": d.id, "status": d.status, "taskDefinition": d.def.arn,
		"desiredCount": s.wanted(d), "runningCount": running, "pendingCount": pending, "failedTasks": d.failed,
		"createdAt": epoch(d.created), "updatedAt": epoch(d.updated),
		"launchType": "FARGATE", "platformVersion": "1.4.0", "platformFamily": "Linux",
	}
	if s.controller() == "ECS" && !s.noRollout {
		out["rolloutState"], out["rolloutStateReason"] = d.rollout, d.reason
	}
	for _, copied := range []string{"networkConfiguration", "launchType", "capacityProviderStrategy"} {
		if v, set := s.settings[copied]; set {
			out[copied] = v
		}
	}
	return out
}
