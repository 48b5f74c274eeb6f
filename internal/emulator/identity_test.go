package emulator_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
)

const notAuthorized = "Not authorized to perform sts:AssumeRoleWithWebIdentity"

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		job      emulator.Job
		trust    string // replaces the trust on repo:acme/shop:*
		role     string
		audience string
		seconds  int32
		late     time.Duration
		prepare  func(*world)
		mangle   func(token string) string

		wantCode, wantText string
	}{
		"as it should be": {},
		"environment":     {job: emulator.Job{Environment: "production"}, trust: "repo:acme/shop:environment:production"},
		"immutable form":  {job: emulator.Job{ImmutableSubject: true}, trust: "repo:acme@7001/shop@90210:ref:refs/heads/main"},
		"old trust, immutable subject": {
			job: emulator.Job{ImmutableSubject: true}, wantCode: "AccessDenied", wantText: notAuthorized,
		},
		"other branch": {trust: "repo:acme/shop:ref:refs/heads/release", wantCode: "AccessDenied", wantText: notAuthorized},
		"no such role": {role: "arn:aws:iam::123456789012:role/other", wantCode: "AccessDenied", wantText: notAuthorized},
		"not an ARN":   {role: "this-is-not-an-arn-of-a-role", wantCode: "ValidationError", wantText: "this-is-not-an-arn-of-a-role is invalid"},
		"wrong audience": {
			audience: "https://github.com/acme", wantCode: "InvalidIdentityToken", wantText: "Incorrect token audience",
		},
		"no provider": {
			prepare:  func(w *world) { w.RemoveProvider("https://token.actions.githubusercontent.com") },
			wantCode: "InvalidIdentityToken",
			wantText: "No OpenIDConnect provider found in your account for https://token.actions.githubusercontent.com",
		},
		"old token": {late: 5 * time.Minute, wantCode: "ExpiredTokenException", wantText: "Token expired: current date/time "},
		"too long": {
			seconds: 7200, wantCode: "ValidationError", wantText: "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
		},
		"too short": {
			seconds: 60, wantCode: "ValidationError", wantText: "Value '60' at 'durationSeconds' failed to satisfy constraint",
		},
		"forged": {
			mangle:   func(token string) string { return token[:len(token)-8] + "AAAAAAAA" },
			wantCode: "InvalidIdentityToken", wantText: "signature",
		},
		"no token": {
			mangle:   func(string) string { return "nonsense" },
			wantCode: "InvalidIdentityToken", wantText: "The ID Token provided is not a valid JWT.",
		},
		"keys not fetched": {
			prepare: func(w *world) {
				w.Fail(emulator.Fault{Service: "sts", Error: &emulator.Error{
					Code: "InvalidIdentityToken", Message: "Couldn't retrieve verification key from your identity provider",
				}})
			},
			wantCode: "InvalidIdentityToken", wantText: "Couldn't retrieve verification key",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{Job: tt.job})
				if tt.trust == "" {
					tt.trust = "repo:acme/shop:*"
				}
				role, err := w.AddRole(emulator.Role{Name: "deploy", TrustPolicy: w.TrustGitHub(tt.trust)})
				if err != nil {
					t.Fatal(err)
				}
				if tt.prepare != nil {
					tt.prepare(w)
				}
				if tt.audience == "" {
					tt.audience = "sts.amazonaws.com"
				}
				token := w.idToken(t, tt.audience)
				if tt.mangle != nil {
					token = tt.mangle(token)
				}
				if tt.late > 0 {
					wait(t, tt.late)
				}
				if tt.role != "" {
					role = tt.role
				}
				if tt.seconds == 0 {
					tt.seconds = 3600
				}
				out, err := w.assume(t, role, token, tt.seconds)
				if tt.wantCode != "" {
					wantCode(t, err, tt.wantCode, tt.wantText)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := *out.Credentials.Expiration; !got.Equal(time.Now().Add(time.Hour)) {
					t.Errorf("got expiry %s", got)
				}
			})
		})
	}
}

func TestTrustPolicyRefused(t *testing.T) {
	t.Parallel()
	provider := "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
	statement := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":%q},"Action":"sts:AssumeRoleWithWebIdentity","Condition":%s}}`
	tests := map[string]string{
		"not JSON":         `{`,
		"empty":            `{}`,
		"anybody":          fmt.Sprintf(statement, provider, `{"StringEquals":{"token.actions.githubusercontent.com:aud":"sts.amazonaws.com"}}`),
		"wildcard":         fmt.Sprintf(statement, provider, `{"StringLike":{"token.actions.githubusercontent.com:sub":"*"}}`),
		"unknown operator": fmt.Sprintf(statement, provider, `{"StringIsh":{"token.actions.githubusercontent.com:sub":"repo:acme/shop:*"}}`),
	}
	for name, policy := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := emulator.New(emulator.Options{}).AddRole(emulator.Role{Name: "r", TrustPolicy: policy})
			if err == nil || !strings.Contains(err.Error(), "MalformedPolicyDocument") {
				t.Errorf("got %v, want MalformedPolicyDocument", err)
			}
		})
	}
}

