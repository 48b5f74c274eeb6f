package inputs

// credentialDefinitions are about who the step is on AWS.
func credentialDefinitions() []Definition {
	defs := append(roleDefinitions(), keyDefinitions()...)
	for i := range defs {
		defs[i].Group = groupCredentials
	}
	return defs
}

// roleDefinitions are about roles and their sessions.
func roleDefinitions() []Definition {
	return []Definition{
		{
			Name:        "aws-region",
			Description: "AWS region, such as `eu-central-1`. Default: AWS_REGION, AWS_DEFAULT_REGION, or the region of the repository, cluster, service or image where it shows.",
		},
		{
			Name:        "role-to-assume",
			Description: "IAM role to assume, by ARN or name. Without static keys it is assumed with the job's OIDC token, which needs `permissions: id-token: write`. Several lines are a chain: each role is assumed from the one before.",
		},
		{
			Name:        "role-session-name",
			Description: "Name of the session, 2 to 64 of `A-Z a-z 0-9 _ + = , . @ -`; other characters become `-`. Default: `towline-RUN_ID-ATTEMPT`.",
		},
		{
			Name: "role-duration-seconds", Default: "3600",
			Description: "How long a session lasts, 900 to 43200 seconds and no longer than the role allows; in a chain 3600 at most. Sessions renew themselves.",
		},
		{
			Name:        "role-external-id",
			Description: "External ID that a role's trust policy asks for. It is presented where a role is assumed with credentials, not with an OIDC token.",
		},
		{
			Name: "role-chaining", Default: "false",
			Description: "Whether the (first) role is assumed with the credentials that the step finds in its environment, container or instance: `true` or `false`.",
		},
		{
			Name: "role-skip-session-tagging", Default: "false",
			Description: "Whether to leave out the session tags that tell of the workflow where a role is assumed with credentials: `true` or `false`. With tags, its trust policy must allow `sts:TagSession`.",
		},
		{
			Name:        "transitive-tag-keys",
			Description: "Session tags that are passed on to roles assumed from this one, one a line.",
		},
		{
			Name:        "custom-tags",
			Description: "Further session tags, a JSON object of names and values.",
		},
		{
			Name:        "inline-session-policy",
			Description: "Policy in JSON that narrows what the session may do.",
		},
		{
			Name:        "managed-session-policies",
			Description: "ARNs of managed policies that narrow what the session may do, one a line, ten at most.",
		},
		{
			Name:        "audience",
			Description: "Audience of the OIDC token. Default: `sts.amazonaws.com`, in China `sts.amazonaws.com.cn`.",
		},
		{
			Name:        "web-identity-token-file",
			Description: "File with an OIDC token to assume the role with, in place of GitHub's; relative to the workspace. It is read anew at each renewal.",
		},
		{
			Name: "force-skip-oidc", Default: "false",
			Description: "Whether to do without an OIDC token where one could be had: `true` or `false`.",
		},
	}
}

// keyDefinitions are about credentials that are there already, and how AWS is
// reached with all of them.
func keyDefinitions() []Definition {
	return []Definition{
		{
			Name: "aws-access-key-id", Secret: true,
			Description: "Access key ID, in place of OIDC.",
		},
		{
			Name: "aws-secret-access-key", Secret: true,
			Description: "Secret access key that belongs to `aws-access-key-id`.",
		},
		{
			Name: "aws-session-token", Secret: true,
			Description: "Session token that belongs to `aws-access-key-id`, for temporary keys.",
		},
		{
			Name: "use-existing-credentials", Default: "false",
			Description: "Whether to use the credentials that the step finds in its environment, container or instance, and to assume no role if they work: `true` or `false`.",
		},
		{
			Name: "unset-current-credentials", Default: "false",
			Description: "Whether to overlook an access key in the step's environment: `true` or `false`.",
		},
		{
			Name:        "allowed-account-ids",
			Description: "AWS accounts that may be acted in, lines or commas between. Any other is refused before it is touched.",
		},
		{
			Name: "disable-retry", Default: "false",
			Description: "Whether to ask for a session only once: `true` or `false`.",
		},
		{
			Name: "retry-max-attempts", Default: "12",
			Description: "How often to ask for a session at most, 1 to 100, while the network or AWS is out of order. A refusal is final after three.",
		},
		{
			Name: "http-proxy", Secret: true,
			Description: "Proxy for all requests, `http://[USER:PASSWORD@]HOST:PORT`. Default: HTTPS_PROXY and HTTP_PROXY.",
		},
		{
			Name:        "no-proxy",
			Description: "Hosts that are reached without the proxy, lines or commas between: names, with their subdomains, IP addresses and ranges. Default: NO_PROXY.",
		},
		{
			Name:        "sts-endpoint",
			Description: "Address of STS. Default: AWS_ENDPOINT_URL_STS, or the region's.",
		},
		{
			Name: "mask-aws-account-id", Default: "false",
			Description: "Whether to keep the account's ID out of the log: `true` or `false`. GitHub then drops job outputs that hold it, such as an image of ECR.",
		},
		{
			Name: "output-credentials", Default: "false",
			Description: "Whether to hand the credentials to later steps as outputs: `true` or `false`.",
		},
		{
			Name: "output-env-credentials", Default: "false",
			Description: "Whether to hand the credentials and the region to later steps as environment variables: `true` or `false`.",
		},
		{
			Name: "action-timeout-s", Default: "0",
			Description: "How many seconds the step may take, up to 360000. 0: as many as it needs.",
		},
	}
}
