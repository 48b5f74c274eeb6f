package inputs

// Definition is one input of the action: what action.yml declares, what Parse
// reads and what docs/inputs.md explains.
type Definition struct {
	Name string
	// Group is the heading in the documentation.
	Group string
	// Description is plain text, with Markdown's backquotes.
	Description string
	// Default is what an empty value means; empty where it depends on the rest.
	Default string
	// Secret values never appear in an error.
	Secret bool
}

// The groups of inputs.
const (
	groupCredentials = "Credentials"
	groupRegistry    = "Registry"
	groupBuild       = "Build"
	groupTask        = "Task definition"
	groupRunTask     = "One-off task"
	groupDeployment  = "Deployment"
)

// Definitions lists every input, in the order of action.yml.
func Definitions() []Definition {
	var all []Definition
	for _, group := range [][]Definition{
		credentialDefinitions(), registryDefinitions(), buildDefinitions(), sourceDefinitions(), resultDefinitions(), machineDefinitions(),
		taskDefinitions(), containerDefinitions(), runTaskDefinitions(), deploymentDefinitions(), servicesDefinitions(), strategyDefinitions(), codeDeployDefinitions(),
		dryRunDefinitions(),
	} {
		all = append(all, group...)
	}
	return all
}

func buildDefinitions() []Definition {
	return []Definition{
		{
			Name: "context", Group: groupBuild, Default: ".",
			Description: "The build context: a folder or a tar, relative to the workspace, or the URL of a git repository (`https://HOST/REPOSITORY.git#REF:FOLDER`) or of a tar.",
		},
		{
			Name: "file", Group: groupBuild,
			Description: "Path of the Dockerfile, relative to the workspace, or inside the context where that is no folder. Default: `Dockerfile` in the context.",
		},
		{
			Name: "target", Group: groupBuild,
			Description: "Stage to build. Default: the last.",
		},
		{
			Name: "build-args", Group: groupBuild,
			Description: "Build arguments, lines of `NAME=value`; a bare `NAME` takes its value from the environment. They show in the image's history: not for secrets.",
		},
		{
			Name: "labels", Group: groupBuild,
			Description: "Labels of the image, lines of `NAME=value`.",
		},
		{
			Name: "secrets", Group: groupBuild, Secret: true,
			Description: "Build secrets, lines of `ID=value`. Put a value with several lines in double quotes, from before the ID to its end; a quote inside is doubled.",
		},
		{
			Name: "secret-envs", Group: groupBuild,
			Description: "Build secrets from environment variables, lines or commas between `ID=VARIABLE`.",
		},
		{
			Name: "secret-files", Group: groupBuild,
			Description: "Build secrets from files, lines of `ID=path`, relative to the workspace.",
		},
	}
}

// Output is one output of the action.
type Output struct{ Name, Description string }

// The names of the outputs.
const (
	OutputImage                     = "image"
	OutputDigest                    = "digest"
	OutputImageID                   = "imageid"
	OutputTags                      = "tags"
	OutputMetadata                  = "metadata"
	OutputRegistry                  = "registry"
	OutputAWSAccountID              = "aws-account-id"
	OutputAuthenticatedARN          = "authenticated-arn"
	OutputAWSAccessKeyID            = "aws-access-key-id"
	OutputAWSSecretAccessKey        = "aws-secret-access-key" //nolint:gosec // an output's name
	OutputAWSSessionToken           = "aws-session-token"
	OutputAWSExpiration             = "aws-expiration"
	OutputTaskDefinition            = "task-definition"
	OutputTaskDefinitionARN         = "task-definition-arn"
	OutputPreviousTaskDefinitionARN = "previous-task-definition-arn"
	OutputRunTaskARN                = "run-task-arn"
	OutputDeploymentID              = "deployment-id"
	OutputDeploymentARN             = "deployment-arn"
	OutputDeploymentStatus          = "deployment-status"
	OutputDeploymentReason          = "deployment-reason"
	OutputCodeDeployDeploymentID    = "codedeploy-deployment-id"
	OutputConsoleURL                = "console-url"
	OutputDeployments               = "deployments"
)

// Outputs lists every output, in the order of action.yml.
func Outputs() []Output {
	return []Output{
		{OutputImage, "The image, as `REPOSITORY:TAG@DIGEST`."},
		{OutputDigest, "Digest of the image's manifest, or of the index of several platforms."},
		{OutputImageID, "Digest of the image's configuration, or of the index of several platforms."},
		{OutputTags, "Full references of the image, one a line."},
		{OutputMetadata, "What was built, as JSON with the names of docker build: `containerimage.digest`, `containerimage.config.digest`, `containerimage.descriptor`, `image.name`."},
		{OutputRegistry, "Host of the ECR registry that the image goes to, or else of the first of `registries`."},
		{OutputAWSAccountID, "ID of the AWS account."},
		{OutputAuthenticatedARN, "ARN of who the step is on AWS."},
		{OutputAWSAccessKeyID, "With `output-credentials`: the access key ID."},
		{OutputAWSSecretAccessKey, "With `output-credentials`: the secret access key."},
		{OutputAWSSessionToken, "With `output-credentials`: the session token, for temporary credentials."},
		{OutputAWSExpiration, "With `output-credentials`: when the credentials expire, in RFC 3339, for temporary ones."},
		{OutputTaskDefinition, "Path of the task definition as it was registered, a JSON file in the runner's temporary folder."},
		{OutputTaskDefinitionARN, "ARN of the task definition that was registered, or found to be the same already."},
		{OutputPreviousTaskDefinitionARN, "ARN of the task definition that the service ran before."},
		{OutputRunTaskARN, "ARN of the one-off task, as a JSON list."},
		{OutputDeploymentID, "ID of the deployment."},
		{OutputDeploymentARN, "ARN of the service deployment."},
		{OutputDeploymentStatus, "How the deployment ended: `succeeded`, `rolled-back`, `failed`, `superseded`, `timed-out`, `stopped`, `unchanged`, `paused` at a hook, or `started` if it was not watched to its end."},
		{OutputDeploymentReason, "Why it ended so, in ECS's words where there are any."},
		{OutputCodeDeployDeploymentID, "ID of the deployment in CodeDeploy, for a service with the controller CODE_DEPLOY."},
		{OutputConsoleURL, "Page of the deployment in the AWS console."},
		{OutputDeployments, "With several services: all of the above for each, as a JSON list in their order, see docs/several-services.md."},
	}
}
