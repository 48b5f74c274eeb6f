package emulator

import (
	"encoding/json"
	"slices"
	"strings"
)

// trustPolicy is a role's assume-role policy document.
type trustPolicy struct {
	Statement oneOrMore[trustStatement]
}

type trustStatement struct {
	Effect    string
	Principal map[string]oneOrMore[string]
	Action    oneOrMore[string]
	Condition map[string]map[string]oneOrMore[string]
}

// oneOrMore is a JSON value that may stand alone or in a list.
type oneOrMore[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMore[T]) UnmarshalJSON(b []byte) error {
	var many []T
	if err := json.Unmarshal(b, &many); err == nil {
		*o = many
		return nil
	}
	var one T
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*o = oneOrMore[T]{one}
	return nil
}

// githubKeys are the token claims of GitHub that IAM knows as condition keys.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html
func githubKeys() []string {
	return []string{
		"sub", "aud", "actor", "actor_id", "job_workflow_ref", "repository", "repository_id",
		"workflow", "ref", "environment", "enterprise_id",
	}
}

func parseTrustPolicy(doc string) (*trustPolicy, error) {
	var p trustPolicy
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return nil, refuse("MalformedPolicyDocument", "This policy contains invalid Json: %v", err)
	}
	if len(p.Statement) == 0 {
		return nil, refuse("MalformedPolicyDocument", "Syntax errors in policy.")
	}
	for _, s := range p.Statement {
		if (s.Effect != "Allow" && s.Effect != "Deny") || len(s.Principal) == 0 || len(s.Action) == 0 {
			return nil, refuse("MalformedPolicyDocument", "Syntax errors in policy.")
		}
		for operator := range s.Condition {
			if _, known := comparison(operator); !known {
				return nil, refuse("MalformedPolicyDocument", "Invalid Condition type : %s.", operator)
			}
		}
		if err := s.boundsGitHub(); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// boundsGitHub refuses, as IAM does, to trust all of GitHub.
func (s *trustStatement) boundsGitHub() error {
	host := strings.TrimPrefix(githubIssuer, "https://")
	trusts := slices.ContainsFunc(s.Principal["Federated"], func(arn string) bool { return strings.HasSuffix(arn, "/"+host) })
	if !trusts || s.Effect != "Allow" {
		return nil
	}
	for _, keys := range s.Condition {
		for key, values := range keys {
			claim, ours := strings.CutPrefix(strings.ToLower(key), host+":")
			if !ours || (claim != "sub" && claim != "job_workflow_ref") {
				continue
			}
			if !slices.ContainsFunc(values, func(v string) bool { return strings.Trim(v, "*?") == "" }) {
				return nil
			}
		}
	}
	return refuse("MalformedPolicyDocument",
		"The trust policy for the GitHub OIDC provider must evaluate token.actions.githubusercontent.com:sub or job_workflow_ref with a value that is not a wildcard.")
}

// admits evaluates the policy. kind is Federated or AWS, who its ARN, and keys
// are the condition keys of the request.
func (p *trustPolicy) admits(action, kind string, who []string, keys map[string]string) bool {
	allowed := false
	for _, s := range p.Statement {
		if !slices.ContainsFunc(s.Action, func(a string) bool { return like(strings.ToLower(a), strings.ToLower(action)) }) {
			continue
		}
		if !slices.ContainsFunc(s.Principal[kind], func(arn string) bool { return arn == "*" || slices.Contains(who, arn) }) {
			continue
		}
		if !s.holds(keys) {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

// holds reports whether every condition does.
func (s *trustStatement) holds(keys map[string]string) bool {
	for operator, conditions := range s.Condition {
		compare, _ := comparison(operator)
		for key, values := range conditions {
			got, present := keys[strings.ToLower(key)]
			if !compare(got, present, values) {
				return false
			}
		}
	}
	return true
}

// comparison finds a string condition operator. Tokens have one value per key,
// so ForAnyValue: is the operator itself, and ForAllValues: holds without a value.
func comparison(operator string) (func(got string, present bool, values []string) bool, bool) {
	name, forAll := strings.CutPrefix(operator, "ForAllValues:")
	name = strings.TrimPrefix(name, "ForAnyValue:")
	name, ifExists := strings.CutSuffix(name, "IfExists")
	absent := ifExists || forAll
	var match func(pattern, s string) bool
	negated := false
	switch name {
	case "StringEquals":
		match = func(pattern, s string) bool { return pattern == s }
	case "StringNotEquals":
		match, negated = func(pattern, s string) bool { return pattern == s }, true
	case "StringEqualsIgnoreCase":
		match = strings.EqualFold
	case "StringLike":
		match = like
	case "StringNotLike":
		match, negated = like, true
	default:
		return nil, false
	}
	return func(got string, present bool, values []string) bool {
		if !present {
			return absent || negated
		}
		return negated != slices.ContainsFunc(values, func(v string) bool { return match(v, got) })
	}, true
}
