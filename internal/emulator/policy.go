package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// policyDocument says what may be done by the role that it is attached to.
type policyDocument struct {
	Version   string
	Statement oneOrMore[policyStatement]
}

type policyStatement struct {
	Sid, Effect           string
	Principal             any
	Action, NotAction     oneOrMore[string]
	Resource, NotResource oneOrMore[string]
	Condition             map[string]map[string]oneOrMore[string]
}

// UnmarshalJSON implements json.Unmarshaler; IAM refuses members that it does
// not know.
func (s *policyStatement) UnmarshalJSON(b []byte) error {
	type plain policyStatement
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	return decoder.Decode((*plain)(s))
}

// maxRolePolicy is how many characters, blanks not counted, all policies in one
// role may have. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const maxRolePolicy = 10240

// parseIdentityPolicy refuses what IAM refuses of a role's inline policy.
func parseIdentityPolicy(doc string) (*policyDocument, error) {
	p, err := parsePolicy(doc)
	if err != nil {
		return nil, err
	}
	if n := len(strings.Join(strings.Fields(doc), "")); n > maxRolePolicy {
		return nil, refuse("LimitExceeded", "Maximum policy size of %d bytes exceeded", maxRolePolicy)
	}
	for _, s := range p.Statement {
		if len(s.Resource)+len(s.NotResource) == 0 {
			return nil, malformed("Policy statement must contain resources.")
		}
		if s.Principal != nil {
			return nil, malformed("Policy document should not specify a principal.")
		}
	}
	return p, nil
}

func parsePolicy(doc string) (*policyDocument, error) {
	var p policyDocument
	decoder := json.NewDecoder(strings.NewReader(doc))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil || len(p.Statement) == 0 {
		return nil, malformed("Syntax errors in policy.")
	}
	if p.Version != "2012-10-17" {
		return nil, malformed("Policy document must be version 2012-10-17 or greater.")
	}
	seen := map[string]bool{}
	for _, s := range p.Statement {
		if s.Sid != "" && seen[s.Sid] {
			return nil, malformed("Statement IDs (SID) in a single policy must be unique.")
		}
		seen[s.Sid] = true
		if err := s.check(); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func malformed(format string, args ...any) error {
	return refuse("MalformedPolicyDocument", format, args...)
}

// check refuses a statement that IAM refuses wherever it stands.
func (s *policyStatement) check() error {
	actions, resources := slices.Concat(s.Action, s.NotAction), slices.Concat(s.Resource, s.NotResource)
	noVendor := func(action string) bool { return action != "*" && !strings.Contains(action, ":") }
	noARN := func(resource string) bool { return resource != "*" && strings.Count(resource, ":") < 5 }
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return malformed("Syntax errors in policy.")
	case !regexp.MustCompile(`^[A-Za-z0-9]*$`).MatchString(s.Sid):
		return malformed("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")
	case len(actions) == 0:
		return malformed("Policy statement must contain actions.")
	case slices.ContainsFunc(actions, noVendor):
		return malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
	case slices.ContainsFunc(resources, noARN):
		return malformed("Resource %s must be in ARN format or \"*\".", resources[slices.IndexFunc(resources, noARN)])
	}
	for operator := range s.Condition {
		if _, known := conditionOperator(operator); !known {
			return malformed("Invalid Condition type : %s.", operator)
		}
	}
	return nil
}

// conditionOperator is a string operator, or one for ARNs, Booleans and the
// absence of keys.
func conditionOperator(operator string) (func(got string, present bool, values []string) bool, bool) {
	switch operator {
	case "Null":
		return func(_ string, present bool, values []string) bool {
			return slices.Contains(values, fmt.Sprint(!present))
		}, true
	case "ArnEquals", "ArnLike": // they mean the same
		return comparison("StringLike")
	case "ArnNotEquals", "ArnNotLike":
		return comparison("StringNotLike")
	case "Bool":
		return comparison("StringEqualsIgnoreCase")
	}
	return comparison(operator)
}

// access is one thing that a call needs to be allowed.
type access struct {
	action, resource string
	// keys are the condition keys of the request, in lower case.
	keys map[string]string
}

// with adds condition keys: name, value, name, value.
func (a access) with(pairs ...string) access {
	keys := map[string]string{}
	maps.Copy(keys, a.keys)
	for i := 0; i+1 < len(pairs); i += 2 {
		keys[strings.ToLower(pairs[i])] = pairs[i+1]
	}
	a.keys = keys
	return a
}

// concerns says whether a statement speaks of an access, whoever asks for it.
func (s *policyStatement) concerns(a access) bool {
	matches := func(patterns []string, value string, fold bool) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			if fold {
				pattern, value = strings.ToLower(pattern), strings.ToLower(value)
			}
			return like(pattern, value)
		})
	}
	switch {
	case len(s.Action) > 0 && !matches(s.Action, a.action, true), len(s.NotAction) > 0 && matches(s.NotAction, a.action, true):
		return false
	case len(s.Resource) > 0 && !matches(s.Resource, a.resource, false), len(s.NotResource) > 0 && matches(s.NotResource, a.resource, false):
		return false
	}
	for operator, conditions := range s.Condition {
		compare, _ := conditionOperator(operator)
		for key, values := range conditions {
			got, present := a.keys[strings.ToLower(key)]
			if !compare(got, present, values) {
				return false
			}
		}
	}
	return true
}

// verdict is what policies of one kind say of an access.
type verdict int

const (
	silent verdict = iota
	allowed
	forbidden
)

// judge asks policies of one kind.
func judge(policies []*policyDocument, a access) verdict {
	said := silent
	for _, p := range policies {
		for _, s := range p.Statement {
			if !s.concerns(a) {
				continue
			}
			if s.Effect == "Deny" {
				return forbidden
			}
			said = allowed
		}
	}
	return said
}

// check asks the caller's own policies, and those of its session.
func (p *principal) check(a access) *Error {
	if denied, _ := p.checkIdentity(a); denied != nil {
		return denied
	}
	return p.checkSession(a)
}

// checkIdentity asks the policies of the user or role. silent: nothing allows it,
// and nothing forbids it.
func (p *principal) checkIdentity(a access) (denied *Error, said verdict) {
	if len(p.identity) == 0 {
		if p.may(a.action) {
			return nil, allowed
		}
		return deniedOn(p, a.action, a.resource, http.StatusBadRequest), silent
	}
	switch said = judge(p.identity, a); said {
	case forbidden:
		return deniedBecause(p, a, "with an explicit deny in an identity-based policy"), said
	case silent:
		return deniedOn(p, a.action, a.resource, http.StatusBadRequest), said
	}
	return nil, allowed
}

// checkSession asks the policies that the session was given, which only take away.
func (p *principal) checkSession(a access) *Error {
	if len(p.session) == 0 {
		return nil
	}
	switch judge(p.session, a) {
	case forbidden:
		return deniedBecause(p, a, "with an explicit deny in a session policy")
	case silent:
		return deniedBecause(p, a, "because no session policy allows the "+a.action+" action")
	case allowed:
	}
	return nil
}

// deniedBecause is a refusal with its reason, in the words of
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
func deniedBecause(p *principal, a access, why string) *Error {
	return &Error{
		Code: "AccessDeniedException", Status: http.StatusBadRequest,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", p.arn, a.action, a.resource, why),
	}
}
