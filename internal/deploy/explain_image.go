package deploy

// causesOfImage are failures to pull an image, and to run what was pulled.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_cannot_pull_image.html
func causesOfImage() [][3]string {
	const (
		architecture    = "the image is built for another CPU architecture than the task runs on"
		architectureFix = "Build for the task's architecture (input platforms: linux/amd64 or linux/arm64), or set runtimePlatform.cpuArchitecture in the task definition."
		interpreterFix  = "Check that the program, and the interpreter in a script's first line, are in the image, that the script has no Windows line ends, and that a binary is linked for the image's C library."
	)
	rows := [][3]string{
		{`exec user process caused.*no such file or directory`, "the container cannot start: its command, or the interpreter that the command needs, is not in the image", interpreterFix},
		{`exec user process caused.*permission denied`, "the container cannot start: its command may not be executed", executableFix},
		{`descriptor matching platform|no match(ing manifest)? for (platform )?\S*/|exec format error|exec user process caused`, architecture, architectureFix},
		{
			`CannotPull.*(toomanyrequests|rate limit|\b429\b)`,
			"the image cannot be pulled: the registry allows no more pulls for now",
			"Pull through ECR (a pull-through cache, or your own repository), or give the task the registry's credentials.",
		},
		{
			`CannotPull.*(no space left on device|devmapper|thin pool)`,
			"the image cannot be pulled: the task's disk is too small for it",
			"Raise ephemeralStorage.sizeInGiB in the task definition (or the disk of the container instances), or make the image smaller.",
		},
		{
			`CannotPull.*starport-layer-bucket.*(timeout|deadline|forbidden|\b403\b|connection refused|reset by peer)`,
			"the image cannot be pulled: the task reaches ECR, but not S3, where ECR keeps its layers",
			"Add an S3 gateway endpoint to the route tables of the task's subnets (or a NAT gateway), and let its policy and the security group allow the bucket prod-REGION-starport-layer-bucket.",
		},
		{
			`CannotPull.*(no such host|server misbehaving)`,
			"the image cannot be pulled: the registry's name cannot be resolved",
			"Check the registry's host in the image's name, and that the VPC has DNS resolution and DNS host names on (also for the private names of VPC endpoints).",
		},
		{
			`CannotPull.*x509`,
			"the image cannot be pulled: the registry's certificate is not trusted",
			"Give the registry a certificate of a public authority; Fargate trusts no others.",
		},
		{
			`CannotPull.*(connection issue|i/o timeout|dial tcp|context deadline|deadline exceeded|connection refused|reset by peer|TLS handshake|request canceled|context canceled|signal: killed|net/http)`,
			"the image cannot be pulled: the task does not reach the registry",
			"Give the task's subnets a way to ECR: a NAT gateway, a public IP address, or VPC endpoints for ecr.api, ecr.dkr and s3, and let the security group out on port 443.",
		},
	}
	return append(rows, causesOfAccess()...)
}

// causesOfAccess are refusals of a registry that was reached.
func causesOfAccess() [][3]string {
	return [][3]string{
		{
			`CannotPull.*(repository credentials|fetching secret|from asm|secretsmanager)`,
			"the image cannot be pulled: the secret with the registry's login cannot be read",
			"Check the ARN in repositoryCredentials, and allow secretsmanager:GetSecretValue on it (and kms:Decrypt for an own key) to the execution role.",
		},
		{
			`CannotPull.*kms`,
			"the image cannot be pulled: the key that it is encrypted with may not be used",
			"Check that the repository's KMS key is enabled and that its policy lets ECR and the account use it.",
		},
		{
			`CannotPull(ECR|.*(dkr[.-]ecr|\becr:|amazonaws)).*` + deniedPull,
			"the image cannot be pulled: access to it is denied",
			"Let the task's execution role read the repository (AmazonECSTaskExecutionRolePolicy; across accounts the repository's policy too), and check that the image exists.",
		},
		{
			`CannotPull.*` + deniedPull,
			"the image cannot be pulled: access to it is denied, or it does not exist",
			"Check the image's name, and give the task the registry's login (repositoryCredentials) if the repository is private; without a host in front, the name is one of Docker Hub.",
		},
		{
			`CannotPull.*(not found|manifest unknown|does not exist|name unknown|\b404\b)`,
			"the image cannot be pulled: it is not in the registry",
			"Check the image's name and digest in the task definition, the region, and that no lifecycle policy has removed it.",
		},
		{
			`CannotPull.*(invalid reference format|unable to parse)`,
			"the image cannot be pulled: its name is not valid",
			"Correct image in the task definition: HOST/NAME:TAG or HOST/NAME@sha256:DIGEST, in lower case.",
		},
		{
			`CannotPull.*(unsupported media ?type|media type .*not supported|unknown media ?type|unsupported manifest|invalid tar header|unknown compression)`,
			"the image cannot be pulled: the task's platform does not understand its format",
			"Use platform version 1.4.0 (Fargate) or a current ECS-optimised AMI, or build with compression: gzip.",
		},
		{
			`CannotPull.*(failed to extract layer|failed to register layer|unexpected EOF|failed size validation|unexpected commit digest)`,
			"the image cannot be pulled: its layers arrived damaged or could not be unpacked",
			"Look whether it happens again; if so, push the image again under a new tag.",
		},
		{
			`CannotPull`,
			"the image cannot be pulled",
			"Check the image's name, the task's execution role and its way to the registry.",
		},
	}
}

const deniedPull = `(access denied|AccessDenied|not authorized|unauthorized|forbidden|\b403\b|no basic auth|authorization token|authorization failed|requested access to the resource is denied)`

const executableFix = "Make the command executable in the image (COPY --chmod=755), and check the USER of the Dockerfile."
