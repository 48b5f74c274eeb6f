package policy

import (
	"cmp"
	"strings"
)

// issuer is the name of GitHub's provider in IAM.
const issuer = "token.actions.githubusercontent.com"

// roles gives what was collected to the role that does the work.
func (b *builder) roles() {
	c := b.settings.Credentials
	role := Role{Permissions: b.permissions}
	switch {
	case c.RoleToAssume == "" && c.AWSAccessKeyID != "":
		b.unknown("USER", "the IAM user whose keys are given")
		role.Name = "USER"
	case c.AWSAccessKeyID != "":
		b.unknown("USER", "the IAM user whose keys are given")
		role.Name = roleName(c.RoleToAssume)
		role.Trust = []Statement{{Sid: "User", Principal: [2]string{"AWS", b.arn("iam", "user/USER")}, Actions: []string{"sts:AssumeRole"}}}
		b.plan.Roles = append(b.plan.Roles, Role{Name: "USER", Permissions: []Statement{{
			Sid: "AssumeRole", Actions: []string{"sts:AssumeRole"}, Resources: []string{b.roleARN()},
		}}})
	default:
		role.Name = cmp.Or(roleName(c.RoleToAssume), "ROLE")
		role.Trust = []Statement{b.trustGitHub()}
		if role.Name == "ROLE" {
			b.unknown("ROLE", "the role that Towline works as (input role-to-assume)")
		}
	}
	b.plan.Roles = append(b.plan.Roles, role)
}

// roleName is the name without its path.
func roleName(role string) string {
	if _, path, found := strings.Cut(role, ":role/"); found {
		role = path
	}
	return lastPart(role)
}

// trustGitHub lets the job's ID tokens in, and no others.
// https://docs.github.com/en/actions/reference/security/oidc
func (b *builder) trustGitHub() Statement {
	audience := cmp.Or(b.settings.Credentials.Audience, "sts.amazonaws.com")
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
