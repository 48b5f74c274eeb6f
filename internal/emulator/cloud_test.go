package emulator_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/towline/towline/internal/emulator"
)

// world is a cloud with one user, and the SDK's clients.
type world struct {
	*emulator.Cloud
	ecs  *ecs.Client
	ecr  *ecr.Client
	sts  *sts.Client
	logs *cloudwatchlogs.Client
}

const (
	testKey    = "AKIAIOSFODNN7EXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	webV1      = `{"family":"web","networkMode":"awsvpc","cpu":"256","memory":"512","requiresCompatibilities":["FARGATE"],
		"containerDefinitions":[{"name":"web","image":"docker.io/library/web:1","futureMember":{"a":[1,"x"]},
		"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"/app","awslogs-region":"us-east-1","awslogs-stream-prefix":"web"}}}],
		"tags":[{"key":"team","value":"shop"}],"someFutureField":{"deep":true}}`
)

// sharedKey saves each test from making its own.
var sharedKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newECS(cfg aws.Config) *ecs.Client { return ecs.NewFromConfig(cfg) }

func newWorld(opts emulator.Options) *world {
	if opts.Key == nil {
		opts.Key = sharedKey()
	}
	c := emulator.New(opts)
	c.AddUser(testKey, testSecret)
	c.AddLogGroup("/app")
	w := &world{Cloud: c}
	w.use(credentials.NewStaticCredentialsProvider(testKey, testSecret, ""))
	return w
}

// use makes the clients sign with other credentials.
func (w *world) use(provider aws.CredentialsProvider) {
	cfg := aws.Config{
		Region: "us-east-1", Credentials: provider, HTTPClient: &http.Client{Transport: w.RoundTripper()},
		Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
	w.ecs, w.ecr, w.sts, w.logs = ecs.NewFromConfig(cfg), ecr.NewFromConfig(cfg), sts.NewFromConfig(cfg), cloudwatchlogs.NewFromConfig(cfg)
}

// service adds the service web with that many tasks.
func (w *world) service(t *testing.T, desired int, breaker *emulator.CircuitBreaker) {
	t.Helper()
	if _, err := w.AddService(emulator.Service{
		Cluster: "shop", Name: "web", TaskDefinition: webV1, DesiredCount: desired, CircuitBreaker: breaker,
	}); err != nil {
		t.Fatal(err)
	}
}

// deploy registers another revision and updates the service to it.
func (w *world) deploy(t *testing.T) *ecstypes.Service {
	t.Helper()
	arn, err := w.RegisterTaskDefinition(webV1)
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web"), TaskDefinition: &arn})
	if err != nil {
		t.Fatal(err)
	}
	return out.Service
}

func (w *world) describe(t *testing.T) *ecstypes.Service {
	t.Helper()
	out, err := w.ecs.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("shop"), Services: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	return &out.Services[0]
}

// record describes the newest service deployment.
func (w *world) record(t *testing.T) *ecstypes.ServiceDeployment {
	t.Helper()
	list, err := w.ecs.ListServiceDeployments(t.Context(), &ecs.ListServiceDeploymentsInput{Cluster: aws.String("shop"), Service: aws.String("web")})
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.ecs.DescribeServiceDeployments(t.Context(), &ecs.DescribeServiceDeploymentsInput{
		ServiceDeploymentArns: []string{*list.ServiceDeployments[0].ServiceDeploymentArn},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &out.ServiceDeployments[0]
}

// wait lets virtual time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("waited"))
	defer cancel()
	<-ctx.Done()
}

// events lists the service's events, oldest first, without the identifiers.
func events(s *ecstypes.Service) []string {
	var out []string
	for _, e := range slices.Backward(s.Events) {
		out = append(out, *e.Message)
	}
	return out
}

func wantCode(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got %v, want the API error %s", err, code)
	}
	if api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %s: %s\nwant %s: %s", api.ErrorCode(), api.ErrorMessage(), code, message)
	}
}

// idToken asks for an ID token as the runner's toolkit does.
func (w *world) idToken(t *testing.T, audience string) string {
	t.Helper()
	url, bearer := w.IDTokenRequest("")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"&audience="+audience, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := w.RoundTripper().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("ID token: %v %s %s", err, resp.Status, body)
	}
	_, value, _ := strings.Cut(string(body), `"value":"`)
	return strings.TrimSuffix(value, `"}`)
}

func (w *world) assume(t *testing.T, role, token string, seconds int32) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	t.Helper()
	return w.sts.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &role, RoleSessionName: aws.String("towline-4711-1"), WebIdentityToken: &token, DurationSeconds: &seconds,
	})
}

func TestHappyPath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		role, err := w.AddRole(emulator.Role{Name: "deploy", TrustPolicy: w.TrustGitHub("repo:acme/shop:*")})
		if err != nil {
			t.Fatal(err)
		}
		w.service(t, 2, nil)

		got, err := w.assume(t, role, w.idToken(t, "sts.amazonaws.com"), 3600)
		if err != nil {
			t.Fatal(err)
		}
		w.use(credentials.NewStaticCredentialsProvider(*got.Credentials.AccessKeyId, *got.Credentials.SecretAccessKey, *got.Credentials.SessionToken))
		who, err := w.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		if err != nil {
			t.Fatal(err)
		}
		if want := "arn:aws:sts::123456789012:assumed-role/deploy/towline-4711-1"; *who.Arn != want {
			t.Errorf("got %s, want %s", *who.Arn, want)
		}

		updated := w.deploy(t)
		if n := len(updated.Deployments); n != 2 || *updated.Deployments[0].Status != "PRIMARY" {
			t.Errorf("got %d deployments, want the PRIMARY and the old one", n)
		}
		wait(t, 10*time.Second)
		s := w.describe(t)
		if n := len(s.Deployments); n != 1 || s.Deployments[0].RolloutState != "COMPLETED" || s.RunningCount != 2 {
			t.Errorf("got %d deployments, %s, %d running; want one that is COMPLETED with 2", n, s.Deployments[0].RolloutState, s.RunningCount)
		}
		for _, e := range events(s) {
			t.Log(e)
		}
		if r := w.record(t); r.Status != ecstypes.ServiceDeploymentStatusSuccessful {
			t.Errorf("got %s, want SUCCESSFUL", r.Status)
		}

		wait(t, time.Hour)
		_, err = w.ecs.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("shop"), Services: []string{"web"}})
		wantCode(t, err, "ExpiredTokenException", "The security token included in the request is expired")
		_, err = w.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		wantCode(t, err, "ExpiredToken", "expired")
	})
}
