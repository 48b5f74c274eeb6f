package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

const definition = `{"family":"web","networkMode":"awsvpc","cpu":"256","memory":"512","requiresCompatibilities":["FARGATE"],
	"containerDefinitions":[{"name":"web","image":"docker.io/library/web:1","futureMember":{"a":[1,"x"]},
	"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"/app","awslogs-region":"us-east-1","awslogs-stream-prefix":"web"}}}],
	"tags":[{"key":"team","value":"shop"}],"someFutureField":{"deep":true}}`

// TestDeployOnTheEmulator goes the whole way, from what the service runs to
// the end of the deployment, against a scheduler that is not scripted.
func TestDeployOnTheEmulator(t *testing.T) {
	t.Parallel()
	crash := emulator.Behaviour{Logs: []string{"no DATABASE_URL"}, Exit: &emulator.Exit{Code: 3}}
	tests := map[string]struct {
		breaker *emulator.CircuitBreaker
		desired int
		opts    deploy.Options
		next    emulator.Behaviour // of the new revision's tasks
		image   string             // instead of a good one
		denied  []string
		faults  []emulator.Fault
		after   map[time.Duration]func(t *testing.T, other *ecs.Client)
		status  deploy.Status
		fails   []string
		ends    string // what the service runs at the end; default: ...:2
		named   string // in the summary of every failed task
	}{
		"success":             {desired: 2, status: deploy.StatusSucceeded},
		"success, no tasks":   {status: deploy.StatusSucceeded},
		"success, slow start": {desired: 1, next: emulator.Behaviour{StartDelay: 4 * time.Minute}, status: deploy.StatusSucceeded},
		"success without the reads": {
			desired: 2, denied: []string{"ListServiceDeployments", "DescribeServiceDeployments", "DescribeServiceRevisions", "ListTasks"},
			status: deploy.StatusSucceeded,
		},
		"success where the reads always fail": {
			desired: 2, status: deploy.StatusSucceeded,
			faults: []emulator.Fault{{Action: "ListServiceDeployments", Kind: emulator.Internal, Times: -1}, {Action: "ListTasks", Kind: emulator.Unavailable, Times: -1}},
		},
		"success in spite of faults": {
			desired: 2, status: deploy.StatusSucceeded,
			faults: []emulator.Fault{
				{Action: "UpdateService", Kind: emulator.Throttle, Times: 2},
				{Action: "RegisterTaskDefinition", Kind: emulator.Reset},
				{Action: "DescribeServices", Kind: emulator.Unavailable, Skip: 3, Times: 3},
				{Action: "DescribeServiceDeployments", Kind: emulator.CutAnswer, Bytes: 30},
				{Action: "ListServiceDeployments", Kind: emulator.Throttle, Times: 4},
				{Action: "DescribeTaskDefinition", Kind: emulator.Internal},
			},
		},
		"update's answer is lost": {desired: 1, faults: []emulator.Fault{{Action: "UpdateService", Kind: emulator.Lost}}, status: deploy.StatusSucceeded},
		"crash, breaker rolls back": {
			desired: 1, breaker: &emulator.CircuitBreaker{Enable: true, Rollback: true}, next: crash,
			status: deploy.StatusRolledBack, fails: []string{"circuit breaker", "exit code 3"}, ends: "web:1", named: "exit code 3",
		},
		"crash, breaker rolls back, without the reads": {
			desired: 1, breaker: &emulator.CircuitBreaker{Enable: true, Rollback: true}, next: crash, denied: []string{"ListServiceDeployments"},
			status: deploy.StatusRolledBack, fails: []string{"exit code 3"}, ends: "web:1", named: "exit code 3",
		},
		"crash, breaker rolls back, where the reads always fail": {
			desired: 1, breaker: &emulator.CircuitBreaker{Enable: true, Rollback: true}, next: crash, faults: []emulator.Fault{{Action: "*ServiceDeployments", Kind: emulator.Internal, Times: -1}},
			status: deploy.StatusRolledBack, fails: []string{"exit code 3"}, ends: "web:1", named: "exit code 3",
		},
		"crash, breaker without rollback": {
			desired: 1, breaker: &emulator.CircuitBreaker{Enable: true}, next: crash,
			status: deploy.StatusFailed, fails: []string{"exit code 3", "To go back by hand"},
		},
		"crash, breaker without rollback, ours": {
			desired: 1, breaker: &emulator.CircuitBreaker{Enable: true}, next: crash, opts: deploy.Options{RollbackOnFailure: true},
			status: deploy.StatusRolledBack, fails: []string{"exit code 3", "rolled back to web:1"}, ends: "web:1",
		},
		"crash, no breaker": {desired: 2, next: crash, status: deploy.StatusFailed, fails: []string{"tasks of this deployment failed and none stays up", "exit code 3"}},
		"crash, no breaker, rolled back": {
			desired: 2, next: crash, opts: deploy.Options{RollbackOnFailure: true},
			status: deploy.StatusRolledBack, fails: []string{"exit code 3"}, ends: "web:1", named: "exit code 3",
		},
		"crash, no breaker, rolled back without the reads": {
			desired: 2, next: crash, opts: deploy.Options{RollbackOnFailure: true},
			denied: []string{"ListServiceDeployments", "DescribeServiceDeployments", "StopServiceDeployment"},
			status: deploy.StatusRolledBack, fails: []string{"exit code 3"}, ends: "web:1",
		},
		"crash after a while, no breaker": {
			desired: 1, next: emulator.Behaviour{Exit: &emulator.Exit{After: 20 * time.Second, Code: 137, Reason: "OutOfMemoryError: Container killed due to memory usage"}, HealthyAfter: time.Minute},
			opts: deploy.Options{RollbackOnFailure: true}, status: deploy.StatusRolledBack, fails: []string{"out of memory"}, ends: "web:1", named: "out of memory",
		},
		"unhealthy, no breaker": {
			desired: 1, next: emulator.Behaviour{Health: emulator.Failing}, opts: deploy.Options{RollbackOnFailure: true},
			status: deploy.StatusRolledBack, fails: []string{"health check"}, ends: "web:1", named: "health check",
		},
		"secret that is not there": {
			desired: 1, status: deploy.StatusFailed, fails: []string{"secret"}, named: "secret",
			next: emulator.Behaviour{FailToStart: "ResourceInitializationError: unable to pull secrets or registry auth: failed to fetch secret x from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret."},
		},
		"image that is not there": {
			desired: 1, image: "123456789012.dkr.ecr.us-east-1.amazonaws.com/web:9", opts: deploy.Options{RollbackOnFailure: true},
			status: deploy.StatusRolledBack, fails: []string{"the image cannot be pulled"}, ends: "web:1", named: "the image cannot be pulled",
		},
		"never healthy": {
			desired: 1, next: emulator.Behaviour{Health: emulator.Undecided}, opts: deploy.Options{WaitLimit: 5 * time.Minute},
			status: deploy.StatusTimedOut, fails: []string{"wait-for-minutes", "goes on", "aws ecs stop-service-deployment"},
		},
		"never healthy, rolled back": {
			desired: 1, next: emulator.Behaviour{Health: emulator.Undecided}, opts: deploy.Options{WaitLimit: 5 * time.Minute, RollbackOnFailure: true},
			status: deploy.StatusRolledBack, fails: []string{"wait-for-minutes"}, ends: "web:1",
		},
		"superseded": {
			desired: 1, next: emulator.Behaviour{StartDelay: 5 * time.Minute}, after: map[time.Duration]func(*testing.T, *ecs.Client){time.Minute: updateTo("web:1")},
			status: deploy.StatusSuperseded, fails: []string{"was superseded"}, ends: "web:1",
		},
		"superseded, without the reads": {
			desired: 1, next: emulator.Behaviour{StartDelay: 5 * time.Minute}, after: map[time.Duration]func(*testing.T, *ecs.Client){time.Minute: updateTo("web:1")},
			denied: []string{"ListServiceDeployments"}, status: deploy.StatusSuperseded, fails: []string{"was superseded"}, ends: "web:1",
		},
		"rolled back by somebody": {
			desired: 1, next: emulator.Behaviour{StartDelay: 5 * time.Minute}, after: map[time.Duration]func(*testing.T, *ecs.Client){time.Minute: stop},
			status: deploy.StatusRolledBack, fails: []string{"did not succeed"}, ends: "web:1",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := emulator.New(emulator.Options{})
				cloud.AddUser("AKIAIOSFODNN7EXAMPLE", "secret")
				cloud.AddLogGroup("/app")
				cloud.AddRepository(emulator.Repository{Name: "web"})
				arn, err := cloud.AddService(emulator.Service{Cluster: "shop", Name: "web", TaskDefinition: definition, DesiredCount: test.desired, CircuitBreaker: test.breaker})
				if err != nil {
					t.Fatal(err)
				}
				cloud.Behave(func(i emulator.TaskInfo) emulator.Behaviour {
					if i.Revision == 1 {
						return emulator.Behaviour{}
					}
					return test.next
				})
				for _, action := range test.denied {
					cloud.Fail(emulator.Fault{Action: action, Kind: emulator.Denied, Times: -1})
				}
				for _, fault := range test.faults {
					cloud.Fail(fault)
				}
				config := aws.Config{
					Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
					HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
				}
				for after, do := range test.after {
					time.AfterFunc(after, func() { do(t, ecs.NewFromConfig(config)) })
				}
				var events []deploy.Event
				test.opts.Config, test.opts.Service, test.opts.Wait = config, arn, true
				test.opts.Events = func(e deploy.Event) { events = append(events, e) }
				out, err := deployNext(t, deploy.New(test.opts), test.image)
				check(t, out, err, test.status, test.fails)
				for _, e := range events {
					if e, failed := e.(deploy.TaskFailed); failed && !strings.Contains(e.Summary, test.named) {
						t.Errorf("task %s: summary %q, want %q in it", e.TaskID, e.Summary, test.named)
					}
				}
				service, err := deploy.New(test.opts).Service(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if test.ends == "" {
					test.ends = "web:2"
				}
				if !strings.HasSuffix(service.TaskDefinitionARN, test.ends) {
					t.Errorf("the service ends on %s, want %s", service.TaskDefinitionARN, test.ends)
				}
				if t.Failed() {
					for _, e := range events {
						t.Logf("%T %+v", e, e)
					}
					t.Logf("%+v\n%v", out, err)
				}
			})
		})
	}
}

