package deploy

import (
	"fmt"
	"regexp"
	"strings"
)

// explanation says why a task failed, in words for the person who deployed.
type explanation struct {
	// summary is one clause without a full stop; fix one sentence or empty.
	summary, fix string
	// words are those of ECS that were recognised; empty where summary is made
	// of them or of an exit code.
	words string
	// rank orders explanations: the higher, the more it tells.
	rank int
}

const (
	rankUnknown = iota
	rankExit
	rankKnown
)

// cause is a row of the table: the words of ECS, and what they mean.
type cause struct {
	pattern      *regexp.Regexp
	summary, fix string
}

// causes is the table of known failures, first match wins. The texts on the
// left are those of ECS, its agents and container runtimes as they stand in
// stopped reasons, container reasons, service events and logs.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
func causes() []cause {
	rows := slicesOf(
		causesOfImage(),
		causesOfStart(),
		causesOfPlace(),
		causesOfRun(),
	)
	table := make([]cause, 0, len(rows))
	for _, r := range rows {
		table = append(table, cause{pattern: regexp.MustCompile("(?is)" + r[0]), summary: r[1], fix: r[2]})
	}
	return table
}

func slicesOf(groups ...[][3]string) [][3]string {
	var all [][3]string
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

func causesOfImage() [][3]string {
	return [][3]string{
		{
			`descriptor matching platform|no match for platform|exec format error|exec user process caused`,
			"the image is built for another CPU architecture than the task runs on",
			"Build for the task's architecture (input platforms: linux/amd64 or linux/arm64), or set runtimePlatform.cpuArchitecture in the task definition.",
		},
		{
			`CannotPull.*(toomanyrequests|rate limit)`,
			"the image cannot be pulled: the registry allows no more pulls for now",
			"Pull through ECR (a pull-through cache, or your own repository), or give the task the registry's credentials.",
		},
		{
			`CannotPull.*no space left on device`,
			"the image cannot be pulled: the task's disk is too small for it",
			"Raise ephemeralStorage.sizeInGiB in the task definition (or the disk of the container instances), or make the image smaller.",
		},
		{
			`CannotPull.*(connection issue|i/o timeout|dial tcp|context deadline|deadline exceeded|no such host|connection refused|TLS handshake|request canceled|net/http)`,
			"the image cannot be pulled: the task does not reach the registry",
			"Give the task's subnets a way to ECR: a NAT gateway, a public IP address, or VPC endpoints for ecr.api, ecr.dkr and s3, and let the security group out on port 443.",
		},
		{
			`CannotPull.*(access denied|AccessDenied|not authorized|unauthorized|forbidden|\b403\b|no basic auth|authorization token)`,
			"the image cannot be pulled: access to it is denied",
			"Let the task's execution role read the repository (AmazonECSTaskExecutionRolePolicy; across accounts the repository's policy too), and check that the image exists.",
		},
		{
			`CannotPull.*(not found|manifest unknown|does not exist|name unknown)`,
			"the image cannot be pulled: it is not in the registry",
			"Check the image's name and digest in the task definition, the region, and that no lifecycle policy has removed it.",
		},
		{
			`CannotPull`,
			"the image cannot be pulled",
			"Check the image's name, the task's execution role and its way to the registry.",
		},
	}
}

func causesOfStart() [][3]string {
	return [][3]string{
		{
			`log group|log stream|validate logger args|logs:Create`,
			"the container's log cannot be opened: its log group is missing or not allowed",
			"Create the log group named in logConfiguration, or set awslogs-create-group to true, and allow logs:CreateLogStream and logs:PutLogEvents (and logs:CreateLogGroup) to the execution role.",
		},
		{
			`unable to assume (the )?role|unable to assume the`,
			"ECS cannot assume a role of the task",
			"Let the trust policy of the task role and the execution role accept ecs-tasks.amazonaws.com as sts:AssumeRole's principal.",
		},
		{
			`ResourceInitialization.*(connection issue|i/o timeout|dial tcp|context deadline|deadline exceeded|no such host|RequestCanceled|request canceled|send request failed)`,
			"the task cannot be set up: it does not reach ECR, Secrets Manager or Systems Manager",
			"Give the task's subnets a way to AWS: a NAT gateway, a public IP address, or VPC endpoints (ecr.api, ecr.dkr, s3, secretsmanager, ssm, logs), and let the security group out on port 443.",
		},
		{
			`ResourceInitialization.*(AccessDenied|not authorized|access denied)`,
			"the task's secrets or registry credentials cannot be fetched: the execution role is not allowed to",
			"Allow secretsmanager:GetSecretValue or ssm:GetParameters (and kms:Decrypt for an own key) on the secret to the execution role; for ECR, AmazonECSTaskExecutionRolePolicy.",
		},
		{
			`ResourceInitialization.*(ResourceNotFound|can't find the specified secret|invalid parameters|ParameterNotFound|did not contain json key|json key)`,
			"a secret or parameter that the task definition names does not exist",
			"Check the valueFrom of the container's secrets: ARN, region, JSON key, version.",
		},
		{
			`ResourceInitialization`,
			"the task cannot be set up",
			"Check the secrets, volumes and log configuration in the task definition, and the execution role.",
		},
		{
			`(CannotStart|CannotCreate|ContainerRuntime|OCI runtime|runc).*(executable file not found|no such file or directory|stat .*no such file)`,
			"the container cannot start: its command is not in the image",
			"Check ENTRYPOINT and CMD of the Dockerfile, and entryPoint and command in the task definition.",
		},
		{
			`(CannotStart|CannotCreate|ContainerRuntime|OCI runtime|runc).*permission denied`,
			"the container cannot start: its command may not be executed",
			"Make the command executable in the image (COPY --chmod=755), and check the USER of the Dockerfile.",
		},
		{
			`CannotStartContainer|CannotCreateContainer|ContainerRuntime(Timeout)?Error`,
			"the container cannot start",
			"Check command, user, mounts and limits in the task definition.",
		},
	}
}

func causesOfPlace() [][3]string {
	return [][3]string{
		{
			`limit on the number of (vCPUs|tasks)|configuration is above your limit`,
			"no task can be placed: a Fargate quota of the account is used up",
			"Have the quota raised in Service Quotas, or stop what else runs.",
		},
		{
			`Capacity is unavailable|provisioning capacity limit`,
			"no task can be placed: AWS has no capacity there at the moment",
			"Try again later, add subnets in other availability zones, or another capacity provider.",
		},
		{
			`RESOURCE:(CPU|MEMORY|GPU|PORTS|ENI)|insufficient (CPU|memory)|already using a port`,
			"no task can be placed: no container instance has enough free resources",
			"Add container instances, ask for less in the task definition, or lower minimumHealthyPercent so that old tasks make room.",
		},
		{
			`No Container Instances were found`,
			"no task can be placed: the cluster has no container instances",
			"Add container instances or a capacity provider to the cluster, or run the service on Fargate.",
		},
		{
			`met all of its requirements|TaskFailedToStart: (AGENT|ATTRIBUTE)|missing an attribute|placement constraint`,
			"no task can be placed: no container instance meets the task's requirements",
			"Compare the placement constraints, attributes and architecture of the task definition with the container instances.",
		},
		{
			`unable to stop or start tasks during a deployment because of the service deployment configuration`,
			"no task can be started or stopped within minimumHealthyPercent and maximumPercent",
			"Raise maximumPercent or lower minimumHealthyPercent of the service.",
		},
		{
			`invalid networking configuration`,
			"the service's network configuration is not valid",
			"Check that the subnets and security groups of the service exist.",
		},
	}
}

func causesOfRun() [][3]string {
	return [][3]string{
		{
			`OutOfMemory`,
			"a container ran out of memory",
			"Raise memory in the task definition, or make the program use less (a JVM: -XX:MaxRAMPercentage).",
		},
		{
			`failed ELB health checks|is unhealthy in \(target-group`,
			"the load balancer's health checks fail",
			"Check that the container listens on the target group's port on 0.0.0.0 and answers its health check path, that the security group lets the load balancer in, and that healthCheckGracePeriodSeconds covers the start.",
		},
		{
			`failed container health checks`,
			"the container's own health check fails",
			"Run the health check's command in the image, check that its programs are there, and that startPeriod covers the start.",
		},
		{
			`SpotInterruption|Spot interruption|TerminationNotice|InfrastructureHealth|Host EC2 .*terminated`,
			"the task's host was taken away",
			"",
		},
	}
}

// explainTask explains one failed task from ECS's words about it, and from
// what its container wrote.
func explainTask(table []cause, f TaskFailed, lines []string) explanation {
	texts := []string{f.StoppedReason}
	for _, c := range f.Containers {
		texts = append(texts, c.Reason)
	}
	// The task's own reason comes first: a container that the scheduler killed
	// for its health checks has exit code 137 like one that ran out of memory.
	texts = append(texts, f.StopCode)
	if n := len(lines); n > 0 {
		texts = append(texts, execTrouble(lines))
	}
	for _, text := range texts {
		if e, known := explainText(table, text); known {
			return e
		}
	}
	if culprit := blame(f.Containers); culprit != nil {
		return explainExit(*culprit)
	}
	return explanation{summary: strings.TrimRight(firstOf(f.StoppedReason, f.StopCode, "no reason given"), ". ")}
}

// execTrouble keeps of a log only what the runtime says of a wrong
// architecture: a program's own words about pulls and memory mean other things.
func execTrouble(lines []string) string {
	for _, l := range lines {
		if mentions(l, "exec format error", "exec user process caused") {
			return l
		}
	}
	return ""
}

// explainText looks a text up in the table.
func explainText(table []cause, text string) (explanation, bool) {
	if text == "" {
		return explanation{}, false
	}
	for _, row := range table {
		if row.pattern.MatchString(text) {
			return explanation{summary: row.summary, fix: row.fix, words: text, rank: rankKnown}, true
		}
	}
	return explanation{}, false
}

// explainExit explains an exit code.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
func explainExit(c ContainerEnd) explanation {
	code := *c.ExitCode
	e := explanation{
		summary: fmt.Sprintf("container %s ended with exit code %d", c.Name, code),
		fix:     "Run the image locally with the task's environment and look at its output.",
		rank:    rankExit,
	}
	switch code {
	case 0:
		e.fix = "A service's container must keep running: start the program in the foreground."
	case 126:
		e.summary += " (its command cannot be executed)"
		e.fix = "Make the command executable in the image, and check that it is built for the task's architecture."
	case 127:
		e.summary += " (its command was not found)"
		e.fix = "Check ENTRYPOINT and CMD of the Dockerfile, and entryPoint and command in the task definition."
	case 137:
		e.summary += " (SIGKILL: often too little memory, or a stop that took too long)"
		e.fix = "Raise memory in the task definition, or make the program end within stopTimeout after SIGTERM."
	case 139:
		e.summary += " (SIGSEGV: the program crashed)"
		e.fix = "Check that native libraries fit the image's base and architecture."
	case 143:
		e.summary += " (SIGTERM)"
	}
	return e
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
