package emulator

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// TaskInfo is a task that is about to start.
type TaskInfo struct {
	Cluster, Service string
	// DeploymentID is ecs-svc/N.
	DeploymentID string
	// TaskDefinition is the revision's ARN, Family and Revision its parts.
	TaskDefinition string
	Family         string
	Revision       int
	// TaskID is the last part of the task's ARN.
	TaskID string
	// Images holds each container's image by the container's name.
	Images map[string]string
	// Attempt counts the service's tasks of that revision, from 1.
	Attempt int
	// StartedBy and Commands, by container, are set for a task of RunTask, which
	// has no Service and no DeploymentID.
	StartedBy string
	Commands  map[string][]string
}

// Health is how a task's health checks go.
type Health int

// The outcomes of health checks.
const (
	// Passing becomes healthy after HealthyAfter.
	Passing Health = iota
	// Failing is found unhealthy and stopped.
	Failing
	// Undecided never becomes healthy and is never stopped for it.
	Undecided
)

// Behaviour is what a task does. The zero value starts and stays well.
type Behaviour struct {
	// FailToStart is the stoppedReason of a task that never runs:
	// "ResourceInitializationError: ...". An image that is not in the emulated
	// registry needs no such help.
	FailToStart string
	// Unplaced is the reason in RunTask's failures for a task that cannot be placed:
	// "RESOURCE:MEMORY", "AGENT".
	Unplaced string
	// StartDelay is how much longer than usual pulling and starting take.
	StartDelay time.Duration
	// Logs are lines that the task writes when it has started.
	Logs []string
	// Exit ends the task by itself; nil runs on.
	Exit *Exit
	// Health is how its health checks go.
	Health Health
	// HealthyAfter is how long after the start they pass. Default: one pace.
	HealthyAfter time.Duration
	// Unhealthy is what the load balancer says of health checks that do not pass:
	// "Health checks failed with these codes: [503]". Default: "Health checks failed".
	Unhealthy string
}

// Exit is how a container ends by itself.
type Exit struct {
	// Container is the one that ends. Default: the first essential one.
	Container string
	// After is how long it runs.
	After time.Duration
	// Code is the exit code.
	Code int
	// Reason is the container's reason, such as
	// "OutOfMemoryError: Container killed due to memory usage".
	Reason string
}

// task is one task of a service.
type task struct {
	service    *service
	deployment *deployment
	behaviour  Behaviour
	// extra is what DescribeTasks shows of a task of RunTask.
	extra map[string]any

	id, arn             string
	lastStatus, desired string
	stopCode            string
	stoppedReason       string
	containers          []*container
	// good is whether the scheduler counts the task as healthy, or did.
	good bool

	created, pullStarted, pullStopped, started, stopping, stopped time.Time
}

type container struct {
	def      containerDefinition
	digest   string
	status   string
	health   string
	exitCode *int
	reason   string
}

func (k *container) healthWhen(health string) string {
	if k.def.HealthCheck == nil {
		return "UNKNOWN"
	}
	return health
}

// newTask adds a task that is being provisioned.
func (s *service) newTask(d *deployment, b Behaviour, now time.Time) *task {
	id := s.cloud.unique("task")[:32]
	t := &task{
		service: s, deployment: d, behaviour: b, id: id,
		arn:     s.cloud.arn("ecs", "task/"+s.cluster.name+"/"+id),
		created: now, lastStatus: "PROVISIONING", desired: "RUNNING",
	}
	for _, def := range d.def.containers {
		k := &container{def: def, status: "PENDING", health: "UNKNOWN"}
		k.digest, _ = s.cloud.resolve(def.Image)
		t.containers = append(t.containers, k)
	}
	s.tasks = append(s.tasks, t)
	return t
}

// launch starts a task and makes its appointments. extra is nil for a service's.
func (s *service) launch(d *deployment, extra map[string]any, now time.Time) *task {
	t := s.newTask(d, Behaviour{}, now)
	t.extra = extra
	if s.cloud.ecs.behave != nil {
		t.behaviour = s.cloud.ecs.behave(t.info())
	}
	pace := s.cloud.opts.Pace
	t.then(now.Add(pace), func(now time.Time) {
		t.lastStatus, t.pullStarted = "PENDING", now
	})
	t.then(now.Add(2*pace+t.behaviour.StartDelay), t.start)
	return t
}

// info is what decides how the task behaves.
func (t *task) info() TaskInfo {
	s, d := t.service, t.deployment
	info := TaskInfo{
		Cluster: s.cluster.name, Service: s.name, DeploymentID: d.id,
		TaskDefinition: d.def.arn, Family: d.def.family, Revision: d.def.revision,
		TaskID: t.id, Images: map[string]string{},
	}
	if s.group != "" {
		info.Service, info.DeploymentID, info.StartedBy, info.Commands = "", "", d.id, t.commands()
	}
	for _, k := range t.containers {
		info.Images[k.def.Name] = k.def.Image
	}
	attempt := "attempt " + s.group + s.arn + d.def.arn
	s.cloud.serial[attempt]++
	info.Attempt = s.cloud.serial[attempt]
	return info
}

// then makes an appointment that is off once the task is to stop.
func (t *task) then(at time.Time, do func(now time.Time)) {
	t.service.at(at, func(now time.Time) {
		if t.desired == "RUNNING" {
			do(now)
		}
	})
}

