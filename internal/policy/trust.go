package policy

import (
	"cmp"
	"strings"
)

// issuer is the name of GitHub's provider in IAM.
const issuer = "token.actions.githubusercontent.com"

// worker is the role that does the work, as the inputs name it; empty if no role
// is assumed.
func (b *builder) worker() string {
	roles := b.settings.Credentials.RolesToAssume
	if len(roles) == 0 {
		return ""
	}
	return roles[len(roles)-1]
}

func (b *builder) workerARN() string {
	if role := b.worker(); role != "" {
		return b.roleARN(role)
	}
	return b.callerARN()
}

func (b *builder) roleARN(role string) string {
	if strings.HasPrefix(role, "arn:") {
		return role
	}
	return b.arn("iam", "role/"+role)
}

// withCredentials says whether the first role is assumed with credentials that
// are there before, rather than with an ID token.
func (b *builder) withCredentials() bool {
	c := b.settings.Credentials
	return c.AWSAccessKeyID != "" || c.FromExisting || c.UseExisting || c.SkipOIDC && c.WebIdentityTokenFile == ""
}

// callerARN is who has those credentials: a user with keys, or a role.
func (b *builder) callerARN() string {
	if b.settings.Credentials.AWSAccessKeyID != "" {
		b.unknown("USER", "the IAM user whose keys are given")
		return b.arn("iam", "user/USER")
	}
	b.unknown("ROLE", "the role whose credentials the step finds")
	return b.arn("iam", "role/ROLE")
}

// roles gives what was collected to the role that does the work, and lets each
// of a chain assume the next.
func (b *builder) roles() {
	names := b.settings.Credentials.RolesToAssume
	if len(names) == 0 && !b.withCredentials() {
		b.unknown("ROLE", "the role that Towline works as (input role-to-assume)")
		names = []string{"ROLE"}
	}
	var before string
	if b.withCredentials() {
		before = b.callerARN()
		b.plan.Roles = append(b.plan.Roles, Role{Name: roleName(before)})
	}
	for _, name := range names {
		role := Role{Name: roleName(name)}
		if before == "" {
			role.Trust = []Statement{b.trustGitHub()}
		} else {
			role.Trust = []Statement{b.trustRole(before)}
			last := &b.plan.Roles[len(b.plan.Roles)-1]
			last.Permissions = []Statement{{Sid: "AssumeRole", Actions: b.assumeActions(), Resources: []string{b.roleARN(name)}}}
		}
		before = b.roleARN(name)
		b.plan.Roles = append(b.plan.Roles, role)
	}
	b.plan.Roles[len(b.plan.Roles)-1].Permissions = b.permissions
}

// assumeActions are those of assuming a role with credentials; tags of the
// session are an action of their own.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
func (b *builder) assumeActions() []string {
	if len(b.settings.Credentials.SessionTags) == 0 {
		return []string{"sts:AssumeRole"}
	}
	return []string{"sts:AssumeRole", "sts:TagSession"}
}

// trustRole lets the role before in a chain in.
func (b *builder) trustRole(before string) Statement {
	s := Statement{Sid: "Caller", Principal: [2]string{"AWS", before}, Actions: b.assumeActions()}
	if id := b.settings.Credentials.RoleExternalID; id != "" {
		s.Conditions = []Condition{{"StringEquals", "sts:ExternalId", []string{id}}}
	}
	return s
}

// roleName is the name without its path.
func roleName(role string) string { return lastPart(role) }

// trustGitHub lets the job's ID tokens in, and no others.
// https://docs.github.com/en/actions/reference/security/oidc
func (b *builder) trustGitHub() Statement {
	audience := "sts.amazonaws.com"
	if b.partition == "aws-cn" {
		audience = "sts.amazonaws.com.cn"
	}
	audience = cmp.Or(b.settings.Credentials.Audience, audience)
	subjects, patterns := b.subjects()
	test := "StringEquals"
	if patterns {
		test = "StringLike"
	}
	return Statement{
		Sid:       "GitHub",
		Principal: [2]string{"Federated", b.arn("iam", "oidc-provider/"+issuer)},
		Actions:   []string{"sts:AssumeRoleWithWebIdentity"},
		Conditions: []Condition{
			{"StringEquals", issuer + ":aud", []string{audience}},
			{test, issuer + ":sub", subjects},
		},
	}
}

// subjects are the sub claims of the job's tokens. Repositories that were made,
// renamed or moved since July 2026 have their numbers in them.
func (b *builder) subjects() (subjects []string, patterns bool) {
	source := b.facts.Source
	if source.Repository == "" {
		source.Repository = "OWNER/REPOSITORY"
		b.unknown("OWNER/REPOSITORY", "the workflow's repository on GitHub")
	}
	var ends []string
	for _, environment := range source.Environments {
		// GitHub escapes what would otherwise read as another part of the subject.
		ends = append(ends, "environment:"+strings.ReplaceAll(environment, ":", "%3A"))
	}
	if len(ends) == 0 {
		for _, branch := range source.Branches {
			ends = append(ends, "ref:refs/heads/"+branch)
		}
		for _, tag := range source.Tags {
			ends = append(ends, "ref:refs/tags/"+tag)
		}
		if source.PullRequests {
			ends = append(ends, "pull_request")
		}
	}
	if len(ends) == 0 {
		ends = []string{"ref:refs/heads/BRANCH"}
		b.unknown("BRANCH", "the branch that is deployed; environment:NAME instead of ref:... where the job has an environment")
	}
	names := []string{source.Repository}
	if owner, name, ok := strings.Cut(source.Repository, "/"); ok && source.OwnerID != "" && source.RepositoryID != "" {
		names = append(names, owner+"@"+source.OwnerID+"/"+name+"@"+source.RepositoryID)
	}
	for _, name := range names {
		for _, end := range ends {
			subjects = append(subjects, "repo:"+name+":"+end)
			patterns = patterns || strings.ContainsAny(end, "*?")
		}
	}
	return subjects, patterns
}
