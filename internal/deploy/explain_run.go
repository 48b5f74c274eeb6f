package deploy

const (
	containerCheck = "the container's own health check fails"
	balancer       = "the load balancer's health checks fail"
	balancerFix    = "Check that the container listens on the target group's port on 0.0.0.0 and answers its health check path, that the security group lets the load balancer in, and that healthCheckGracePeriodSeconds covers the start."
)

// causesOfRun are the ends of tasks that ran.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
func causesOfRun() [][3]string {
	const again = "ECS starts another task by itself."
	return [][3]string{
		{
			`OutOfMemory|Container killed due to (high )?memory usage`, "a container ran out of memory",
			"Raise memory in the task definition, or make the program use less (a JVM: -XX:MaxRAMPercentage).",
		},
		{
			`unhealthy in \(target-group.*failed with these codes: \[(?P<codes>[^\]]*)\]`, balancer + ": the container answers with status ${codes}",
			"Let the health check's path answer with a status of the target group's matcher (often 200), or correct path and matcher: redirects and logins do not count as healthy.",
		},
		{
			`unhealthy in \(target-group.*Request timed out`, balancer + ": the container does not answer in time",
			"Let the container's security group in from the load balancer's on the container's port, listen on 0.0.0.0, and give a slow start a longer healthCheckGracePeriodSeconds.",
		},
		{`failed ELB health checks|unhealthy in \(target-group`, balancer, balancerFix},
		{
			`failed container health checks|ContainerHealthCheck`, containerCheck,
			"Run the health check's command in the image, check that its programs are there, and that startPeriod covers the start.",
		},
		{
			`SpotInterruption|Spot (task was )?interrupt|Spot capacity`, "AWS took the task's Spot capacity back",
			again + " To depend less on Spot, give the capacity provider FARGATE (or on-demand instances) a base.",
		},
		{
			`maintenance on the underlying infrastructure|TerminationNotice|task retirement`, "AWS retires the host that the task ran on",
			again + " Tasks that may not be interrupted need more than one copy.",
		},
		{
			`InfrastructureHealth|Host EC2 .*(terminated|stopped)|instance (was )?terminated`, "the task's host was taken away",
			again + " If it repeats, look at the container instances and their Auto Scaling group.",
		},
		{
			`container instance.*(drain|deregist)`, "the task's container instance is being drained or was deregistered",
			again + " Finish the replacement of instances before the next deployment.",
		},
		{
			`UserInitiated|stopped by user`, "somebody stopped the task",
			"Look in CloudTrail for who called StopTask.",
		},
		{
			`InternalError`, "ECS had an internal error with the task",
			"Nothing to change: ECS tries again. If it persists, look at the state of ECS in the region.",
		},
	}
}

// causesOfService are what service events and deployments say of more than one
// task.
func causesOfService() [][3]string {
	return [][3]string{
		{
			`(?P<stage>[A-Z_]+) lifecycle hook\(s\) failed.*target (?P<hook>\S+) returned (?P<status>\w+)`, "the lifecycle hook of ${stage} answered ${status}: ${hook}",
			"Look at the function's log: its answer must hold hookStatus SUCCEEDED, FAILED or IN_PROGRESS.",
		},
		{
			`(?P<stage>[A-Z_]+) lifecycle hook\(s\) failed|hookStatus must not be null`, "a lifecycle hook failed",
			"Look at the function's log: its answer must hold hookStatus SUCCEEDED, FAILED or IN_PROGRESS, and the hook's role must be allowed to invoke it.",
		},
		{
			`deployment failed: alarm detected|alarm.*(threshold|detected|triggered|ALARM state)|because of an? (active )?alarm`, "a CloudWatch alarm of the deployment went off",
			"Look at the alarm's metric during the deployment; take alarms out of the service that do not speak of its health.",
		},
		{
			`failed to register targets in \(target-group (?P<group>[^)]+)\) with \(error (?P<error>.*)\)`, "the tasks cannot be registered with the load balancer: ${error}",
			"Check that the target group's type is ip for awsvpc tasks (else instance), that it is in the tasks' VPC and attached to a listener, and that its quota of targets is not used up.",
		},
		{
			`target group.*(does not have an associated load balancer|not (attached|associated))|must be (attached|associated).*listener`, "a target group of the service is attached to no load balancer",
			"Attach both target groups to the listener, the one that takes no traffic with weight 0.",
		},
		{
			`productionListenerRule|testListenerRule`, "the listener rule of the deployment does not fit the load balancer",
			"Give the ARN of a listener rule for an Application Load Balancer, the ARN of a listener for a Network Load Balancer.",
		},
		{
			`advancedConfiguration`, "the load balancer's settings for shifting traffic are missing",
			"Set advancedConfiguration of the service's load balancer: alternateTargetGroupArn, productionListenerRule, roleArn.",
		},
		{
			`AmazonECSInfrastructureRolePolicyForLoadBalancers`, "the service's infrastructure role may not change the load balancer",
			"Give the role the policy AmazonECSInfrastructureRolePolicyForLoadBalancers.",
		},
		{
			`No rollback candidate was found`, "there is no earlier deployment to go back to",
			"Deploy a task definition that works; until one deployment has succeeded, nothing can be rolled back.",
		},
	}
}

// vagueCauses say that tasks fail, not why: anything else tells more.
func vagueCauses() [][3]string {
	return [][3]string{
		{
			`operations are being throttled on (?P<api>[\w ]+?)\.`, "ECS is slowed down: the account calls ${api} too often",
			"Wait: ECS goes on by itself. Deploy fewer services at a time in the account and region.",
		},
		{
			`unable to consistently start tasks|tasks failed to start|circuit breaker`, "its tasks fail again and again",
			"Look at the stopped tasks and their logs.",
		},
		{
			`unable to place a task\.? Reason: (?P<reason>.*)`, "no task can be placed: ${reason}",
			"Correct what ECS names in the service or the task definition.",
		},
		{
			`unable to reach steady state|could not launch \d+ tasks?|replaced \d+ tasks? due to an unhealthy status|unable to place a task`, "its tasks do not come up, or do not stay up",
			"Look at the service's events, the stopped tasks and their logs.",
		},
		{
			`failed to launch a task with \(error (?P<error>.*)\)`, "ECS cannot start a task: ${error}",
			"Correct what ECS names in the service or the task definition.",
		},
	}
}
