package inputs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

const inputRole = "role-to-assume"

func (p *parser) credentials(c *Credentials) {
	c.AWSRegion = p.single("aws-region", "Name one region.")
	p.roles(c)
	p.keys(c)
	p.sessionTags(c)
	p.sessionPolicies(c)
	c.UseExisting = p.boolean("use-existing-credentials", false)
	c.FromExisting = p.boolean("role-chaining", false)
	c.SkipOIDC = p.boolean("force-skip-oidc", false)
	c.IgnoreKeys = p.boolean("unset-current-credentials", false)
	for _, entry := range p.list("allowed-account-ids", true) {
		if !matches(`^[0-9]{12}$`, entry.text) {
			p.failf("allowed-account-ids", entry.text, "Write twelve digits, in quotes if they begin with 0.", "not the ID of an AWS account")
		}
		c.AllowedAccountIDs = append(c.AllowedAccountIDs, entry.text)
	}
	c.Attempts = p.number("retry-max-attempts", 1, 100)
	if p.boolean("disable-retry", false) {
		c.Attempts = 1
	}
	c.MaskAccountID = p.boolean("mask-aws-account-id", false)
	c.Output = p.boolean("output-credentials", false)
	c.OutputEnv = p.boolean("output-env-credentials", false)
	c.ActionTimeout = time.Duration(p.number("action-timeout-s", 0, 360000)) * time.Second
	p.network(c)
	p.credentialChecks(c)
}

func (p *parser) roles(c *Credentials) {
	for _, entry := range p.list(inputRole, false) {
		if !isRole(entry.text) {
			p.failf(inputRole, entry.text, "Write the role's ARN, arn:aws:iam::123456789012:role/NAME, or its name.", "neither the ARN nor the name of a role")
		}
		c.RolesToAssume = append(c.RolesToAssume, entry.text)
	}
	c.RoleSessionName = cmp.Or(p.single("role-session-name", "Write one name."), p.defaultSession())
	c.RoleSessionName = cleanSession(c.RoleSessionName)
	c.RoleDuration = time.Duration(p.number("role-duration-seconds", 900, 43200)) * time.Second
	c.RoleExternalID = p.single("role-external-id", "Write one ID.")
	if v := c.RoleExternalID; v != "" && (len(v) < 2 || len(v) > 1224 || !matches(`^[\w+=,.@:/-]+$`, v)) {
		p.failf("role-external-id", v, "Write it as the role's trust policy has it.", "not 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -")
	}
	c.Audience = p.single("audience", "Write one audience.")
	c.WebIdentityTokenFile = p.single("web-identity-token-file", "Name one file.")
}

func (p *parser) keys(c *Credentials) {
	c.AWSAccessKeyID = p.single("aws-access-key-id", "Write one key.")
	c.AWSSecretAccessKey = p.single("aws-secret-access-key", "Write one key.")
	c.AWSSessionToken = p.single("aws-session-token", "Write one token.")
	const both = "Set \"aws-access-key-id\" and \"aws-secret-access-key\", or neither. A secret that this run may not see is empty."
	switch id, secret := p.given("aws-access-key-id"), p.given("aws-secret-access-key"); {
	case id && !secret:
		p.failf("aws-secret-access-key", "", both, "empty, but \"aws-access-key-id\" is set")
	case secret && !id:
		p.failf("aws-access-key-id", "", both, "empty, but \"aws-secret-access-key\" is set")
	case p.given("aws-session-token") && !id:
		p.failf("aws-access-key-id", "", both, "empty, but \"aws-session-token\" is set")
	}
}

// network reads how servers are reached.
func (p *parser) network(c *Credentials) {
	c.HTTPProxy = p.single("http-proxy", "Name one proxy.")
	if v := c.HTTPProxy; v != "" {
		if !strings.Contains(v, "://") {
			c.HTTPProxy = "http://" + v
		}
		u, err := url.Parse(c.HTTPProxy)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			p.failf("http-proxy", "", "Write http://[USER:PASSWORD@]HOST:PORT.", "not the address of a proxy")
		}
	}
	for _, entry := range p.list("no-proxy", true) {
		c.NoProxy = append(c.NoProxy, entry.text)
	}
	c.STSEndpoint = p.single("sts-endpoint", "Write one address.")
	if v := c.STSEndpoint; v != "" {
		if u, err := url.Parse(v); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			p.failf("sts-endpoint", v, "Write https://HOST.", "not an address")
		}
	}
}

// credentialChecks finds inputs that contradict each other.
func (p *parser) credentialChecks(c *Credentials) {
	const file = "web-identity-token-file"
	if p.given(file) {
		if names := p.givenTrue("role-chaining"); names != "" || p.given("aws-access-key-id") {
			p.failf(file, c.WebIdentityTokenFile, "Remove one of them.", "a role is assumed either with a token or with credentials, and there is also %s",
				cmp.Or(names, `"aws-access-key-id"`))
		}
	}
	if len(c.RolesToAssume) == 0 && !p.given(inputRole) {
		for _, name := range []string{file, "role-chaining", "role-external-id", "inline-session-policy", "managed-session-policies", "custom-tags", "transitive-tag-keys"} {
			if p.given(name) && p.values[name] != "false" && p.values[name] != "False" && p.values[name] != "FALSE" {
				p.failf(name, p.values[name], "Set \"role-to-assume\", or remove \""+name+"\".", "there is no role to assume")
			}
		}
	}
	if c.UseExisting && c.IgnoreKeys && c.AWSAccessKeyID == "" && len(c.RolesToAssume) == 0 {
		p.failf("unset-current-credentials", "true", "Remove one of them.", "the credentials in the environment are to be used (\"use-existing-credentials\"), and to be overlooked")
	}
}

