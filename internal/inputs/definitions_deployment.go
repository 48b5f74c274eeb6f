package inputs

func deploymentDefinitions() []Definition {
	return []Definition{
		{
			Name: "cluster", Group: groupDeployment, Default: "default",
			Description: "ECS cluster of the services that name none themselves, by name or ARN.",
		},
		{
			Name: "service", Group: groupDeployment,
			Description: "ECS services to update: lines of `[CLUSTER/]SERVICE[=CONTAINER]`, or their ARNs. Without it nothing is deployed. See docs/several-services.md for more than one.",
		},
		{
			Name: "desired-count", Group: groupDeployment,
			Description: "How many tasks the service is to run. Default: as it is.",
		},
		{
			Name: "force-new-deployment", Group: groupDeployment, Default: "false",
			Description: "Whether to deploy even what the service runs already: `true` or `false`.",
		},
		{
			Name: "propagate-tags", Group: groupDeployment,
			Description: "Where new tasks get their tags from: `SERVICE`, `TASK_DEFINITION` or `NONE`. Default: as the service is.",
		},
		{
			Name: "enable-ecs-managed-tags", Group: groupDeployment,
			Description: "Whether ECS puts its own tags on new tasks: `true` or `false`. Default: as the service is.",
		},
		{
			Name: "service-managed-ebs-volume-name", Group: groupDeployment,
			Description: "Name of the volume in the task definition (with `configuredAtLaunch`) that `service-managed-ebs-volume` describes.",
		},
		{
			Name: "service-managed-ebs-volume", Group: groupDeployment,
			Description: "EBS volume that ECS makes for each task: JSON with ECS's names, `{\"roleArn\": ..., \"sizeInGiB\": 20}`. Default: as the service is.",
		},
		{
			Name: "keep-null-value-keys", Group: groupDeployment,
			Description: "Has no effect: Towline takes no empty values out of a task definition. It may stand here so that a workflow can move over as it is.",
		},
		{
			Name: "max-retries", Group: groupDeployment, Default: "7",
			Description: "How often a call to ECS is tried again, 0 to 50; when ECS says that the account makes too many calls, 20 times as often. An update whose answer was lost is looked for first, never blindly repeated.",
		},
		{
			Name: "wait-for-service-stability", Group: groupDeployment, Default: "true",
			Description: "Whether to follow the deployment to its end: `true` or `false`.",
		},
		{
			Name: "wait-for-minutes", Group: groupDeployment, Default: "30",
			Description: "How long to follow the deployment, 1 to 1440 minutes.",
		},
		{
			Name: "rollback-on-failure", Group: groupDeployment, Default: "true",
			Description: "Whether to return to the former task definition when the deployment fails or does not end in time, and ECS does not do so by itself: `true` or `false`. The step fails anyway.",
		},
		{
			Name: "on-cancel", Group: groupDeployment, Default: "leave",
			Description: "What becomes of the deployment when the job is cancelled: `leave` lets it go on, `rollback` asks ECS to roll it back. The step's last lines say which deployment it is, and how to stop it.",
		},
	}
}

func strategyDefinitions() []Definition {
	return []Definition{
		{
			Name: "deployment-strategy", Group: groupDeployment,
			Description: "How ECS replaces tasks: `rolling`, `recreate` (rolling, but old tasks end before new ones start), `blue-green`, `linear` or `canary`. Default: as the service is.",
		},
		{
			Name: "minimum-healthy-percent", Group: groupDeployment,
			Description: "How many tasks stay healthy during a deployment, in percent of the desired count, 0 to 100. Default: as the service is.",
		},
		{
			Name: "maximum-percent", Group: groupDeployment,
			Description: "How many tasks may run during a deployment, in percent of the desired count, 100 to 10000. Default: as the service is.",
		},
		{
			Name: "bake-time-minutes", Group: groupDeployment,
			Description: "How long old and new tasks both run after all traffic has moved (`blue-green`, `linear`, `canary`), 0 to 1440 minutes. Default: as the service is.",
		},
		{
			Name: "canary-percent", Group: groupDeployment,
			Description: "Share of the traffic that `canary` moves first, 0.1 to 100 percent. Default: as the service is.",
		},
		{
			Name: "canary-bake-minutes", Group: groupDeployment,
			Description: "How long `canary` waits before it moves the rest, 0 to 1440 minutes. Default: as the service is.",
		},
		{
			Name: "linear-step-percent", Group: groupDeployment,
			Description: "Share of the traffic that `linear` moves in each step, 3 to 100 percent. Default: as the service is.",
		},
		{
			Name: "linear-step-bake-minutes", Group: groupDeployment,
			Description: "How long `linear` waits after each step, 0 to 1440 minutes. Default: as the service is.",
		},
		{
			Name: "circuit-breaker", Group: groupDeployment,
			Description: "Whether ECS itself fails a deployment whose tasks keep failing: `on`, `off`, or `rollback` to also go back. Default: as the service is.",
		},
		{
			Name: "alarms", Group: groupDeployment,
			Description: "CloudWatch alarms that fail the deployment, lines or commas between their names, or `off`. ECS rolls back when `rollback-on-failure` is on. Default: as the service is.",
		},
		{
			Name: "on-pause", Group: groupDeployment, Default: "end",
			Description: "What to do when a pause hook of the service holds the deployment: `end` the step with deployment-status `paused`, so that a later job can decide, or `wait`.",
		},
		{
			Name: "continue-deployment", Group: groupDeployment, Default: "false",
			Description: "Whether to let the service's paused deployment go on, and follow it, instead of starting one: `true` or `false`.",
		},
		{
			Name: "rollback-deployment", Group: groupDeployment, Default: "false",
			Description: "Whether to roll back the service's deployment that is paused or under way, and follow that, instead of starting one: `true` or `false`.",
		},
	}
}
