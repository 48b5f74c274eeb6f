package awsauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// roleRefusals are those of chains, tags, policies, files and clocks.
func roleRefusals(t *testing.T) map[string]refusalCase {
	t.Helper()
	const second = "arn:aws:iam::444455556666:role/second"
	chain := func(set func(*Options)) func(*fakeSTS, *Options) {
		return func(f *fakeSTS, o *Options) {
			o.Roles = append(o.Roles, second)
			o.Tags = []Tag{{Key: "Repository", Value: "acme/shop"}, {Key: "RunId", Value: "1", Optional: true}}
			f.refuseOnly = "AssumeRole"
			if set != nil {
				set(o)
			}
		}
	}
	nothing := func(*Options) {}
	file := func(content string) func(*fakeSTS, *Options) {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return func(_ *fakeSTS, o *Options) { o.IDToken, o.TokenFile, o.Workspace = nil, "token", filepath.Dir(path) }
	}
	minted := func(claims map[string]any) string {
		token, err := (&fakeSTS{}).mint(claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	enterprise := func(from, to time.Duration) func(*fakeSTS, *Options) {
		return func(f *fakeSTS, o *Options) {
			o.IDToken = func(_ context.Context, audience string) (string, error) {
				return f.mint(map[string]any{
					"iss": "https://git.example/_services/token", "sub": "repo:acme/shop:pull_request", "aud": audience,
					"nbf": time.Now().Add(from).Unix(), "until": time.Now().Add(to).Unix(),
				})
			}
		}
	}
	denied := func(action, why string) refusal {
		return refusal{http.StatusForbidden, "AccessDenied", "User: arn:aws:sts::111122223333:assumed-role/deploy/towline-1-1 is not authorized to perform: " + action + " on resource: " + second + why}
	}
	expired := refusal{http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time 1 must be before the expiration date/time 0"}
	return map[string]refusalCase{
		"chain-denied":         {set: chain(nothing), refusal: denied("sts:AssumeRole", "")},
		"chain-external-id":    {set: chain(func(o *Options) { o.ExternalID = "shop" }), refusal: denied("sts:AssumeRole", "")},
		"chain-tags-denied":    {set: chain(nothing), refusal: denied("sts:TagSession", "")},
		"chain-control-policy": {set: chain(nothing), refusal: denied("sts:AssumeRole", " with an explicit deny in a service control policy")},
		"chain-passed-tags":    {set: chain(nothing), refusal: refusal{http.StatusBadRequest, "InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session."}},
		"chain-too-large":      {set: chain(nothing), refusal: refusal{http.StatusBadRequest, "PackedPolicyTooLarge", "Packed policy consumes 112% of allotted space, please use smaller policy."}},
		"chain-policy":         {set: chain(func(o *Options) { o.Policy = "{}" }), refusal: refusal{http.StatusBadRequest, "MalformedPolicyDocument", "Syntax errors in policy."}},
		"chain-managed-policy": {set: chain(func(o *Options) { o.PolicyARNs = []string{"arn:aws:iam::aws:policy/None"} }), refusal: refusal{http.StatusBadRequest, "MalformedPolicyDocument", "Syntax errors in policy."}},
		"chain-session-limit":  {set: chain(nothing), refusal: refusal{http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."}},
		"wrong-account":        {set: chain(func(o *Options) { o.AllowedAccounts = []string{"111122223333"} })},
		"wrong-account-of-keys": {set: func(f *fakeSTS, o *Options) {
			withKeys(f, o)
			o.Roles, o.AllowedAccounts = nil, []string{"444455556666"}
		}},
		"wrong-account-existing":     {set: existing(func(o *Options) { o.AllowedAccounts = []string{"444455556666"} })},
		"existing-refused":           {set: existing(func(o *Options) { o.Roles = nil }), refusal: refusal{http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"}},
		"policy-for-token":           {set: func(_ *fakeSTS, o *Options) { o.Policy = "{}" }, refusal: refusal{http.StatusBadRequest, "MalformedPolicyDocument", "Syntax errors in policy."}},
		"token-denied-by-policy":     {refusal: refusal{http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}, set: enterprise(0, time.Minute)},
		"token-too-early":            {refusal: refusal{http.StatusBadRequest, "InvalidIdentityToken", "Token is not yet valid"}, set: enterprise(time.Hour, 2*time.Hour)},
		"token-too-late":             {refusal: expired, set: enterprise(-time.Hour, -30*time.Minute)},
		"token-file-missing":         {set: func(_ *fakeSTS, o *Options) { o.IDToken, o.TokenFile, o.Workspace = nil, "token", "/nowhere" }},
		"token-file-empty":           {set: file(" \n")},
		"token-file-expired":         {set: file(minted(map[string]any{"sub": "me", "until": int64(1)})), refusal: expired},
		"token-file-audience":        {set: file(minted(map[string]any{"sub": "me", "aud": "somebody"})), refusal: refusal{http.StatusBadRequest, "InvalidIdentityToken", "Incorrect token audience"}},
		"clock":                      {set: func(f *fakeSTS, o *Options) { withKeys(f, o); f.ahead = 20 * time.Minute }, refusal: refusal{http.StatusForbidden, "SignatureDoesNotMatch", "Signature expired: 20000101T000000Z is now earlier than 20000101T001500Z (20000101T002000Z - 5 min.)"}},
		"once-only":                  {set: func(_ *fakeSTS, o *Options) { o.Attempts = 1 }, refusal: refusal{http.StatusServiceUnavailable, "", ""}},
		"once-only-denied":           {set: func(_ *fakeSTS, o *Options) { o.Attempts = 1 }, refusal: refusal{http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}},
		"proxy":                      {set: func(_ *fakeSTS, o *Options) { o.Transport = deadProxy{} }},
		"own-endpoint":               {set: func(_ *fakeSTS, o *Options) { o.Endpoint, o.Transport = "https://sts.example", deadNetwork{} }},
		"chaining-without-anything":  {set: func(_ *fakeSTS, o *Options) { o.FromExisting, o.Getenv = true, gitHubHosted }},
		"existing-without-anything":  {set: func(_ *fakeSTS, o *Options) { o.UseExisting, o.Roles, o.Getenv = true, nil, gitHubHosted }},
		"container-address":          {set: func(_ *fakeSTS, o *Options) { o.Roles, o.Getenv = nil, container("http://10.0.0.1/") }},
		"no-token-and-reason":        {set: func(_ *fakeSTS, o *Options) { o.IDToken, o.NoIDToken, o.Getenv = nil, errReason(), gitHubHosted }},
		"first-of-chain-by-its-name": {set: func(_ *fakeSTS, o *Options) { o.Roles = []string{"first", second} }},
	}
}

func withKeys(_ *fakeSTS, o *Options) {
	o.AccessKeyID, o.SecretAccessKey, o.SessionToken = "AKIA0EXAMPLE", "very-secret-key", "very-secret-token"
}

// existing has keys in the environment, which are to be used.
func existing(set func(*Options)) func(*fakeSTS, *Options) {
	return func(f *fakeSTS, o *Options) {
		o.UseExisting, f.refuseOnly = true, "GetCallerIdentity"
		o.Getenv = func(name string) string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "from-env"}[name]
		}
		set(o)
	}
}

func container(uri string) func(string) string {
	return func(name string) string { return map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri}[name] }
}

// deadProxy is a proxy that nobody listens at.
type deadProxy struct{}

func (deadProxy) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("connection refused")}
}
