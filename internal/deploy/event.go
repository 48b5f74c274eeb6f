package deploy

import "time"

// Event is one of the types of this file. Texts that come from ECS or from
// containers are untrusted.
type Event interface{ event() }

// Registered says which task definition will be deployed.
type Registered struct {
	ARN string
	// Changed is false when an identical definition was already there and
	// nothing was registered.
	Changed bool
}

// Started says that ECS accepted the update, or that a deployment of the same
// task definition was found under way and is followed (Joined).
type Started struct {
	DeploymentID, TaskDefinitionARN, PreviousARN string
	ConsoleURL                                   string
	Joined                                       bool
	// Detail is what else was chosen, or empty.
	Detail string
}

// Waiting is the state of the deployment's tasks: at each change, and every
// 30 seconds without one.
type Waiting struct {
	DeploymentID string
	// State is ECS's word: IN_PROGRESS, ROLLBACK_IN_PROGRESS, ...
	State                             string
	Running, Pending, Desired, Failed int
	// Threshold is how many failures open the circuit breaker; 0 where there
	// is none, or it does not watch any more.
	Threshold int
	// Elapsed counts from the moment ECS accepted the update.
	Elapsed time.Duration
}

// Stage is where a deployment that moves traffic stands: at each change.
type Stage struct {
	DeploymentID string
	// Stage is ECS's word: SCALE_UP, PRODUCTION_TRAFFIC_SHIFT, BAKE_TIME, ...
	Stage string
	// Production and Test are the shares of the traffic that the new tasks get,
	// in percent; nil where ECS does not say.
	Production, Test *float64
	Elapsed          time.Duration
}

// Paused says that a pause hook holds the deployment.
type Paused struct {
	DeploymentID, HookID, Stage string
	// Until is when ECS decides by itself: to CONTINUE or to ROLLBACK.
	Until time.Time
	Then  string
}

// AlarmRaised says that CloudWatch alarms fail the deployment.
type AlarmRaised struct{ Names []string }

// ServiceEvent is a line of the service's event log, each once, oldest first.
type ServiceEvent struct {
	At      time.Time
	Message string
	// Summary is one clause about what is wrong, and Fix what to do; both are
	// empty for what is well.
	Summary, Fix string
}

// ContainerEnd is how one container of a stopped task ended.
type ContainerEnd struct {
	Name string
	// ExitCode is nil when the container never ran.
	ExitCode *int
	Reason   string
	// Essential is true when its end ends the task; it is only known where the
	// task definition could be read.
	Essential bool
	// Unhealthy says that its own health check failed; HealthCheck is that
	// check's command, where the task definition could be read.
	Unhealthy   bool
	HealthCheck string
}

// TaskFailed says that a task of this deployment has failed, once per task.
type TaskFailed struct {
	TaskID, StopCode, StoppedReason string
	Containers                      []ContainerEnd
	// CreatedAt, StartedAt, StoppedAt are zero when ECS does not give them; a
	// task without StartedAt never ran.
	CreatedAt, StartedAt, StoppedAt time.Time
	// Summary is one sentence about why, Fix what to do; Fix may be empty.
	Summary, Fix string
}

// LogLines are the last lines that a container of a failed task wrote, oldest
// first. Untrusted.
type LogLines struct {
	TaskID, Container string
	Lines             []string
}

// TaskStarted says that ECS took on a one-off task.
type TaskStarted struct {
	TaskID, TaskDefinitionARN string
	// ConsoleURL is empty in partitions whose console is not known.
	ConsoleURL string
}

// TaskState is a one-off task's state in ECS's word, at each change.
type TaskState struct{ TaskID, State string }

// TaskOutput is what the container of a one-off task wrote since the last of
// these, Skipped lines of which are left out before Lines. Untrusted.
type TaskOutput struct {
	TaskID, Container string
	Skipped           int
	Lines             []string
}

// TaskEnded says that a one-off task's container ended with exit code 0.
type TaskEnded struct {
	TaskID, Container string
	// Took counts from the task's creation.
	Took time.Duration
}

// Deregistered says which revisions were deregistered, oldest first, and how
// many more are older than those to keep.
type Deregistered struct {
	ARNs []string
	Left int
}

// TaskTimes is how a new task came up. A time is zero that ECS does not give.
type TaskTimes struct {
	TaskID                                             string
	CreatedAt, PullStartedAt, PullStoppedAt, StartedAt time.Time
	// HealthyBy is when the containers were seen to be healthy, at the deployment's
	// end; zero without health checks of their own.
	HealthyBy time.Time
}

// Timing is how the tasks of a deployment came and went, once, at its end.
type Timing struct {
	// Tasks are the new ones, oldest first; at most 50.
	Tasks []TaskTimes
	// Stopped is how many old tasks have ended, Killed how many of them did not
	// end by themselves, and StopTook the longest time that one took.
	Stopped, Killed int
	StopTook        time.Duration
}

// RollingBack says that the service is going back to what it ran before.
type RollingBack struct {
	Reason string
	// To is the task definition, or empty when only ECS knows it.
	To string
	// ByECS is true when ECS (or CodeDeploy) does it by itself, false when we
	// asked for it.
	ByECS bool
	// CodeDeploy is true when CodeDeploy does it.
	CodeDeploy bool
}

// Notice is something the user should know that is no failure: a missing
// permission and what is lost by it.
type Notice struct{ Message string }

// Done is the last event of a Deploy that started or found a deployment.
type Done struct{ Outcome Outcome }

func (Registered) event()   {}
func (Started) event()      {}
func (Waiting) event()      {}
func (Stage) event()        {}
func (Paused) event()       {}
func (AlarmRaised) event()  {}
func (ServiceEvent) event() {}
func (TaskFailed) event()   {}
func (LogLines) event()     {}
func (TaskStarted) event()  {}
func (TaskState) event()    {}
func (TaskOutput) event()   {}
func (TaskEnded) event()    {}
func (Deregistered) event() {}
func (Timing) event()       {}
func (RollingBack) event()  {}
func (Notice) event()       {}
func (Done) event()         {}
