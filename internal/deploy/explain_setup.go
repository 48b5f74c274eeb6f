package deploy

const (
	// noRoute are the words of a network that leads nowhere.
	noRoute = `(connection issue|i/o timeout|dial tcp|context deadline|deadline exceeded|no such host|RequestCanceled|request canceled|send request failed|signal: killed|connection reset|connection refused)`
	refused = `(AccessDenied|not authorized|access denied|is not allowed|\b403\b|forbidden)`
	absent  = `(ResourceNotFound|does not exist|NoSuchKey|NoSuchBucket|\b404\b|NotFound)`

	routeTo    = "Give the task's subnets a way to AWS: a NAT gateway, a public IP address, or VPC endpoints ("
	routeToEnd = "), and let the security group out on port 443."
)

// causesOfSetup are failures before the first container is made: roles,
// secrets, logs, environment files.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/resource-initialization-error.html
func causesOfSetup() [][3]string {
	return append(append(causesOfLogs(), causesOfRoles()...), causesOfSecrets()...)
}

func causesOfLogs() [][3]string {
	const log = `(logger args|logging driver|log stream|log group)`
	return [][3]string{
		{
			log + `.*(not authorized to perform|AccessDenied)`,
			"the container's log cannot be opened: the execution role is not allowed to",
			"Allow logs:CreateLogStream and logs:PutLogEvents (with awslogs-create-group also logs:CreateLogGroup) on the log group to the execution role.",
		},
		{
			log + `.*(connection issue|context deadline|deadline exceeded|i/o timeout|dial tcp|RequestCanceled|send request failed)`,
			"the container's log cannot be opened: the task does not reach CloudWatch Logs",
			routeTo + "logs" + routeToEnd,
		},
		{
			log + `.*` + absent + `|cannot find the Amazon CloudWatch log group`,
			"the container's log cannot be opened: its log group does not exist",
			"Create the log group named in logConfiguration in the region of awslogs-region, or set awslogs-create-group to true and allow logs:CreateLogGroup to the execution role.",
		},
		{
			`firelens`,
			"the container's log cannot be opened: its FireLens log router cannot be set up",
			"Check firelensConfiguration, its configuration file and the image of the log router in the task definition.",
		},
		{
			log,
			"the container's log cannot be opened",
			"Check logConfiguration in the task definition: driver, options, and what the execution role may do.",
		},
	}
}

func causesOfRoles() [][3]string {
	return [][3]string{
		{
			`unable to assume (the )?(configured )?(ECS )?infrastructure role`,
			"ECS cannot assume the infrastructure role of the service",
			"Let the infrastructure role's trust policy accept ecs.amazonaws.com, and give it the policy for what it manages (AmazonECSInfrastructureRolePolicyForVolumes, ...ForLoadBalancers).",
		},
		{
			`unable to assume (the )?role '(?P<role>[^']+)'`,
			"ECS cannot assume the task's role ${role}",
			"Check that the role exists, and let its trust policy accept ecs-tasks.amazonaws.com as sts:AssumeRole's principal.",
		},
		{
			`unable to assume (the|a|your)?\s*(task |execution )?role|unable to assume the`,
			"ECS cannot assume a role of the task",
			"Let the trust policy of the task role and the execution role accept ecs-tasks.amazonaws.com as sts:AssumeRole's principal.",
		},
	}
}

func causesOfSecrets() [][3]string {
	const of = `ResourceInitialization.*`
	rows := [][3]string{
		{
			`env(ironment)? files?.*` + refused, "an environment file cannot be read: the execution role is not allowed to",
			"Allow s3:GetObject on the file and s3:GetBucketLocation on its bucket to the execution role.",
		},
		{
			`env(ironment)? files?.*` + absent, "an environment file of the task definition does not exist",
			"Check the ARNs in environmentFiles: bucket, key and region.",
		},
		{
			`env(ironment)? files?.*` + noRoute, "an environment file cannot be read: the task does not reach S3",
			"Give the task's subnets a way to S3: a gateway endpoint in their route tables, a NAT gateway or a public IP address.",
		},
		{
			of + `env(ironment)? files?`, "an environment file of the task definition cannot be read",
			"Check environmentFiles: the file holds lines of NAME=value, and the execution role may read it.",
		},
		{
			of + `(kms:Decrypt|Access to KMS is not allowed|ciphertext refers to a customer (master )?key)`,
			"the task's secrets cannot be decrypted: the execution role may not use their key",
			"Allow kms:Decrypt on the secret's KMS key to the execution role, in its policy and in the key's.",
		},
		{
			of + `not authorized to perform: (?P<action>[\w-]+:\w+) on resource: (?P<resource>[^\s,]+)`,
			"the task's secrets or registry credentials cannot be fetched: the execution role may not call ${action}",
			"Allow ${action} on ${resource} to the execution role.",
		},
		{
			of + `(AccessDenied|not authorized|access denied)`,
			"the task's secrets or registry credentials cannot be fetched: the execution role is not allowed to",
			"Allow secretsmanager:GetSecretValue or ssm:GetParameters (and kms:Decrypt for an own key) on the secret to the execution role; for ECR, AmazonECSTaskExecutionRolePolicy.",
		},
		{
			of + `marked for deletion`, "a secret that the task definition names is being deleted",
			"Restore the secret (aws secretsmanager restore-secret), or name another one.",
		},
		{
			of + `can't find the specified secret value for (staging label|VersionId)`, "a secret that the task definition names has no value, or not that version",
			"Store a value in the secret, and check version and staging label in the container's secrets.",
		},
		{
			of + `(did not contain json key|json key)\s*(?P<key>[^\s:,]*)`, "a secret has no such key: ${key}",
			"Check the JSON key behind the secret's ARN in valueFrom, and the keys in the secret's value.",
		},
		{
			of + `(invalid character|unmarshal)`, "a secret is not JSON, but the task definition asks for one of its keys",
			"Store the secret as a JSON object, or take the key out of valueFrom.",
		},
		{
			of + `(can't find the specified secret|invalid parameters|ParameterNotFound|ResourceNotFound)`, "a secret or parameter that the task definition names does not exist",
			"Check the valueFrom of the container's secrets: ARN, region, JSON key, version.",
		},
		{
			of + `(Throttling|Rate exceeded|TooManyRequests)`, "the task's secrets cannot be fetched: too many are asked for at once",
			"Have the rate of Secrets Manager or Parameter Store raised (higher throughput), or start fewer tasks at a time.",
		},
	}
	return append(rows, causesOfRoutes()...)
}

// causesOfRoutes are networks that do not lead to where secrets are.
func causesOfRoutes() [][3]string {
	const of = `ResourceInitialization.*`
	return [][3]string{
		{
			of + `(Amazon ECR|ecr registry auth|api\.ecr|GetAuthorizationToken).*` + noRoute, "the task cannot be set up: it does not reach ECR",
			routeTo + "ecr.api, ecr.dkr, s3" + routeToEnd,
		},
		{
			of + `(Secrets Manager|secretsmanager|from asm).*` + noRoute, "the task cannot be set up: it does not reach Secrets Manager",
			routeTo + "secretsmanager" + routeToEnd,
		},
		{
			of + `(ssm|Systems Manager|Parameter Store).*` + noRoute, "the task cannot be set up: it does not reach Systems Manager",
			routeTo + "ssm" + routeToEnd,
		},
	}
}
