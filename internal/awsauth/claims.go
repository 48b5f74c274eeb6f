package awsauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// claims are what IAM can test of an ID token. They are read without
// verification, to be shown; nothing is decided by them.
type claims struct {
	Issuer         string   `json:"iss"`
	Subject        string   `json:"sub"`
	Audience       audience `json:"aud"`
	Environment    string   `json:"environment"`
	Ref            string   `json:"ref"`
	JobWorkflowRef string   `json:"job_workflow_ref"`
	// in seconds since 1970
	NotBefore float64 `json:"nbf"`
	Expires   float64 `json:"exp"`
}

const gitHubIssuer = "token.actions.githubusercontent.com"

// audience is a string, or a list of them: RFC 7519, 4.1.3.
type audience string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience(one)
		return nil
	}
	var several []string
	if err := json.Unmarshal(data, &several); err != nil {
		return err
	}
	*a = audience(strings.Join(several, " "))
	return nil
}

// readClaims decodes a JWT's payload. It gives none if the token is not a JWT.
func readClaims(token string) claims {
	var c claims
	if parts := strings.Split(token, "."); len(parts) == 3 {
		if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(payload, &c) != nil {
			return claims{}
		}
	}
	return c
}

// lines shows the claims, one a line, with what is worth knowing of them.
func (c claims) lines() []string {
	var lines []string
	for _, claim := range []struct{ name, value string }{
		{"sub", c.Subject},
		{"aud", string(c.Audience)},
		{"environment", c.Environment},
		{"ref", c.Ref},
		{"job_workflow_ref", c.JobWorkflowRef},
	} {
		if claim.value != "" {
			lines = append(lines, fmt.Sprintf("the token's %s: %s", claim.name, claim.value))
		}
	}
	if regexp.MustCompile(`^repo:[^/]+@\d+/[^:]+@\d+:`).MatchString(c.Subject) {
		lines = append(lines, "This repository's subjects hold the ids of owner and repository: a condition on repo:OWNER/REPO:... does not match them.")
	}
	if strings.HasSuffix(c.Subject, ":pull_request") {
		lines = append(lines, "Every pull request of the repository has this subject: whoever can open one from a branch could use the role.")
	}
	return lines
}

// validity tells at which time, by AWS's clock, the token would be good, if it
// is not at that of its refusal. Empty if that is not known.
func (c claims) validity(at time.Time) string {
	begins, ends := time.Unix(int64(c.NotBefore), 0), time.Unix(int64(c.Expires), 0)
	switch {
	case at.IsZero():
	case c.NotBefore > 0 && at.Before(begins):
		return fmt.Sprintf("the token is good only from %s on, and AWS's clock says %s", clock(begins), clock(at))
	case c.Expires > 0 && !at.Before(ends):
		return fmt.Sprintf("the token was good until %s, and AWS's clock says %s", clock(ends), clock(at))
	}
	return ""
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// provider is the identity provider's name in IAM: the issuer without scheme.
func (c claims) provider() string {
	if name := strings.TrimPrefix(c.Issuer, "https://"); name != "" {
		return name
	}
	return gitHubIssuer
}

// providerARN is where the provider of this issuer is in the role's account.
func (c claims) providerARN(role arn.ARN) string {
	return arn.ARN{
		Partition: role.Partition, Service: "iam", AccountID: role.AccountID,
		Resource: "oidc-provider/" + c.provider(),
	}.String()
}

// statement is the trust policy's statement that lets exactly this token in.
func (c claims) statement(role arn.ARN) string {
	type principal struct{ Federated string }
	type condition struct{ StringEquals map[string]string }
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(struct { // strings can always be encoded
		Effect    string
		Principal principal
		Action    string
		Condition condition
	}{
		"Allow",
		principal{c.providerARN(role)},
		"sts:AssumeRoleWithWebIdentity",
		condition{map[string]string{
			c.provider() + ":aud": string(c.Audience),
			c.provider() + ":sub": c.Subject,
		}},
	})
	return strings.TrimSpace(b.String())
}
