package step_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/towline/towline/internal/emulator"
)

// motoAWS is moto's server, an independent stand-in for AWS, in a process of its
// own. What it does not have is played beside it: GitHub's token issuer by the
// emulator, and ECR's registry by go-containerregistry's.
type motoAWS struct {
	address  string
	wire     http.Transport
	github   *emulator.Cloud
	registry *otherRegistry

	mu     sync.Mutex
	logins map[string]bool
}

// startMoto starts moto from the folder that TOWLINE_MOTO names, into which
// .ci/run installs it.
func startMoto(t *testing.T) *motoAWS {
	t.Helper()
	folder := os.Getenv("TOWLINE_MOTO") //nolint:forbidigo // tests are started from a shell
	if folder == "" {
		if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
			t.Fatal("TOWLINE_CI=1 wants the tests against moto to run: set TOWLINE_MOTO")
		}
		t.Skip("TOWLINE_MOTO names no folder with moto (pip install --target FOLDER moto flask flask-cors)")
	}
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &motoAWS{
		address:  listener.Addr().String(),
		github:   emulator.New(emulator.Options{Region: "eu-central-1", Key: issuerKey()}),
		registry: newOtherRegistry(t, "123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
		logins:   map[string]bool{},
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(m.address)
	var log bytes.Buffer
	server := exec.CommandContext(t.Context(), "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	server.Env = append(server.Environ(), "PYTHONPATH="+folder, "MOTO_ECS_SERVICE_RUNNING=2")
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Logf("moto: %s", lastLines(log.String(), 20))
		}
	})
	m.await(t)
	return m
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// await waits until moto answers.
func (m *motoAWS) await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("moto did not start within 2 minutes"))
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.address+"/moto-api/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := m.wire.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// RoundTrip sends what is for AWS to moto, under the name by which moto knows
// the service.
func (m *motoAWS) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	switch {
	case strings.Contains(host, ".dkr.ecr."):
		if user, password, ok := req.BasicAuth(); ok {
			m.mu.Lock()
			m.logins[user+":"+password] = true
			m.mu.Unlock()
		}
		return m.registry.roundTrip(req)
	case strings.HasSuffix(host, ".amazonaws.com"):
		sent := req.Clone(req.Context())
		sent.Host = req.URL.Host
		sent.URL.Scheme, sent.URL.Host = "http", m.address
		return m.wire.RoundTrip(sent)
	default:
		return m.github.RoundTripper().RoundTrip(req)
	}
}

func (m *motoAWS) config() aws.Config {
	return aws.Config{
		Region: "eu-central-1", HTTPClient: &http.Client{Transport: m},
		Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
	}
}

// prepare makes what a user has before the first deployment.
func (m *motoAWS) prepare(t *testing.T) {
	t.Helper()
	config := m.config()
	_, err := iam.NewFromConfig(config).CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("deploy"), AssumeRolePolicyDocument: aws.String(m.github.TrustGitHub("repo:acme/shop:ref:refs/heads/main")),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ecr.NewFromConfig(config).CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: aws.String("shop")}); err != nil {
		t.Fatal(err)
	}
	client := ecs.NewFromConfig(config)
	if _, err = client.CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: aws.String("prod")}); err != nil {
		t.Fatal(err)
	}
	_, err = client.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("web"), NetworkMode: ecstypes.NetworkModeAwsvpc, Cpu: aws.String("256"), Memory: aws.String("512"),
		RequiresCompatibilities: []ecstypes.Compatibility{ecstypes.CompatibilityFargate},
		ContainerDefinitions: []ecstypes.ContainerDefinition{
			{Name: aws.String("app"), Image: aws.String("123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v1"), Essential: aws.Bool(true)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateService(t.Context(), &ecs.CreateServiceInput{
		Cluster: aws.String("prod"), ServiceName: aws.String("web"), TaskDefinition: aws.String("web:1"), DesiredCount: aws.Int32(2),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The whole step with moto as AWS: the role is assumed, the image is pushed where
// ECR's API says, the task definition registered and the service moved to it.
func TestMoto(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("building keeps owners, which needs root")
	}
	m := startMoto(t)
	m.prepare(t)
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	writeFile(t, filepath.Join(workspace, "Dockerfile"), []byte("FROM scratch\nCOPY hello.txt /\n"))
	writeFile(t, filepath.Join(workspace, "hello.txt"), []byte("hello\n"))
	w := &world{cloud: m.github, env: environment(dir, workspace)}
	w.env["ACTIONS_ID_TOKEN_REQUEST_URL"], w.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = m.github.IDTokenRequest("")
	for name, value := range defaults() {
		w.env["INPUT_"+strings.ToUpper(name)] = value
	}
	w.through = m
	// moto makes a deployment only where one is forced.
	w.env["INPUT_FORCE-NEW-DEPLOYMENT"] = "true"
	if code := w.run(t); code != 0 {
		t.Fatalf("got exit code %d, want 0:\n%s", code, w.log.String())
	}
	// It has no service deployments, and answers with a page of HTML.
	if log := w.log.String(); !strings.Contains(log, "ecs:ListServiceDeployments does not work here: the deployment is followed by its rollout state") {
		t.Errorf("the log does not say how the deployment is followed:\n%s", log)
	}
	m.checkDeployed(t, w)
}

// checkDeployed holds what moto says now against the step's outputs.
func (m *motoAWS) checkDeployed(t *testing.T, w *world) {
	t.Helper()
	outputs, err := os.ReadFile(w.env["GITHUB_OUTPUT"])
	if err != nil {
		t.Fatal(err)
	}
	client := ecs.NewFromConfig(m.config())
	services, err := client.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("prod"), Services: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	arn := aws.ToString(services.Services[0].TaskDefinition)
	if !strings.HasSuffix(arn, "task-definition/web:2") || !strings.Contains(string(outputs), arn) {
		t.Errorf("the service runs %s, want web:2, as the outputs say:\n%s", arn, outputs)
	}
	definition, err := client.DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn})
	if err != nil {
		t.Fatal(err)
	}
	image := aws.ToString(definition.TaskDefinition.ContainerDefinitions[0].Image)
	repository, digest, _ := strings.Cut(image, "@")
	if repository != "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v2" || !strings.Contains(string(outputs), image) {
		t.Errorf("the task definition has image %s, want shop:v2 with a digest, as the outputs say:\n%s", image, outputs)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/v2/shop/manifests/v2", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err = resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if got := resp.Header.Get("Docker-Content-Digest"); got != digest {
		t.Errorf("the registry has %s, want %s", got, digest)
	}
	token, err := ecr.NewFromConfig(m.config()).GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	login, err := base64.StdEncoding.DecodeString(aws.ToString(token.AuthorizationData[0].AuthorizationToken))
	if err != nil || len(m.logins) != 1 || !m.logins[string(login)] {
		t.Errorf("the registry saw the logins %v, want moto's %s (%v)", m.logins, login, err)
	}
}
