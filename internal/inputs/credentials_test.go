package inputs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

// workflow is what job's session is tagged with.
func workflow() []SessionTag {
	return []SessionTag{
		{Key: "GitHub", Value: "Actions"},
		{Key: "Commit", Value: "0123456789abcdef0123456789abcdef01234567"},
		{Key: "RunId", Value: "77", Optional: true},
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	const first, second = "arn:aws:iam::123456789012:role/ci/first", "arn:aws:iam::444455556666:role/second"
	tests := map[string]struct {
		set      values
		want     func(*Credentials)
		warnings []string // a part of each
	}{
		"a chain": {set: values{"role-to-assume": first + "\n  second\n\n" + second, "role-external-id": "a:b/c"}, want: func(c *Credentials) {
			c.RolesToAssume, c.RoleExternalID = []string{first, "second", second}, "a:b/c"
		}},
		"tags": {set: values{
			"role-to-assume": "deploy", "role-chaining": "true",
			"custom-tags": `{"team": "shop", "n": 1.0, "RunId": "mine", "on": true}`, "transitive-tag-keys": "team\nBranch",
		}, want: func(c *Credentials) {
			c.RolesToAssume, c.FromExisting = []string{"deploy"}, true
			c.SessionTags[2] = SessionTag{Key: "RunId", Value: "mine"}
			c.SessionTags = append(c.SessionTags, SessionTag{Key: "n", Value: "1.0"}, SessionTag{Key: "on", Value: "true"}, SessionTag{Key: "team", Value: "shop"})
			c.TransitiveTags = []string{"team", "Branch"}
		}},
		"no tags": {set: values{"role-to-assume": "deploy", "role-skip-session-tagging": "true"}, want: func(c *Credentials) {
			c.RolesToAssume, c.SessionTags = []string{"deploy"}, nil
		}},
		"policies": {set: values{
			"role-to-assume": first, "inline-session-policy": `{"Version": "2012-10-17"}`,
			"managed-session-policies": "arn:aws:iam::aws:policy/ReadOnlyAccess\narn:aws:iam::123456789012:policy/a/b",
		}, want: func(c *Credentials) {
			c.RolesToAssume, c.InlineSessionPolicy = []string{first}, `{"Version": "2012-10-17"}`
			c.ManagedSessionPolicies = []string{"arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::123456789012:policy/a/b"}
		}},
		"the switches": {set: values{
			"use-existing-credentials": "false", "force-skip-oidc": "true", "unset-current-credentials": "TRUE", "mask-aws-account-id": "true",
			"output-credentials": "True", "output-env-credentials": "true", "disable-retry": "true", "retry-max-attempts": "5",
		}, want: func(c *Credentials) {
			c.SkipOIDC, c.IgnoreKeys, c.MaskAccountID, c.Output, c.OutputEnv, c.Attempts = true, true, true, true, true, 1
		}},
		"the network": {set: values{
			"http-proxy": "me:pass@proxy.example:3128", "no-proxy": ".internal, 10.0.0.0/8\nsts.amazonaws.com", "sts-endpoint": "https://sts.example",
			"action-timeout-s": "90", "retry-max-attempts": "3", "allowed-account-ids": "012345678901, 123456789012\n444455556666",
		}, want: func(c *Credentials) {
			c.HTTPProxy, c.NoProxy = "http://me:pass@proxy.example:3128", []string{".internal", "10.0.0.0/8", "sts.amazonaws.com"}
			c.STSEndpoint, c.ActionTimeout, c.Attempts = "https://sts.example", 90*time.Second, 3
			c.AllowedAccountIDs = []string{"012345678901", "123456789012", "444455556666"}
		}},
		"a token file": {set: values{"role-to-assume": first, "web-identity-token-file": "token.jwt", "role-external-id": "abc"}, want: func(c *Credentials) {
			c.RolesToAssume, c.WebIdentityTokenFile, c.RoleExternalID = []string{first}, "token.jwt", "abc"
		}, warnings: []string{`"role-external-id" has no effect`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.set.get, job().get)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults().Credentials
			test.want(&want)
			if diff := cmp.Diff(got.Credentials, want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			if len(got.Warnings) != len(test.warnings) {
				t.Errorf("warnings: got %q, want %q", got.Warnings, test.warnings)
			}
			for i, part := range test.warnings {
				if i < len(got.Warnings) && !strings.Contains(got.Warnings[i], part) {
					t.Errorf("warning: got %q, want %q in it", got.Warnings[i], part)
				}
			}
		})
	}
}

func TestBadCredentials(t *testing.T) {
	t.Parallel()
	const role = "arn:aws:iam::123456789012:role/deploy"
	tests := map[string]struct {
		set  values
		want []string // in the only error
	}{
		"role":                     {values{"role-to-assume": role + "\nnot a role"}, []string{`"role-to-assume" is "not a role"`}},
		"another partition":        {values{"role-to-assume": "arn:aws-cn:iam::123456789012:role/deploy"}, []string{"eu-central-1 (from AWS_REGION) is in the partition aws", "a region of the partition aws-cn"}},
		"the sovereign cloud":      {values{"role-to-assume": role, "aws-region": "eusc-de-east-1"}, []string{"in the partition aws-eusc"}},
		"external id":              {values{"role-to-assume": role, "role-external-id": "a b"}, []string{`"role-external-id" is "a b"`}},
		"account":                  {values{"allowed-account-ids": "12345678901"}, []string{`"allowed-account-ids" is "12345678901"`, "in quotes"}},
		"policy":                   {values{"role-to-assume": role, "inline-session-policy": "[]"}, []string{"inline-session-policy", "not a JSON object"}},
		"large policy":             {values{"role-to-assume": role, "inline-session-policy": `{"a": "` + strings.Repeat("x", 2048) + `"}`}, []string{"2056 characters"}},
		"policy ARN":               {values{"role-to-assume": role, "managed-session-policies": "ReadOnlyAccess"}, []string{`"ReadOnlyAccess": not the ARN of a policy`}},
		"too many policies":        {values{"role-to-assume": role, "managed-session-policies": strings.Repeat("arn:aws:iam::aws:policy/ReadOnlyAccess\n", 11)}, []string{"11 policies"}},
		"tags that are no object":  {values{"role-to-assume": role, "custom-tags": "team=shop"}, []string{"custom-tags", "not a JSON object"}},
		"tag with a list":          {values{"role-to-assume": role, "custom-tags": `{"a": []}`}, []string{`the value of "a" is neither`}},
		"tag of the workflow":      {values{"role-to-assume": role, "custom-tags": `{"commit": "x"}`}, []string{`"custom-tags" is "commit"`, "the tag Commit tells of the workflow"}},
		"tag with wrong value":     {values{"role-to-assume": role, "custom-tags": `{"team": "a&b"}`}, []string{`"custom-tags" is "team"`}},
		"too many tags":            {values{"role-to-assume": role, "custom-tags": manyTags(49)}, []string{"51 session tags"}},
		"transitive, not there":    {values{"role-to-assume": role, "transitive-tag-keys": "team"}, []string{`"transitive-tag-keys" is "team"`, "Repository"}},
		"tags that are left out":   {values{"role-to-assume": role, "transitive-tag-keys": "Actor", "role-skip-session-tagging": "true"}, []string{"there are no session tags"}},
		"proxy":                    {values{"http-proxy": "ftp://me:pass@x"}, []string{`"http-proxy": not the address`}},
		"endpoint":                 {values{"sts-endpoint": "sts.example"}, []string{`"sts-endpoint" is "sts.example"`}},
		"tries":                    {values{"retry-max-attempts": "0"}, []string{"between 1 and 100"}},
		"timeout":                  {values{"action-timeout-s": "-1"}, []string{"between 0 and 360000"}},
		"no boolean":               {values{"use-existing-credentials": "yes"}, []string{`"use-existing-credentials" is "yes"`}},
		"a file and keys":          {values{"role-to-assume": role, "web-identity-token-file": "t", "aws-access-key-id": "AKIA", "aws-secret-access-key": "s"}, []string{`also "aws-access-key-id"`}},
		"a file and chaining":      {values{"role-to-assume": role, "web-identity-token-file": "t", "role-chaining": "true"}, []string{`also "role-chaining"`}},
		"chaining without a role":  {values{"role-chaining": "true"}, []string{`"role-chaining" is "true": there is no role`}},
		"existing, and overlooked": {values{"use-existing-credentials": "true", "unset-current-credentials": "true"}, []string{"to be used", "to be overlooked"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(test.set.get, job().get)
			faults := problem.All("", err)
			if len(faults) != 1 {
				t.Fatalf("got %d errors, want one: %v", len(faults), err)
			}
			for _, part := range test.want {
				if !strings.Contains(faults[0].Error(), part) {
					t.Errorf("got %q, want %q in it", faults[0], part)
				}
			}
			if strings.Contains(faults[0].Error(), "pass") {
				t.Errorf("got %q, which has a password in it", faults[0])
			}
		})
	}
}

// Optional tags make room for custom ones, and a fiftieth tag is the last.
func TestTagsMakeRoom(t *testing.T) {
	t.Parallel()
	got, err := Parse(values{"role-to-assume": "deploy", "custom-tags": manyTags(48)}.get, job().get)
	if err != nil {
		t.Fatal(err)
	}
	tags := got.Credentials.SessionTags
	if len(tags) != 50 || tags[2].Key == "RunId" {
		t.Errorf("got %d tags, the third %v, want 50 without RunId", len(tags), tags[2])
	}
}

func manyTags(n int) string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, `"t`+strings.Repeat("x", i)+`": 1`)
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

func TestProxyPasswordIsSecret(t *testing.T) {
	t.Parallel()
	got, err := Parse(values{"http-proxy": "http://me:hidden@proxy"}.get, job().get)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got.Secrets(), []string{"hidden", "http://me:hidden@proxy"}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}
