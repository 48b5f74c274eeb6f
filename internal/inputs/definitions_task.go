package inputs

// taskDefinitions are about where a task definition comes from and what becomes of it.
func taskDefinitions() []Definition {
	return []Definition{
		{
			Name: "task-definition", Group: groupTask,
			Description: "Path of a task definition in JSON or YAML, relative to the workspace, that the image is put into. Default: the one that the service runs now.",
		},
		{
			Name: "task-definition-arn", Group: groupTask,
			Description: "ARN of a registered task definition to begin with, in place of a file.",
		},
		{
			Name: "task-definition-family", Group: groupTask,
			Description: "Family of registered task definitions to begin with, in place of a file: its latest revision, or `task-definition-revision`.",
		},
		{
			Name: "task-definition-revision", Group: groupTask,
			Description: "Revision of `task-definition-family`.",
		},
		{
			Name: "container-name", Group: groupTask,
			Description: "Containers that get the image and the settings below, one a line or with commas. Default: the only one, or the one whose image is of the same repository.",
		},
		{
			Name: "image", Group: groupTask,
			Description: "Image to deploy instead of building one. Or lines of `CONTAINER=IMAGE`, for several containers or beside a build.",
		},
		{
			Name: "task-role-arn", Group: groupTask,
			Description: "Role of the containers, by ARN or name. Default: the base's.",
		},
		{
			Name: "execution-role-arn", Group: groupTask,
			Description: "Role by which ECS pulls images and reads secrets, by ARN or name. Default: the base's.",
		},
		{
			Name: "task-definition-tags", Group: groupTask,
			Description: "Tags of the task definition, lines of `KEY=value` or a JSON list of `key` and `value`, in place of the base's. Default: the base's.",
		},
		{
			Name: "keep-revisions", Group: groupTask,
			Description: "How many revisions of the family stay registered after a deployment, 1 to 10000. Older ones are deregistered, unless a service runs them or would roll back to them. Default: all.",
		},
	}
}

// containerDefinitions are about what is changed in containers.
func containerDefinitions() []Definition {
	return []Definition{
		{
			Name: "environment-variables", Group: groupTask, Secret: true,
			Description: "Environment variables to set, lines of `NAME=value`. The others stay. A secret of that name is taken out.",
		},
		{
			Name: "remove-environment-variables", Group: groupTask,
			Description: "Names of environment variables to take out, one a line or with commas.",
		},
		{
			Name: "container-secrets", Group: groupTask,
			Description: "Secrets to set, lines of `NAME=valueFrom`: the ARN of a secret in Secrets Manager, or the ARN or name of an SSM parameter. The others stay. An environment variable of that name is taken out.",
		},
		{
			Name: "remove-secrets", Group: groupTask,
			Description: "Names of secrets to take out, one a line or with commas.",
		},
		{
			Name: "env-files", Group: groupTask,
			Description: "ARNs of files in S3 with environment variables, one a line or with commas, in place of those there are.",
		},
		{
			Name: "log-configuration-log-driver", Group: groupTask,
			Description: "Log driver, such as `awslogs`. The options of another driver are taken out.",
		},
		{
			Name: "log-configuration-options", Group: groupTask,
			Description: "Options of the log driver to set, lines of `NAME=value`. The others stay.",
		},
		{
			Name: "docker-labels", Group: groupTask,
			Description: "Labels of the container to set, lines of `NAME=value`. The others stay.",
		},
		{
			Name: "command", Group: groupTask,
			Description: "Command of the container, split into words as a shell does it, with its quotes and backslashes but without variables; or a JSON list of strings.",
		},
	}
}

// runTaskDefinitions are about a task that is run before the service is updated.
func runTaskDefinitions() []Definition {
	return []Definition{
		{
			Name: "run-task", Group: groupRunTask, Default: "false",
			Description: "Whether to run a task of the new task definition once before the service is updated, such as a migration: `true` or `false`. If it fails, nothing is updated.",
		},
		{
			Name: "run-task-container", Group: groupRunTask,
			Description: "Container whose exit code decides, and that `run-task-command` and `run-task-environment-variables` are for. Default: the one that gets the image.",
		},
		{
			Name: "run-task-command", Group: groupRunTask,
			Description: "Command to run in that container, written as for `command`. Default: the container's own.",
		},
		{
			Name: "run-task-environment-variables", Group: groupRunTask, Secret: true,
			Description: "Environment variables of that container for this run, lines of `NAME=value`.",
		},
		{
			Name: "run-task-container-overrides", Group: groupRunTask,
			Description: "Overrides of containers as the API takes them, a JSON list of objects with a `name`.",
		},
		{
			Name: "run-task-subnets", Group: groupRunTask,
			Description: "Subnets of the task, one a line or with commas. Default: the service's.",
		},
		{
			Name: "run-task-security-groups", Group: groupRunTask,
			Description: "Security groups of the task, one a line or with commas. Default: the service's.",
		},
		{
			Name: "run-task-assign-public-IP", Group: groupRunTask,
			Description: "Whether the task gets a public IP address: `ENABLED` or `DISABLED`. Default: the service's.",
		},
		{
			Name: "run-task-launch-type", Group: groupRunTask,
			Description: "`FARGATE`, `EC2`, `EXTERNAL` or `MANAGED_INSTANCES`. Default: the service's launch type or capacity providers, or else `FARGATE`.",
		},
		{
			Name: "run-task-capacity-provider-strategy", Group: groupRunTask,
			Description: "Capacity providers as the API takes them, a JSON list of `capacityProvider`, `weight` and `base`. Default: the service's.",
		},
		{
			Name: "run-task-platform-version", Group: groupRunTask,
			Description: "Fargate's platform version. Default: the service's.",
		},
		{
			Name: "run-task-started-by", Group: groupRunTask,
			Description: "What the task is marked with, up to 128 of `A-Z a-z 0-9 - _ / . :`. Default: `towline-RUN_ID-ATTEMPT`.",
		},
		{
			Name: "run-task-tags", Group: groupRunTask,
			Description: "Tags of the task, lines of `KEY=value` or a JSON list of `key` and `value`.",
		},
		{
			Name: "run-task-managed-ebs-volume-name", Group: groupRunTask,
			Description: "Name of the volume in the task definition that `run-task-managed-ebs-volume` configures.",
		},
		{
			Name: "run-task-managed-ebs-volume", Group: groupRunTask,
			Description: "EBS volume of the task as the API takes it, a JSON object with at least `roleArn`.",
		},
		{
			Name: "wait-for-task-stopped", Group: groupRunTask, Default: "true",
			Description: "Whether to wait for the task's end, up to `wait-for-minutes`, and to stop if it fails: `true` or `false`.",
		},
	}
}