// deployNext goes from what the service runs to another image of it.
func deployNext(t *testing.T, client *deploy.Client, image string) (deploy.Outcome, error) {
	t.Helper()
	return client.Deploy(t.Context(), registerImage(t, client, image))
}

// registerNext registers what the service is to run next.
func registerNext(t *testing.T, client *deploy.Client) string {
	t.Helper()
	return registerImage(t, client, "")
}

func registerImage(t *testing.T, client *deploy.Client, image string) string {
	t.Helper()
	service, err := client.Service(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.TaskDefinition(t.Context(), service.TaskDefinitionARN)
	if err != nil {
		t.Fatal(err)
	}
	current, err := taskdef.Described(answer)
	if err != nil {
		t.Fatal(err)
	}
	if image == "" {
		image = "docker.io/library/web:2"
	}
	wanted, err := current.WithImages(map[string]string{"web": image})
	if err != nil {
		t.Fatal(err)
	}
	arn, changed, err := client.Register(t.Context(), current, wanted, service.TaskDefinitionARN)
	if err != nil || !changed {
		t.Fatalf("Register gave %q, %t, %v", arn, changed, err)
	}
	return arn
}

func check(t *testing.T, out deploy.Outcome, err error, status deploy.Status, parts []string) {
	t.Helper()
	if out.Status != status {
		t.Errorf("status %q (%s), want %q", out.Status, out.Reason, status)
	}
	if len(parts) == 0 {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	if e, ok := errors.AsType[*problem.Error](err); !ok || e.Fix == "" {
		t.Errorf("error %v, want a problem with a remedy", err)
	}
	for _, part := range parts {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("error %v, want %q in it", err, part)
		}
	}
}

// updateTo is somebody else's update.
func updateTo(definition string) func(t *testing.T, other *ecs.Client) {
	return func(t *testing.T, other *ecs.Client) {
		t.Helper()
		_, err := other.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web"), TaskDefinition: &definition})
		if err != nil {
			t.Error(err)
		}
	}
}

// stop is somebody else's wish to go back.
func stop(t *testing.T, other *ecs.Client) {
	t.Helper()
	list, err := other.ListServiceDeployments(t.Context(), &ecs.ListServiceDeploymentsInput{Cluster: aws.String("shop"), Service: aws.String("web")})
	if err != nil {
		t.Error(err)
		return
	}
	_, err = other.StopServiceDeployment(context.WithoutCancel(t.Context()), &ecs.StopServiceDeploymentInput{
		ServiceDeploymentArn: list.ServiceDeployments[0].ServiceDeploymentArn, StopType: "ROLLBACK",
	})
	if err != nil {
		t.Error(err)
	}
}

func TestArchitectures(t *testing.T) {
	t.Parallel()
	cloud := emulator.New(emulator.Options{})
	cloud.AddUser("AKIAIOSFODNN7EXAMPLE", "secret")
	cloud.AddCluster("empty")
	for _, architecture := range []string{"x86_64", "arm64", "x86_64"} {
		cloud.AddInstance("mixed", architecture)
	}
	for cluster, want := range map[string]string{"empty": "[]", "mixed": "[ARM64 X86_64]"} {
		c := deploy.New(deploy.Options{Cluster: cluster, Service: "web", Config: aws.Config{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
			HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
		}})
		got, err := c.Architectures(t.Context())
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, %v, want %s", cluster, got, err, want)
		}
	}
}
