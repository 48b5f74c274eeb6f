package step_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/towline/towline/internal/emulator"
)

const (
	userKey    = "AKIAIOSFODNN7EXAMPLE"
	userSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// issuerKey saves each world from making its own.
var issuerKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// world is what a scenario runs in.
type world struct {
	cloud  *emulator.Cloud
	env    map[string]string
	log    log
	others map[string]*otherRegistry
	// hosts answer in some way of their own.
	hosts map[string]roundTrip
	// through answers for everything, where it is set.
	through http.RoundTripper

	// errors is how many error annotations a failing run has.
	errors                int
	twice                 bool
	skipCalls             int
	cancelAt, supersedeAt string
	deploying             bool
	cancelledAt           time.Time
	stop                  func() // SIGINT, for the run that is under way
	// latency is how long each request takes.
	latency   time.Duration
	supersede func()

	tasks, oneOff emulator.Behaviour
	revisions     int
	only          string
	shown         []string
}

// settings is what the lines of a scenario's world set.
type settings struct {
	role       emulator.Role
	repository emulator.Repository
	service    emulator.Service
	taken      string
	pushed     []string
	others     []emulator.Service
	families   []string
}

// newWorld is an account in which the defaults work, changed by lines of
// "WORD VALUE". definition is what the service runs.
func newWorld(t *testing.T, env map[string]string, lines, definition string) *world {
	t.Helper()
	job := emulator.Job{Repository: env["GITHUB_REPOSITORY"], SHA: env["GITHUB_SHA"]}
	w := &world{
		cloud: emulator.New(emulator.Options{Region: "eu-central-1", Job: job, Key: issuerKey(), Pace: duration(t, lines, "pace"), ClockAhead: duration(t, lines, "clock-ahead")}), env: env,
		others: map[string]*otherRegistry{}, hosts: map[string]roundTrip{}, errors: 1,
	}
	w.env["ACTIONS_ID_TOKEN_REQUEST_URL"], w.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = w.cloud.IDTokenRequest("")
	w.cloud.AddUser(userKey, userSecret)
	w.cloud.AddLogGroup("/prod/web")
	switch strings.TrimSpace(definition) {
	case "":
		definition = runs
	case "everything":
		definition = everything
	}
	s := settings{
		role:       emulator.Role{Name: "deploy", TrustPolicy: w.cloud.TrustGitHub(job.Subject())},
		repository: emulator.Repository{Name: "shop"},
		service: emulator.Service{
			Cluster: "prod", Name: "web", TaskDefinition: definition, DesiredCount: 2,
			CircuitBreaker: &emulator.CircuitBreaker{Enable: true, Rollback: true},
		},
	}
	for line := range strings.Lines(lines) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		w.set(t, &s, word, value)
	}
	if _, err := w.cloud.AddRole(s.role); err != nil {
		t.Fatal(err)
	}
	uri := w.cloud.AddRepository(s.repository)
	if s.taken != "" {
		w.push(t, uri+":"+s.taken, "linux/amd64")
	}
	for _, platform := range s.pushed {
		w.push(t, uri+":"+strings.ReplaceAll(platform, "/", "-"), platform)
	}
	if _, err := w.cloud.AddService(s.service); err != nil {
		t.Fatal(err)
	}
	for _, family := range s.families {
		if _, err := w.cloud.RegisterTaskDefinition(strings.Replace(definition, `"family": "web"`, `"family": "`+family+`"`, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range s.others {
		if _, err := w.cloud.AddService(other); err != nil {
			t.Fatal(err)
		}
	}
	for range w.revisions {
		if _, err := w.cloud.RegisterTaskDefinition(definition); err != nil {
			t.Fatal(err)
		}
	}
	w.cloud.Behave(func(task emulator.TaskInfo) emulator.Behaviour {
		switch {
		case task.Service == "":
			return w.oneOff
		case task.Revision < 2, w.only != "" && task.Service != w.only:
			return emulator.Behaviour{}
		}
		return w.tasks
	})
	if w.deploying {
		w.deployAnother(t, definition)
		w.skipCalls = len(w.cloud.Calls())
	}
	w.supersede = func() { w.deployAnother(t, definition) }
	return w
}

// runs is what the service runs before: two containers, and members of a future
// that our SDK does not know.
const runs = `{"family": "web", "networkMode": "awsvpc", "cpu": "256", "memory": "512", "requiresCompatibilities": ["FARGATE"],
	"containerDefinitions": [
		{"name": "app", "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v1", "essential": true,
			"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/prod/web", "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "web"}}},
		{"name": "proxy", "image": "registry.example.com/proxy:1", "essential": false}
	],
	"tags": [{"key": "team", "value": "shop"}]}`

// set carries out one line of a scenario's world.
func (w *world) set(t *testing.T, s *settings, word, value string) {
	t.Helper()
	decode := func(into any) {
		if err := json.Unmarshal([]byte(value), into); err != nil {
			t.Fatalf("world: %s %s: %v", word, value, err)
		}
	}
	switch word {
	case "trusts": // the role trusts this subject
		s.role.TrustPolicy = w.cloud.TrustGitHub(value)
	case "policy": // the role may do these actions, a JSON list
		decode(&s.role.Policy)
	case "permissions": // the role's policy, a JSON document
		s.role.PolicyDocument = value
	case "trust": // the role's trust policy, a JSON document
		s.role.TrustPolicy = value
	case "service-name": // the service has another name
		s.service.Name = value
	case "repository-name": // the repository has another name
		s.repository.Name = value
	case "also": // another service, a JSON emulator.Service
		var other emulator.Service
		decode(&other)
		s.others = append(s.others, other)
	case "family": // and another family, like web's
		s.families = append(s.families, value)
	case "only": // the tasks of this service alone behave as "tasks" says
		w.only = value
	case "everything": // what the definition of everything_test.go names is there
		w.nameEverything(t)
	case "secret": // a JSON emulator.Secret is there
		var secret emulator.Secret
		decode(&secret)
		w.cloud.AddSecret(secret)
	case "task-role": // a role for tasks is there
		if _, err := w.cloud.AddRole(emulator.Role{Name: value, TrustPolicy: emulator.TrustTasks()}); err != nil {
			t.Fatal(err)
		}
	case "service-settings": // further members of the service, a JSON object
		s.service.Settings = value
	case "desired":
		decode(&s.service.DesiredCount)
	case "instance": // the cluster has an instance of this architecture
		w.cloud.AddInstance("prod", value)
	case "deploying": // a deployment is under way
		w.deploying = true
	case "no-id-token":
		delete(w.env, "ACTIONS_ID_TOKEN_REQUEST_URL")
		delete(w.env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	case "no-provider":
		w.cloud.RemoveProvider("https://token.actions.githubusercontent.com")
	case "immutable-tags": // but for those of a pattern
		s.repository.ImmutableTags = true
		if value != "" {
			s.repository.Exclusions = []string{value}
		}
	case "taken": // this tag names an image already
		s.taken = value
	case "pushed": // an image for this platform was pushed before
		s.pushed = append(s.pushed, value)
	case "deployment-configuration": // of the service, a JSON object
		s.service.DeploymentConfiguration = value
	case "no-circuit-breaker":
		s.service.CircuitBreaker = nil
	case "code-deploy": // CodeDeploy deploys the service, a JSON emulator.DeploymentGroup
		var group emulator.DeploymentGroup
		decode(&group)
		group.Cluster, group.Service = "prod", "web"
		w.cloud.AddDeploymentGroup(group)
		s.service.Settings = `{"deploymentController": {"type": "CODE_DEPLOY"}, "loadBalancers": [{"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/1", "containerName": "app", "containerPort": 8080}]}`
	case "tasks": // how the tasks of later revisions behave, a JSON emulator.Behaviour
		var b emulator.Behaviour
		decode(&b)
		w.tasks = b
	case "one-off-task": // how a task of run-task behaves, a JSON emulator.Behaviour
		decode(&w.oneOff)
	case "network": // the service's tasks have one, and Fargate; further members of the service may follow
		s.service.Settings = `{"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}},
			"launchType": "FARGATE", "platformVersion": "1.4.0"` + value + `}`
	case "revisions": // so many further ones that nobody runs
		decode(&w.revisions)
	case "shows": // the requests of this action are in want/changes
		w.shown = append(w.shown, value)
	case "temp": // there is a folder for files of later steps
		w.env["RUNNER_TEMP"] = filepath.Dir(w.env["GITHUB_OUTPUT"])
	case "fault": // a JSON emulator.Fault
		var f emulator.Fault
		decode(&f)
		w.cloud.Fail(f)
	case "registry": // another registry at this host, with the image base:1
		w.others[value] = newOtherRegistry(t, value)
	case "base": // the image base:1 of every other registry is busybox
		for host, other := range w.others {
			other.push(t, host+"/base:1", busybox(t))
		}
	case "env":
		name, v, _ := strings.Cut(value, "=")
		w.env[name] = v
	case "twice": // the outcome is that of a second run
		w.twice = true
	case "errors":
		decode(&w.errors)
	case "cancel-at": // SIGINT when the log has this text
		w.cancelAt = value
	case "supersede-at": // somebody else deploys when the log has this text
		w.supersedeAt = value
	default:
		if !w.setCredentials(t, s, word, value) && !w.setRegistries(t, s, word, value) {
			t.Fatalf("world: unknown word %q", word)
		}
	}
}

// reset forgets what a first run left, but not what it did to the account.
func (w *world) reset(t *testing.T) {
	t.Helper()
	w.skipCalls = len(w.cloud.Calls())
	w.log.reset()
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		if err := os.Remove(w.env[name]); err != nil {
			t.Fatal(err)
		}
	}
}

// deployAnother updates the service to a task definition of its own.
func (w *world) deployAnother(t *testing.T, definition string) {
	t.Helper()
	arn, err := w.cloud.RegisterTaskDefinition(definition)
	if err != nil {
		t.Fatal(err)
	}
	client := ecs.New(ecs.Options{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
		HTTPClient: &http.Client{Transport: w.cloud.RoundTripper()},
	})
	_, err = client.UpdateService(context.WithoutCancel(t.Context()), &ecs.UpdateServiceInput{Cluster: aws.String("prod"), Service: aws.String("web"), TaskDefinition: &arn})
	if err != nil {
		t.Error(err)
	}
}

// transport answers for the account and for the other registries.
func (w *world) transport() http.RoundTripper {
	if w.through != nil {
		return w.through
	}
	account := w.cloud.RoundTripper()
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if err := w.travel(req.Context()); err != nil {
			return nil, err
		}
		if other := w.elsewhere(req.URL.Host); other != nil {
			return other(req)
		}
		return account.RoundTrip(req)
	})
}

// travel takes as long as a request does.
func (w *world) travel(ctx context.Context) error {
	if w.latency == 0 {
		return nil
	}
	timer := time.NewTimer(w.latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
