package emulator

import (
	"fmt"
	"slices"
	"strings"
)

// SetRepositoryPolicy gives the repository uri (HOST/NAME) a policy, a JSON
// document that says who may use it: roles of other accounts too, if their own
// policies allow the same.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html
func (c *Cloud) SetRepositoryPolicy(uri, document string) error {
	parsed, err := parseRepositoryPolicy(document)
	if err != nil {
		return fmt.Errorf("policy of %s: %w", uri, err)
	}
	host, name, _ := strings.Cut(uri, "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	at, repo := c.repositoryAt(c.registryHome(host), name)
	if repo == nil {
		return unknownRepository(at, name)
	}
	repo.policy = parsed
	return nil
}

// parseRepositoryPolicy refuses what ECR refuses of a repository's policy, which
// is about that repository alone.
func parseRepositoryPolicy(document string) (*policyDocument, error) {
	invalid := refuse("InvalidParameterException", "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'")
	parsed, err := parsePolicy(document)
	if err != nil {
		return nil, invalid
	}
	for _, s := range parsed.Statement {
		if len(s.principals()) == 0 || len(s.Resource)+len(s.NotResource) > 0 {
			return nil, invalid
		}
	}
	return parsed, nil
}

// principals are those of AWS that a statement names, and "*".
func (s *policyStatement) principals() []string {
	switch named := s.Principal.(type) {
	case string:
		return []string{named}
	case map[string]any:
		var all []string
		for kind, who := range named {
			if kind != "AWS" {
				all = append(all, kind) // a service: somebody, but no caller of ours
				continue
			}
			switch who := who.(type) {
			case string:
				all = append(all, who)
			case []any:
				for _, each := range who {
					all = append(all, fmt.Sprint(each))
				}
			}
		}
		return all
	}
	return nil
}

// names says whether a statement of a repository's policy is about one of those
// names.
func (s *policyStatement) names(callers []string) bool {
	return slices.ContainsFunc(s.principals(), func(named string) bool { return named == "*" || slices.Contains(callers, named) })
}

// about is the part of a repository's policy that is about those names.
func (p *policyDocument) about(callers []string) []*policyDocument {
	if p == nil {
		return nil
	}
	part := &policyDocument{Version: p.Version}
	for _, s := range p.Statement {
		if s.names(callers) {
			part.Statement = append(part.Statement, s)
		}
	}
	return []*policyDocument{part}
}

// check asks everybody who has a say in an access: the caller's policies and, for
// a repository, its own. In another account both have to allow it; in the
// caller's one of them is enough, where a policy for the account as a whole leaves
// it to the caller's. c.mu is held.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics-cross-account.html
func (c *Cloud) check(who *principal, a access) *Error {
	account, policy, isRepository := c.repositoryPolicy(a.resource)
	if !isRepository {
		return who.check(a)
	}
	callers := c.callerNames(who)
	theirs := policy.about(callers)
	if judge(theirs, a) == forbidden {
		return deniedBecause(who, a, "with an explicit deny in a resource-based policy")
	}
	denied, said := who.checkIdentity(a)
	if account == who.account() {
		itself := slices.DeleteFunc(slices.Clone(callers), func(name string) bool {
			return name == account || name == "arn:aws:iam::"+account+":root"
		})
		if said == silent && judge(policy.about(itself), a) == allowed {
			denied = nil
		}
	} else if denied == nil && judge(theirs, a) != allowed {
		denied = deniedBecause(who, a, "because no resource-based policy allows the "+a.action+" action")
	}
	if denied != nil {
		return denied
	}
	return who.checkSession(a)
}

// repositoryPolicy finds whose repository an ARN names, and its policy. One that
// is not there has none, so to another account it looks like one that is closed.
func (c *Cloud) repositoryPolicy(arn string) (account string, policy *policyDocument, isRepository bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "ecr" && parts[2] != "ecr-public" {
		return "", nil, false
	}
	at := home{account: parts[4], region: parts[3], public: parts[2] == "ecr-public"}
	name := strings.TrimPrefix(parts[5], "repository/")
	if at.public {
		at.region, name = publicRegion, c.inHome(at, name)
	}
	if repo := c.reg.repos[repositoryKey{at, name}]; repo != nil {
		policy = repo.policy
	}
	return at.account, policy, true
}