// givenTrue lists in quotes those of names that are true.
func (p *parser) givenTrue(names ...string) string {
	var found []string
	for _, name := range names {
		if v := strings.ToLower(p.values[name]); v == "true" {
			found = append(found, fmt.Sprintf("%q", name))
		}
	}
	return strings.Join(found, ", ")
}

// tokenOnly says that the only role is assumed by token, as far as is known here.
func (p *parser) tokenOnly(c Credentials) bool {
	byToken := c.WebIdentityTokenFile != "" || p.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN") != "" && !c.SkipOIDC && !c.FromExisting
	return len(c.RolesToAssume) == 1 && c.AWSAccessKeyID == "" && byToken
}

// withoutEffect warns of what AWS takes only with credentials.
func (p *parser) withoutEffect(s *Settings) {
	if !p.tokenOnly(s.Credentials) {
		return
	}
	for _, name := range []string{"role-external-id", "custom-tags", "transitive-tag-keys"} {
		if p.given(name) {
			s.Warnings = append(s.Warnings, fmt.Sprintf("Input %q has no effect where the only role is assumed with an OIDC token: AWS takes it only from other credentials, such as those of a role on the line before.", name))
		}
	}
}

// sessionPolicies reads what narrows a session.
func (p *parser) sessionPolicies(c *Credentials) {
	c.InlineSessionPolicy = p.text("inline-session-policy")
	if v := c.InlineSessionPolicy; v != "" {
		var object map[string]any
		if err := json.Unmarshal([]byte(v), &object); err != nil {
			p.failf("inline-session-policy", "", "Write a policy document, {\"Version\": \"2012-10-17\", \"Statement\": [...]}.", "not a JSON object: %w", err)
		} else if compact, err := json.Marshal(object); err == nil && len(compact) > 2048 {
			p.failf("inline-session-policy", "", "Shorten it, or name policies in \"managed-session-policies\".", "%d characters, more than the 2048 that AWS takes", len(compact))
		}
	}
	for _, entry := range p.list("managed-session-policies", false) {
		if !matches(`^arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\w+=,.@/-]+$`, entry.text) {
			p.failf("managed-session-policies", entry.text, "Write ARNs such as arn:aws:iam::aws:policy/ReadOnlyAccess, one a line.", "not the ARN of a policy")
		}
		c.ManagedSessionPolicies = append(c.ManagedSessionPolicies, entry.text)
	}
	if n := len(c.ManagedSessionPolicies); n > 10 {
		p.failf("managed-session-policies", "", "Name ten at most.", "%d policies, more than the 10 that AWS takes", n)
	}
}

func isRole(v string) bool {
	return matches(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`, v) || matches(`^([\w+=,.@-]+/)*[\w+=,.@-]{1,64}$`, v)
}

// defaultSession names the run, which CloudTrail then shows.
func (p *parser) defaultSession() string {
	parts := []string{"towline", p.env("GITHUB_RUN_ID"), p.env("GITHUB_RUN_ATTEMPT")}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "-")
}

// cleanSession keeps the characters that STS takes, 2 to 64 of them.
func cleanSession(session string) string {
	session = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("_+=,.@-", c):
			return c
		}
		return '-'
	}, session)
	if len(session) < 2 {
		session += "-session"
	}
	return session[:min(len(session), 64)]
}

// partition is the part of AWS that a region belongs to.
func partition(region string) string {
	for _, known := range []struct{ prefix, partition string }{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-isob-", "aws-iso-b"},
		{"us-isof-", "aws-iso-f"},
		{"eu-isoe-", "aws-iso-e"},
		{"us-iso-", "aws-iso"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, known.prefix) {
			return known.partition
		}
	}
	return "aws"
}

// partitions refuses roles of another part of AWS than the region's: there are
// no ways between them.
func (p *parser) partitions(roles []string, region, from string) {
	for _, role := range roles {
		_, rest, isARN := strings.Cut(role, "arn:")
		if have, _, _ := strings.Cut(rest, ":"); isARN && region != "" && have != partition(region) {
			p.failf(inputRole, role, "Set \"aws-region\" to a region of the partition "+have+", or name a role of "+partition(region)+".",
				"the region %s%s is in the partition %s", region, from, partition(region))
		}
	}
}

// region finds the region, and holds it against the ARNs of ECS.
func (p *parser) region(s *Settings) {
	region, from := s.Credentials.AWSRegion, ""
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region == "" {
			region, from = p.env(variable), " (from "+variable+")"
		}
	}
	if region == "" {
		region = s.region()
	}
	s.Credentials.AWSRegion = region
	const fix = "Write a region such as eu-central-1."
	switch {
	case region == "" && s.NeedsAWS():
		p.failf("aws-region", "", fix, "empty, AWS_REGION is not set, and no other input shows the region")
	case region != "" && !isRegion(region):
		p.failf("aws-region", region, fix, "not a region%s", from)
	default:
		p.partitions(s.Credentials.RolesToAssume, region, from)
		arns := map[string]string{"cluster": s.Deployment.Cluster, "service": s.Deployment.Service, "task-definition-arn": p.values["task-definition-arn"]}
		if len(s.Deployment.Targets) > 0 {
			delete(arns, "service") // each in a region of its own
		}
		for _, input := range slices.Sorted(maps.Keys(arns)) {
			if other := arnRegion(arns[input]); other != "" && other != region {
				p.failf(input, arns[input], "Set \"aws-region\" to "+other+".", "not in the region %s%s", region, from)
			}
		}
	}
}
