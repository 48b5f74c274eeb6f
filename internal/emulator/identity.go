package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Provider is an IAM OIDC identity provider.
type Provider struct {
	// URL is the issuer, with https://.
	URL string
	// Audiences is the provider's list of client IDs.
	Audiences []string
}

// Role is an IAM role.
type Role struct {
	// Name is the role's name, with its path if it has one.
	Name string
	// Account is the role's. Default: that of the cloud. Another account has
	// nothing but roles and the same OIDC providers.
	Account string
	// TrustPolicy is the JSON document that says who may assume the role.
	TrustPolicy string
	// MaxSession is the longest session. Default: one hour.
	MaxSession time.Duration
	// Policy lists the actions that the role may call, with * and ?
	// (ecs:Describe*). Nil allows everything; empty nothing.
	Policy []string
	// PolicyDocument is the role's identity policy, a JSON document, which is
	// enforced with its resources and conditions. It is used in place of Policy.
	PolicyDocument string
}

type role struct {
	Role
	arn   string
	id    string
	trust *trustPolicy
	// identity is the parsed PolicyDocument, if there is one.
	identity []*policyDocument
}

// principal is who may sign requests.
type principal struct {
	arn       string
	userID    string
	accessKey string
	secret    string
	// token is the session's, empty for a user.
	token   string
	expires time.Time
	policy  []string
	// identity are the role's policies, which replace policy; session are those
	// that were given when it was assumed, and only take away.
	identity, session []*policyDocument
	// tags are the session's, transitive the names of those that it passes on.
	tags       map[string]string
	transitive []string
}

// AddProvider adds or replaces an OIDC provider. The account starts with
// GitHub's.
func (c *Cloud) AddProvider(p Provider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.providers[strings.TrimPrefix(p.URL, "https://")] = p
}

// RemoveProvider removes an OIDC provider by its URL.
func (c *Cloud) RemoveProvider(url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.providers, strings.TrimPrefix(url, "https://"))
}

// AddRole adds or replaces a role and gives its ARN. The trust policy is
// refused as IAM does (MalformedPolicyDocument), also when it would let any
// repository of GitHub in.
func (c *Cloud) AddRole(r Role) (arn string, err error) {
	trust, err := parseTrustPolicy(r.TrustPolicy)
	if err != nil {
		return "", fmt.Errorf("role %s: %w", r.Name, err)
	}
	var identity []*policyDocument
	if r.PolicyDocument != "" {
		parsed, err := parseIdentityPolicy(r.PolicyDocument)
		if err != nil {
			return "", fmt.Errorf("role %s: %w", r.Name, err)
		}
		identity = append(identity, parsed)
	}
	if r.MaxSession == 0 {
		r.MaxSession = time.Hour
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Account = cmp.Or(r.Account, c.opts.Account)
	arn = "arn:aws:iam::" + r.Account + ":role/" + r.Name
	c.roles[arn] = &role{Role: r, arn: arn, id: "AROA" + strings.ToUpper(c.unique("role")[:17]), trust: trust, identity: identity}
	return arn, nil
}

// AddUser adds an IAM user with an access key that never expires and may call
// everything.
func (c *Cloud) AddUser(accessKey, secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[accessKey] = &principal{
		arn: c.arn("iam", "user/"+accessKey), userID: "AIDA" + strings.ToUpper(c.unique("user")[:17]),
		accessKey: accessKey, secret: secret,
	}
}

// TrustGitHub writes the trust policy that lets GitHub's tokens in whose
// subject is like one of the patterns.
func (c *Cloud) TrustGitHub(subjects ...string) string {
	host := strings.TrimPrefix(githubIssuer, "https://")
	doc, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Effect":    "Allow",
			"Principal": map[string]any{"Federated": c.arn("iam", "oidc-provider/"+host)},
			"Action":    "sts:AssumeRoleWithWebIdentity",
			"Condition": map[string]any{
				"StringEquals": map[string]any{host + ":aud": "sts.amazonaws.com"},
				"StringLike":   map[string]any{host + ":sub": subjects},
			},
		}},
	})
	if err != nil {
		panic(err) // strings always encode
	}
	return string(doc)
}

// provider is an OIDC provider in the role's account.
func (r *role) provider(host string) string {
	return "arn:aws:iam::" + r.Account + ":oidc-provider/" + host
}

// session makes temporary credentials for a role. c.mu is held.
func (c *Cloud) session(r *role, w *wish) *principal {
	raw := c.unique("session")
	short := r.Name[strings.LastIndex(r.Name, "/")+1:]
	p := &principal{
		arn:        "arn:aws:sts::" + r.Account + ":assumed-role/" + short + "/" + w.name,
		userID:     r.id + ":" + w.name,
		accessKey:  "ASIA" + strings.ToUpper(raw[:16]),
		secret:     c.unique("secret")[:40],
		token:      "IQoJb3JpZ2luX2Vj" + c.unique("token") + c.unique("token"),
		expires:    c.now().Add(w.life),
		policy:     r.Policy,
		identity:   r.identity,
		session:    w.policies,
		tags:       w.tags,
		transitive: w.transitive,
	}
	c.keys[p.accessKey] = p
	return p
}

// allow checks what a call needs besides its own action. keys are condition
// keys: name, value, name, value.
func (p *principal) allow(action, resource string, keys ...string) error {
	if err := p.check(access{action: action, resource: resource}.with(keys...)); err != nil {
		return err
	}
	return nil
}

// may asks the list of actions, where the role has no document.
func (p *principal) may(action string) bool {
	return p.policy == nil || slices.ContainsFunc(p.policy, func(pattern string) bool {
		return like(strings.ToLower(pattern), strings.ToLower(action))
	})
}

func deniedOn(p *principal, action, resource string, status int) *Error {
	return &Error{
		Code: "AccessDeniedException", Status: status,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
			p.arn, action, resource, action),
	}
}

// deniedAs is the refusal that a fault asks for.
func deniedAs(p *principal, service, action string) *Error {
	if p == nil {
		p = &principal{arn: "anonymous"}
	}
	switch service {
	case "sts", "iam":
		e := deniedOn(p, service+":"+action, "*", http.StatusForbidden)
		e.Code = "AccessDenied"
		return e
	case "registry":
		e := deniedOn(p, action, "*", http.StatusForbidden)
		e.Code = "DENIED"
		return e
	default:
		return deniedOn(p, service+":"+action, "*", http.StatusBadRequest)
	}
}