func TestRoleChain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		first, err := w.AddRole(emulator.Role{Name: "ci", TrustPolicy: w.TrustGitHub("repo:acme/shop:*")})
		if err != nil {
			t.Fatal(err)
		}
		trust := fmt.Sprintf(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":%q},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x1"}}}]}`, first)
		second, err := w.AddRole(emulator.Role{Name: "target", TrustPolicy: trust, MaxSession: 12 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		out, err := w.assume(t, first, w.idToken(t, "sts.amazonaws.com"), 3600)
		if err != nil {
			t.Fatal(err)
		}
		w.use(credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken))
		in := &sts.AssumeRoleInput{RoleArn: &second, RoleSessionName: aws.String("hop")}
		_, err = w.sts.AssumeRole(t.Context(), in)
		wantCode(t, err, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/ci/towline-4711-1 is not authorized to perform: sts:AssumeRole on resource: "+second)
		in.ExternalId = aws.String("x1")
		if _, err = w.sts.AssumeRole(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		in.DurationSeconds = aws.Int32(7200)
		_, err = w.sts.AssumeRole(t.Context(), in)
		wantCode(t, err, "ValidationError", "1 hour session limit for roles assumed by role chaining")
	})
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		key, secret, token, region string

		late time.Duration
		ecs  string
		sts  string
	}{
		"unknown key":   {key: "AKIAUNKNOWN", secret: testSecret, ecs: "UnrecognizedClientException", sts: "InvalidClientTokenId"},
		"wrong secret":  {key: testKey, secret: "wrong", ecs: "InvalidSignatureException", sts: "SignatureDoesNotMatch"},
		"foreign token": {key: testKey, secret: testSecret, token: "x", ecs: "UnrecognizedClientException", sts: "InvalidClientTokenId"},
		"other region":  {key: testKey, secret: testSecret, region: "eu-west-1", ecs: "InvalidSignatureException", sts: "SignatureDoesNotMatch"},
		"no signature":  {ecs: "MissingAuthenticationTokenException", sts: "MissingAuthenticationToken"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				cfg := aws.Config{
					Region: "us-east-1", HTTPClient: &http.Client{Transport: w.RoundTripper()}, Credentials: aws.AnonymousCredentials{},
					Retryer: func() aws.Retryer { return aws.NopRetryer{} },
				}
				if tt.key != "" {
					cfg.Credentials = credentials.NewStaticCredentialsProvider(tt.key, tt.secret, tt.token)
				}
				if tt.region != "" {
					cfg.Region = tt.region
				}
				_, err := newECS(cfg).ListServices(t.Context(), &ecs.ListServicesInput{})
				wantCode(t, err, tt.ecs, "")
				_, err = sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
				wantCode(t, err, tt.sts, "")
			})
		})
	}
}

// TestSignedBody changes a request after it was signed.
func TestSignedBody(t *testing.T) {
	t.Parallel()
	w := newWorld(emulator.Options{})
	meddler := roundTrip(func(req *http.Request) (*http.Response, error) {
		req.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.DescribeClusters")
		return w.RoundTripper().RoundTrip(req)
	})
	cfg := aws.Config{
		Region: "us-east-1", HTTPClient: &http.Client{Transport: meddler}, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
	}
	_, err := newECS(cfg).ListServices(t.Context(), &ecs.ListServicesInput{})
	wantCode(t, err, "InvalidSignatureException", "The request signature we calculated does not match")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestPermissions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 1, nil)
		uri := w.AddRepository(emulator.Repository{Name: "web"})
		role, err := w.AddRole(emulator.Role{
			Name: "deploy", TrustPolicy: w.TrustGitHub("repo:acme/shop:*"),
			Policy: []string{"ecs:Describe*", "ecs:RegisterTaskDefinition", "ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability"},
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := w.assume(t, role, w.idToken(t, "sts.amazonaws.com"), 3600)
		if err != nil {
			t.Fatal(err)
		}
		w.use(credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken))
		w.describe(t)
		_, err = w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web")})
		wantCode(t, err, "AccessDeniedException", "User: arn:aws:sts::123456789012:assumed-role/deploy/towline-4711-1 is not authorized to perform: "+
			"ecs:UpdateService on resource: arn:aws:ecs:us-east-1:123456789012:service/shop/web because no identity-based policy allows the ecs:UpdateService action")
		_, err = w.ecr.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"web"}})
		wantCode(t, err, "AccessDeniedException", "on resource: arn:aws:ecr:us-east-1:123456789012:repository/web because")

		register := &ecs.RegisterTaskDefinitionInput{
			Family: aws.String("web"), ContainerDefinitions: container("web", "docker.io/library/web:1"),
			ExecutionRoleArn: aws.String("arn:aws:iam::123456789012:role/exec"),
		}
		_, err = w.ecs.RegisterTaskDefinition(t.Context(), register)
		wantCode(t, err, "AccessDeniedException", "iam:PassRole on resource: arn:aws:iam::123456789012:role/exec")

		wantRegistry(t, remote.Write(mustParse(t, uri+":1"), appImage(t, 1), w.remote(t, w.login(t))...), http.StatusForbidden,
			"DENIED", "is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:us-east-1:123456789012:repository/web")
		if got := len(w.Called("ecs", "UpdateService")); got != 1 {
			t.Errorf("got %d calls in the journal, want the denied one", got)
		}
	})
}

func TestIDTokenRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(emulator.Options{})
	w.Fail(emulator.Fault{Service: "oidc", Kind: emulator.Unavailable, Skip: 1})
	url, _ := w.IDTokenRequest("")
	for _, want := range []int{http.StatusUnauthorized, http.StatusServiceUnavailable} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.RoundTripper().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if resp.StatusCode != want {
			t.Errorf("got %d, want %d", resp.StatusCode, want)
		}
	}
}
