package awsauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

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
}

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

// provider is the identity provider's name in IAM: the issuer without scheme.
func (c claims) provider() string {
	if name := strings.TrimPrefix(c.Issuer, "https://"); name != "" {
		return name
	}
	return "token.actions.githubusercontent.com"
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
