package inputs

// sourceDefinitions are about what a build reads besides the workspace.
func sourceDefinitions() []Definition {
	return []Definition{
		{
			Name: "build-contexts", Group: groupBuild,
			Description: "Named contexts, lines of `NAME=value`: a folder, `docker-image://REFERENCE`, `oci-layout://FOLDER:TAG` or `oci-layout://FOLDER@DIGEST`, or the URL of a git repository or file.",
		},
		{
			Name: "ssh", Group: groupBuild, Secret: true,
			Description: "Keys for `RUN --mount=type=ssh` and for git over ssh, lines of `ID=path` of a private key or of an agent's socket; or `\"ID=KEY\"` with the key itself, from a secret, in double quotes. A build can use a key, not read it. The ID is `default` where the Dockerfile says none.",
		},
		{
			Name: "github-token", Group: groupBuild, Secret: true, Default: githubToken,
			Description: "Token for git repositories on this GitHub, over https. A RUN does not see it.",
		},
	}
}
