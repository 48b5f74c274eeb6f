package awsauth

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

var update = flag.Bool("update", false, "rewrite testdata")

// A refusalCase is what stands before the outcome in testdata/NAME.txtar.
type refusalCase struct {
	set     func(*fakeSTS, *Options)
	refusal refusal
}

// TestRefusals holds the whole of what a user reads to testdata/NAME.txtar.
func TestRefusals(t *testing.T) {
	t.Parallel()
	claims := func(set map[string]any) func(*fakeSTS, *Options) {
		return func(f *fakeSTS, o *Options) {
			o.IDToken = func(_ context.Context, audience string) (string, error) {
				return f.mint(map[string]any{"iss": set["iss"], "sub": set["sub"], "aud": []string{audience}})
			}
		}
	}
	denied := refusal{http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
	tests := map[string]refusalCase{
		"access-denied": {refusal: denied},
		"access-denied-with-ids": {refusal: denied, set: claims(map[string]any{
			"iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme@12/shop@34:ref:refs/heads/a&b",
		})},
		"access-denied-china-enterprise-server": {refusal: denied, set: func(f *fakeSTS, o *Options) {
			claims(map[string]any{"iss": "https://git.example.cn/_services/token", "sub": "repo:acme/shop:pull_request"})(f, o)
			o.Roles = []string{"arn:aws-cn:iam::111122223333:role/deploy"}
		}},
		"access-denied-not-a-jwt": {refusal: denied, set: func(_ *fakeSTS, o *Options) {
			o.IDToken = func(context.Context, string) (string, error) { return "a.b&c.d", nil }
		}},
		"no-provider": {refusal: refusal{
			http.StatusBadRequest, "InvalidIdentityToken",
			"No OpenIDConnect provider found in your account for https://token.actions.githubusercontent.com",
		}},
		"incorrect-audience":  {refusal: refusal{http.StatusBadRequest, "InvalidIdentityToken", "Incorrect token audience"}},
		"invalid-token":       {refusal: refusal{http.StatusBadRequest, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"}},
		"rejected-claim":      {refusal: refusal{http.StatusForbidden, "IDPRejectedClaim", "The claim was rejected"}},
		"verification-key":    {refusal: refusal{http.StatusBadRequest, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"}},
		"idp-communication":   {refusal: refusal{http.StatusBadRequest, "IDPCommunicationError", "An error occurred"}},
		"expired-token":       {refusal: refusal{http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time 1 must be before the expiration date/time 0"}},
		"throttled":           {refusal: refusal{http.StatusBadRequest, "Throttling", "Rate exceeded"}},
		"server-error":        {refusal: refusal{http.StatusServiceUnavailable, "", ""}},
		"region-disabled":     {refusal: refusal{http.StatusForbidden, "RegionDisabledException", "STS is not activated in this region for account:111122223333. Your account administrator can activate STS in this region using the IAM Console."}},
		"unknown-refusal":     {refusal: refusal{http.StatusBadRequest, "FutureRefusal", "Something new"}},
		"session-too-long":    {refusal: refusal{http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."}, set: func(_ *fakeSTS, o *Options) { o.Duration = 2 * time.Hour }},
		"network":             {set: func(_ *fakeSTS, o *Options) { o.Transport = deadNetwork{} }},
		"no-answer":           {set: func(_ *fakeSTS, o *Options) { o.Transport = silentNetwork{} }},
		"no-answer-for-keys":  {set: func(f *fakeSTS, o *Options) { withKeys(f, o); o.Roles, o.Transport = nil, silentNetwork{} }},
		"name-only":           {set: func(_ *fakeSTS, o *Options) { o.Roles = []string{"deploy"} }},
		"no-token":            {set: func(_ *fakeSTS, o *Options) { o.IDToken = noToken(errors.New("HTTP status 404")) }},
		"no-token-problem":    {set: func(_ *fakeSTS, o *Options) { o.IDToken = noToken(&problem.Error{Op: "get ID token", Fix: "Do so."}) }},
		"no-token-no-keys":    {set: func(_ *fakeSTS, o *Options) { o.IDToken = nil }},
		"nothing":             {set: func(_ *fakeSTS, o *Options) { o.Roles = nil }},
		"no-token-on-github":  {set: func(_ *fakeSTS, o *Options) { o.IDToken, o.Getenv = nil, gitHubHosted }},
		"nothing-on-github":   {set: func(_ *fakeSTS, o *Options) { o.Roles, o.Getenv = nil, gitHubHosted }},
		"keys-denied":         {set: withKeys, refusal: refusal{http.StatusForbidden, "AccessDenied", "User: arn:aws:iam::111122223333:user/ci is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/deploy"}},
		"keys-unknown":        {set: withKeys, refusal: refusal{http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."}},
		"keys-wrong-secret":   {set: withKeys, refusal: refusal{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature does not match: very-secret-key, very-secret-token"}},
		"keys-expired":        {set: withKeys, refusal: refusal{http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"}},
		"keys-without-a-role": {set: func(f *fakeSTS, o *Options) { withKeys(f, o); o.Roles, f.caller = nil, "!InvalidClientTokenId" }},
		"secret-key-missing":  {set: func(_ *fakeSTS, o *Options) { o.AccessKeyID = "AKIA0EXAMPLE" }},
		"access-key-missing":  {set: func(_ *fakeSTS, o *Options) { o.SecretAccessKey = "very-secret-key" }},
		"session-token-alone": {set: func(_ *fakeSTS, o *Options) { o.SessionToken = "very-secret-token" }},
		"no-region":           {set: func(_ *fakeSTS, o *Options) { o.Region = "" }},
		"bad-region":          {set: func(_ *fakeSTS, o *Options) { o.Region = "eu west" }},
		"duration-too-short":  {set: func(_ *fakeSTS, o *Options) { o.Duration = time.Minute }},
		"not-a-role":          {set: func(_ *fakeSTS, o *Options) { o.Roles = []string{"arn:aws:iam::111122223333:user/deploy"} }},
		"not-an-arn":          {set: func(_ *fakeSTS, o *Options) { o.Roles = []string{"arn:aws:iam"} }},
		"not-a-name":          {set: func(_ *fakeSTS, o *Options) { o.Roles = []string{"role with blanks"} }},
	}
	maps.Copy(tests, roleRefusals(t))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { checkRefusal(t, name, test) })
		})
	}
}

func checkRefusal(t *testing.T, name string, test refusalCase) {
	t.Helper()
	fake, opts := newFake()
	if test.refusal.Status != 0 {
		fake.refusals, fake.forever = []refusal{test.refusal}, true
	}
	if test.set != nil {
		test.set(fake, &opts)
	}
	start := time.Now()
	_, err := Open(t.Context(), opts)
	took := time.Since(start)
	if err == nil {
		t.Fatal("no error")
	}
	faults := problem.All("", err)
	if len(faults) != 1 || faults[0].Op == "" {
		t.Fatalf("error is not one problem: %v", err)
	}
	fault := faults[0]
	if limit := 10 * time.Second; test.refusal.Code == "AccessDenied" && took > limit {
		t.Errorf("a refusal took %s, want less than %s", took, limit)
	}
	for _, secret := range fake.masked {
		if all := fault.Error() + strings.Join(append(fake.notices, fault.Detail...), " "); strings.Contains(all, secret) {
			t.Errorf("the secret %q is in: %s", secret, all)
		}
	}
	golden(t, name, fmt.Sprintf("%d requests for a role, %d ID tokens, over within %s\n", count(fake), fake.minted, rough(took)), fault)
}

func golden(t *testing.T, name, outcome string, fault *problem.Error) {
	t.Helper()
	got := outcome + "-- message --\n" + fault.Error() + "\n"
	if len(fault.Detail) > 0 {
		got += "-- detail --\n" + strings.Join(fault.Detail, "\n") + "\n"
	}
	path := filepath.Join("testdata", name+".txtar")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, string(want)); diff != "" {
		t.Errorf("%s (-got +want):\n%s", path, diff)
	}
}

func count(fake *fakeSTS) int {
	n := 0
	for _, r := range fake.requests {
		if strings.HasPrefix(r.action, "AssumeRole") {
			n++
		}
	}
	return n
}

// rough bounds a time that holds jitter.
func rough(took time.Duration) time.Duration {
	for _, bound := range []time.Duration{0, 10 * time.Second, 2 * time.Minute} {
		if took <= bound {
			return bound
		}
	}
	return time.Hour
}

// errReason is why there is no ID token, by who looked for it.
func errReason() error {
	return &problem.Error{Op: "request ID token", Err: errors.New("no"), Fix: "Do as the runner says."}
}

func noToken(err error) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) { return "", err }
}

func gitHubHosted(name string) string {
	return map[string]string{"RUNNER_ENVIRONMENT": "github-hosted"}[name]
}

// deadNetwork resolves no name.
type deadNetwork struct{}

func (deadNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: req.URL.Host, IsNotFound: true}
}

// silentNetwork never answers.
type silentNetwork struct{}

func (silentNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestWhatPassesIsTriedAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		refusals []refusal
		notices  int
		want     string // the first notice
	}{
		"verification key": {[]refusal{{http.StatusBadRequest, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"}}, 1, ""},
		"IAM spreads the role": {[]refusal{
			{http.StatusForbidden, "AccessDenied", "Not authorized"},
			{http.StatusForbidden, "AccessDenied", "Not authorized"},
		}, 2, "assume role arn:aws:iam::111122223333:role/deploy: AccessDenied: Not authorized (request 11-22); a new role or policy may take a moment to arrive everywhere; trying again in 2s"},
		"old token, then throttled, then broken": {[]refusal{
			{http.StatusBadRequest, "ExpiredTokenException", "Token expired"},
			{http.StatusBadRequest, "Throttling", "Rate exceeded"},
			{http.StatusInternalServerError, "InternalFailure", "oops"},
			{http.StatusBadGateway, "", ""},
		}, 4, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake, opts := newFake()
				fake.refusals = test.refusals
				if _, err := Open(t.Context(), opts); err != nil {
					t.Fatal(err)
				}
				if test.want != "" && fake.notices[0] != test.want {
					t.Errorf("notice is %q, want %q", fake.notices[0], test.want)
				}
				if len(fake.notices) != test.notices || fake.minted != test.notices+1 {
					t.Errorf("%d notices and %d ID tokens, want %d and %d: %q", len(fake.notices), fake.minted, test.notices, test.notices+1, fake.notices)
				}
			})
		})
	}
}
