package inputs

func registryDefinitions() []Definition {
	return []Definition{
		{
			Name: "repository", Group: groupRegistry,
			Description: "Repository for the image: the name of an ECR repository in the account and region, or a full repository URI. Bare `tags` are put on it.",
		},
		{
			Name: "create-repository", Group: groupRegistry, Default: "false",
			Description: "Whether to create an ECR repository that is missing: `true` or `false`. Images are scanned on push, and tags are immutable, except those such as `latest`.",
		},
		{
			Name: "registry-type", Group: groupRegistry, Default: "private",
			Description: "With `public`, images are also pulled from ECR Public with a login, which raises its limits. Pushing to `public.ecr.aws` logs in without it.",
		},
		{
			Name: "registries", Group: groupRegistry,
			Description: "ECR registries to log in to besides those that `repository`, `tags` and base images show: account IDs, or hosts of registries, lines or commas between them.",
		},
		{
			Name: "registry-credentials", Group: groupRegistry, Secret: true,
			Description: "Logins for registries other than the account's ECR, lines of `HOST=USER:PASSWORD`. Logins made by other steps cannot be seen by a container action. For `ghcr.io` there is `github-token`.",
		},
		{
			Name: "registry-mirrors", Group: groupRegistry,
			Description: "Where to pull base images from instead, lines of `docker.io=HOST[/PREFIX]`: an ECR pull-through cache, or a mirror of your own.",
		},
		{
			Name: "output-docker-credentials", Group: groupRegistry, Default: "false",
			Description: "Whether to give ECR's logins to later steps, as the outputs `docker_username_HOST` and `docker_password_HOST`: `true` or `false`.",
		},
	}
}
