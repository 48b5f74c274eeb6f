package deploy

// causesOfVolumes are faults of volumes.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/resource-initialization-error.html
func causesOfVolumes() [][3]string {
	const efs = `(\bEFS\b|mount\.nfs4?).*`
	return [][3]string{
		{
			efs + `Failed to resolve "?(?P<host>fs-[^"\s]+)"?`, "the EFS volume cannot be mounted: ${host} cannot be resolved",
			"Check the file system's ID and region, that it has a mount target in the availability zone of the task's subnet, and that the VPC has DNS resolution and DNS host names on.",
		},
		{
			efs + `(access denied|AccessDenied|Operation not permitted)`, "the EFS volume cannot be mounted: access is denied",
			"Turn on transit encryption and IAM authorisation for the volume, and allow elasticfilesystem:ClientMount (and ClientWrite) to the task role in its policy and in the file system's.",
		},
		{
			efs + `No such file or directory`, "the EFS volume cannot be mounted: its root directory does not exist in the file system",
			"Create the directory, or name an access point that creates it.",
		},
		{
			efs + `(timed out|timeout|reset by peer|refused|deadline|signal: killed|code: 32)`, "the EFS volume cannot be mounted: the task does not reach the file system",
			"Let the mount target's security group in on port 2049 from the task's, and check that there is a mount target in the subnet's availability zone.",
		},
		{
			`(failed to chown|failed to copy file info).*operation not permitted`, "the container cannot be made: the volume's access point does not let its owner be changed",
			"Let the folder that the volume is mounted on belong to the access point's user in the image, or leave the access point's POSIX user out.",
		},
		{
			efs, "the EFS volume cannot be mounted",
			"Check the file system's mount targets, security groups and policy, and efsVolumeConfiguration in the task definition.",
		},
		{
			`FSx`, "the FSx volume cannot be mounted",
			"Check fsxWindowsFileServerVolumeConfiguration, the domain's credentials and the security groups.",
		},
		{
			`\bEBS\b|Elastic Block Store`, "the EBS volume cannot be made or attached",
			"Check the infrastructure role (AmazonECSInfrastructureRolePolicyForVolumes), the volume's type, size, snapshot and key, and the account's EBS quotas.",
		},
		{
			`EphemeralStorage provisioning`, "the task's disk was not ready in time",
			"Nothing to change: ECS tries again. If it persists, look at the state of Fargate in the region.",
		},
		{
			`CannotCreateVolume|VolumeDriver\.|volume driver`, "a volume of the task cannot be made",
			"Check volumes in the task definition, and that its driver is installed on the container instances.",
		},
		{
			`bind source path does not exist|invalid mount config|mount a directory onto a file|not a directory: unknown|error mounting`, "the container cannot start: one of its mounts does not fit",
			"Check mountPoints and volumes in the task definition: the source must exist on the host, and a file can only be mounted on a file.",
		},
	}
}

// causesOfNetwork are faults of the task's network interface.
func causesOfNetwork() [][3]string {
	return [][3]string{
		{
			`InsufficientFreeAddressesInSubnet|insufficient free addresses|with public IP assignment enabled in subnet`, "the task gets no network interface: its subnet has no free IP addresses",
			"Add larger subnets to the service, or free addresses (old network interfaces, fewer tasks per subnet).",
		},
		{
			`TagPolicyViolation`, "the task gets no network interface: a tag policy of the organization forbids its tags",
			"Give the task the tags that the policy asks for (propagate-tags), or exempt network interfaces of ECS from the policy.",
		},
		{
			`NetworkInterfaceLimitExceeded|network interface limit|network interfaces? quota|maximum number of network interfaces`, "the task gets no network interface: the quota of network interfaces is used up",
			"Have the quota \"Network interfaces per Region\" raised, or run fewer tasks (on EC2: turn on awsvpcTrunking, or take larger instances).",
		},
		{
			`(InvalidSubnetID|InvalidGroup|InvalidSecurityGroupID|InvalidNetworkInterfaceID)\.NotFound`, "the task gets no network interface: a subnet or security group of the service is gone",
			"Put subnets and security groups that exist into the service's network configuration.",
		},
		{
			`Unexpected EC2 error.*(AuthFailure|UnauthorizedOperation)`, "the task gets no network interface: ECS is not allowed to make one",
			"Check that the service-linked role AWSServiceRoleForECS exists, that a shared subnet is still shared with the account, and that no organization policy denies ec2:CreateNetworkInterface.",
		},
		{
			`network interface provision|Unexpected EC2 error|netplugin failed|regular eni`, "the task's network interface was not ready in time",
			"ECS tries again by itself. If it persists, look at the free addresses of the subnets and the quota of network interfaces.",
		},
		{
			`invalid networking configuration`, "the service's network configuration is not valid",
			"Check that the subnets and security groups of the service exist.",
		},
	}
}