func (t *task) start(now time.Time) {
	t.pullStopped = now
	if reason := t.obstacle(now); reason != "" {
		t.stop(now, "TaskFailedToStart", reason)
		t.service.taskFailed(t, now)
		return
	}
	t.lastStatus, t.started = "RUNNING", now
	for _, k := range t.containers {
		k.status = "RUNNING"
	}
	if k, command := t.foreign(); k != nil {
		t.behaviour = Behaviour{
			Logs: []string{"exec " + command + ": exec format error"},
			Exit: &Exit{Container: k.def.Name, Code: 255},
		}
	}
	t.log(now, t.behaviour.Logs)
	for _, lb := range t.service.loadBalancers() {
		t.service.say(now, "(service %s) registered 1 targets in (target-group %s)", t.service.name, lb.TargetGroupArn)
	}
	pace := t.service.cloud.opts.Pace
	if exit := t.behaviour.Exit; exit != nil {
		t.then(now.Add(exit.After), func(now time.Time) { t.exit(*exit, now) })
	}
	switch t.behaviour.Health {
	case Passing:
		t.then(now.Add(cmp.Or(t.behaviour.HealthyAfter, pace)), func(time.Time) {
			for _, k := range t.containers {
				k.health = k.healthWhen("HEALTHY")
			}
			t.service.taskWell(t)
		})
	case Failing:
		t.then(now.Add(2*pace), t.failHealth)
	case Undecided:
	}
}

// failHealth ends a task for its health checks: the load balancer's when the
// service has one, else the container's.
func (t *task) failHealth(now time.Time) {
	for _, k := range t.containers {
		k.health = k.healthWhen("UNHEALTHY")
	}
	s := t.service
	reason := "Task failed container health checks"
	complaint := fmt.Sprintf("(service %s) (task %s) failed container health checks.", s.name, t.id)
	for _, lb := range s.loadBalancers() {
		reason = fmt.Sprintf("Task failed ELB health checks in (target-group %s)", lb.TargetGroupArn)
		complaint = fmt.Sprintf("(service %s) (task %s) (port %d) is unhealthy in (target-group %s) due to (reason %s).",
			s.name, t.id, lb.ContainerPort, lb.TargetGroupArn, t.unhealthy())
	}
	s.say(now, "%s", complaint)
	t.stop(now, "ServiceSchedulerInitiated", reason)
	s.taskFailed(t, now)
}

// obstacle is why the task cannot start, or empty.
func (t *task) obstacle(now time.Time) string {
	if t.behaviour.FailToStart != "" {
		return t.behaviour.FailToStart
	}
	for _, k := range t.containers {
		var reason string
		if k.digest, reason = t.service.cloud.pull(k.def.Image, t.deployment.def.architecture); reason != "" {
			return "CannotPullContainerError: " + reason
		}
	}
	for _, k := range t.containers {
		if _, reason := t.stream(k, now); reason != "" {
			return reason
		}
	}
	return ""
}

// stream finds the container's log stream; a driver other than awslogs has none.
func (t *task) stream(k *container, now time.Time) (write func(lines []string), obstacle string) {
	c, options := t.service.cloud, k.def.LogConfiguration.Options
	if k.def.LogConfiguration.LogDriver != "awslogs" {
		return func([]string) {}, ""
	}
	name := options["awslogs-group"]
	if options["awslogs-create-group"] == "true" {
		c.addLogGroup(name, now)
	}
	group := c.logs[name]
	if group == nil {
		return nil, "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: " +
			"failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1"
	}
	stream := strings.Join([]string{options["awslogs-stream-prefix"], k.def.Name, t.id}, "/")
	return func(lines []string) {
		for _, line := range lines {
			group.streams[stream] = append(group.streams[stream], logEvent{at: now, message: line})
		}
	}, ""
}

// log writes lines from the container that may exit, or the first.
func (t *task) log(now time.Time, lines []string) {
	named := ""
	if t.behaviour.Exit != nil {
		named = t.behaviour.Exit.Container
	}
	if write, _ := t.stream(t.main(named), now); write != nil {
		write(lines)
	}
}

// main is the container of that name, or the first essential one.
func (t *task) main(name string) *container {
	for _, k := range t.containers {
		if k.def.Name == name || name == "" && k.def.essential() {
			return k
		}
	}
	return t.containers[0]
}

// exit ends a container, and the task with it if the container is essential.
func (t *task) exit(e Exit, now time.Time) {
	k := t.main(e.Container)
	k.status, k.exitCode, k.reason = "STOPPED", &e.Code, e.Reason
	if !k.def.essential() {
		return
	}
	t.stop(now, "EssentialContainerExited", "Essential container in task exited")
	t.service.taskFailed(t, now)
}

// stop begins the task's end, which takes one pace.
func (t *task) stop(now time.Time, code, reason string) {
	if t.desired == "STOPPED" {
		return
	}
	ran := t.lastStatus == "RUNNING"
	t.desired, t.stopCode, t.stoppedReason, t.stopping = "STOPPED", code, reason, now
	t.lastStatus = "DEPROVISIONING"
	if ran {
		t.lastStatus = "DEACTIVATING"
	}
	t.service.at(now.Add(t.service.cloud.opts.Pace), func(now time.Time) {
		t.lastStatus, t.stopped = "STOPPED", now
		for _, k := range t.containers {
			if ran && k.exitCode == nil {
				terminated := 143
				k.exitCode = &terminated
			}
			k.status = "STOPPED"
		}
	})
}
