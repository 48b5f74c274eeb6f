package deploy

// causesOfPlace are reasons why no task can be placed: those of service
// events, and RunTask's own.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
func causesOfPlace() [][3]string {
	const place = "no task can be placed: "
	return [][3]string{
		{
			`limit on the number of (?P<what>vCPUs|tasks)`, place + "the account's Fargate quota of ${what} is used up",
			"Have the quota raised in Service Quotas, or stop what else runs.",
		},
		{
			`requested (?P<what>\w+) configuration is above your limit`, place + "the task asks for more ${what} than the account may use",
			"Lower cpu and memory in the task definition, or have the Fargate quota raised in Service Quotas.",
		},
		{
			`Capacity is unavailable`, place + "AWS has no capacity there at the moment",
			"Try again later, add subnets in other availability zones, or another capacity provider.",
		},
		{
			`provisioning capacity limit`, place + "too many tasks of the cluster wait for capacity already",
			"Let the capacity provider add instances faster, or start fewer tasks at once.",
		},
		{
			`(RESOURCE:PORTS|already using a port)`, place + "every container instance has the task's host port in use",
			"Set hostPort to 0 (bridge mode) or use awsvpc, add container instances, or lower minimumHealthyPercent so that old tasks make room.",
		},
		{
			`(RESOURCE:CPU|insufficient CPU)`, place + "no container instance has enough free CPU",
			"Add container instances, ask for less cpu in the task definition, or lower minimumHealthyPercent so that old tasks make room.",
		},
		{
			`(RESOURCE:MEMORY|insufficient memory)`, place + "no container instance has enough free memory",
			"Add container instances, ask for less memory in the task definition, or lower minimumHealthyPercent so that old tasks make room.",
		},
		{
			`(RESOURCE:GPU|insufficient GPU)`, place + "no container instance has a free GPU",
			"Add GPU instances, or lower minimumHealthyPercent so that old tasks make room.",
		},
		{
			`(RESOURCE:ENI|RESOURCE:FPGA|insufficient network interfaces)`, place + "no container instance has a free network interface",
			"Add container instances or larger ones, or turn on the account setting awsvpcTrunking.",
		},
		{
			`No Container Instances were found|NO ACTIVE INSTANCES|EMPTY CAPACITY PROVIDER`, place + "the cluster has no container instances",
			"Add container instances or a capacity provider to the cluster, or run the service on Fargate.",
		},
		{
			`agent connected|TaskFailedToStart: AGENT|error "AGENT"`, place + "the agent of the container instance is not connected",
			"Look at the ECS agent of the instances (systemctl status ecs), their way to ECS and their instance role. Short gaps are normal: ECS tries again.",
		},
		{
			`missing an attribute|TaskFailedToStart: ATTRIBUTE|error "ATTRIBUTE"`, place + "no container instance has an attribute that the task requires",
			"Compare requiresAttributes of the task definition (log driver, network mode, architecture, ...) with the attributes of the instances; update the agent or use another AMI.",
		},
		{
			`placement constraint|error "LOCATION"|TaskFailedToStart: LOCATION`, place + "no container instance meets the placement constraints",
			"Compare placementConstraints of the service and the task definition with the instances and their availability zones.",
		},
		{
			`met all of its requirements`, place + "no container instance meets the task's requirements",
			"Compare the placement constraints, attributes and architecture of the task definition with the container instances.",
		},
		{
			`unable to place a task.*Internal error`, place + "ECS had an internal error",
			"Nothing to change: ECS tries again. If it persists, look at the state of ECS in the region.",
		},
		{
			`unable to stop or start tasks during a deployment because of the service deployment configuration`, "no task can be started or stopped within minimumHealthyPercent and maximumPercent",
			"Raise maximumPercent or lower minimumHealthyPercent of the service.",
		},
	}
}