// causesOfStart are failures between a pulled image and a running process.
func causesOfStart() [][3]string {
	const of = `(CannotStart|CannotCreate|ContainerRuntime|DockerTimeout|OCI runtime|runc|ResourceInitialization|Error response from daemon).*`
	return [][3]string{
		{
			of + `(port is already allocated|address already in use|Bind for \S+ failed)|address already in use`, "the container cannot start: its host port is taken",
			"Set hostPort to 0 (bridge mode) or use awsvpc, so that several tasks fit on one instance; two containers of a task need different ports.",
		},
		{
			of + `(chdir to cwd|working directory)`, "the container cannot start: its working directory cannot be entered",
			"Check WORKDIR of the Dockerfile and workingDirectory in the task definition: it must exist, and the USER must be allowed in.",
		},
		{
			of + `(unable to find user|unable to find group|no users found|no matching entries in (passwd|group))`, "the container cannot start: its user is not in the image",
			"Create the user in the Dockerfile, or write a number in USER or in user of the task definition.",
		},
		{
			of + `(minimum memory limit|memory limit (is )?too low|memory limit should be|cannot set memory limit|container_linux.*memory|possibly OOM-killed)`, "the container cannot start: its memory limit is too low",
			"Raise memory of the container or of the task in the task definition.",
		},
		{
			of + `(nvidia|libcuda|could not select device driver)`, "the container cannot start: the host offers no GPU to it",
			"Place the task on GPU instances with the GPU-optimised AMI, and ask for the GPU in resourceRequirements.",
		},
		{
			of + `(setting rlimit|set rlimit|ulimit)`, "the container cannot start: a ulimit cannot be set",
			"Lower ulimits in the task definition; on Fargate only nofile may differ.",
		},
		{
			of + `(devmapper|thin pool|no space left on device)`, "the container cannot be made: the host's disk is full",
			"Free or enlarge the disk of the container instances; on Fargate raise ephemeralStorage.sizeInGiB in the task definition.",
		},
		{
			of + `(executable file not found|no such file or directory|stat .*no such file)`, "the container cannot start: its command is not in the image",
			"Check ENTRYPOINT and CMD of the Dockerfile, and entryPoint and command in the task definition.",
		},
		{of + `permission denied`, "the container cannot start: its command may not be executed", executableFix},
		{
			`Could not transition to (?P<state>\w+); timed out after waiting (?P<time>\w+)`, "the container was not ${state} within ${time}",
			"ECS tries again by itself. If it persists, give the task more CPU, make the image smaller, and look at the load and disk of the container instances.",
		},
		{
			`CannotStopContainer`, "the container could not be stopped",
			"Let the program end at SIGTERM within stopTimeout, and look at the container instance's agent.",
		},
		{
			`CannotInspectContainer`, "the container's state could not be read on its host",
			"ECS tries again by itself. If it persists, restart the agent and the container runtime of the container instance.",
		},
		{
			`CannotStartContainer|CannotCreateContainer|ContainerRuntime(Timeout)?Error`, "the container cannot start",
			"Check command, user, mounts and limits in the task definition.",
		},
		{
			`Service ?Connect`, "the Service Connect proxy of the task does not start",
			"Check serviceConnectConfiguration, leave the proxy about 256 CPU units and 64 MiB, and look at its log.",
		},
		{
			`ResourceInitialization.*` + noRoute, "the task cannot be set up: it does not reach ECR, Secrets Manager or Systems Manager",
			routeTo + "ecr.api, ecr.dkr, s3, secretsmanager, ssm, logs" + routeToEnd,
		},
		{
			`ResourceInitialization`, "the task cannot be set up",
			"Check the secrets, volumes and log configuration in the task definition, and the execution role.",
		},
	}
}
