package deploy_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

// arena is a service in an account of its own, and a client that deploys to it.
type arena struct {
	cloud  *emulator.Cloud
	opts   deploy.Options
	other  *ecs.Client // somebody else
	events []deploy.Event
	next   string // a task definition that the service does not run
}

const accessKey = "AKIAIOSFODNN7EXAMPLE"

func newArena(t *testing.T, cloud emulator.Options, service emulator.Service, opts deploy.Options) *arena {
	t.Helper()
	a := &arena{cloud: emulator.New(cloud), opts: opts}
	a.cloud.AddUser(accessKey, "secret")
	a.cloud.AddLogGroup("/app")
	service.Cluster, service.Name, service.TaskDefinition = "shop", "web", definition
	arn, err := a.cloud.AddService(service)
	if err != nil {
		t.Fatal(err)
	}
	if a.next, err = a.cloud.RegisterTaskDefinition(strings.Replace(definition, "web:1", "web:2", 1)); err != nil {
		t.Fatal(err)
	}
	a.opts.Service = arn
	a.opts.Config = aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
		HTTPClient: &http.Client{Transport: a.cloud.RoundTripper()},
	}
	a.opts.Events = func(e deploy.Event) { a.events = append(a.events, e) }
	a.other = ecs.NewFromConfig(a.opts.Config)
	return a
}

// failing lets the tasks of the new revision behave so.
func (a *arena) failing(b emulator.Behaviour) {
	a.cloud.Behave(func(i emulator.TaskInfo) emulator.Behaviour {
		if i.Revision == 1 {
			return emulator.Behaviour{}
		}
		return b
	})
}

func (a *arena) deploy(ctx context.Context) (deploy.Outcome, error) {
	return deploy.New(a.opts).Deploy(ctx, a.next)
}

// runs is what the service runs or is being moved to.
func (a *arena) runs(t *testing.T) string {
	t.Helper()
	opts := a.opts
	opts.Wait = false
	service, err := deploy.New(opts).Service(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return service.TaskDefinitionARN[strings.LastIndexByte(service.TaskDefinitionARN, '/')+1:]
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestStrategies(t *testing.T) {
	t.Parallel()
	const hook = `"lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}]`
	const alarms = `"alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": true}`
	crash := emulator.Behaviour{Exit: &emulator.Exit{Code: 3}}
	tests := map[string]struct {
		configuration string
		opts          deploy.Options
		next          emulator.Behaviour
		hidden        bool // the rollout states
		after         map[time.Duration]func(a *arena)
		status        deploy.Status
		reason        string
		fails         []string
		runs          string   // default: web:2
		stages        []string // some of those told, in order
		max           time.Duration
	}{
		"blue/green": {
			configuration: `{"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5}`, status: deploy.StatusSucceeded,
			stages: []string{"SCALE_UP 0%", "BAKE_TIME 100%"}, max: 6 * time.Minute,
		},
		"blue/green, no rollout state": {configuration: `{"strategy": "BLUE_GREEN"}`, hidden: true, status: deploy.StatusSucceeded},
		"canary": {
			configuration: `{"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 2.5, "canaryBakeTimeInMinutes": 3}, "bakeTimeInMinutes": 1}`,
			status:        deploy.StatusSucceeded, stages: []string{"PRODUCTION_TRAFFIC_SHIFT 2.5%", "BAKE_TIME 100%"}, max: 6 * time.Minute,
		},
		"linear, as the inputs say": {
			opts: deploy.Options{Update: deploy.Update{Strategy: deploy.Strategy{
				Name: "linear", LinearPercent: new(25.0), LinearBakeMinutes: new(2), BakeMinutes: new(1),
			}}},
			status: deploy.StatusSucceeded,
			stages: []string{"PRODUCTION_TRAFFIC_SHIFT 25%", "PRODUCTION_TRAFFIC_SHIFT 50%", "PRODUCTION_TRAFFIC_SHIFT 75%", "BAKE_TIME 100%"}, max: 9 * time.Minute,
		},
		"recreate": {
			opts: deploy.Options{Update: deploy.Update{Strategy: deploy.Strategy{Name: "recreate"}}}, status: deploy.StatusSucceeded,
		},
		"alarm during the bake": {
			configuration: `{"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 10, ` + alarms + `}`, opts: deploy.Options{RollbackOnFailure: true},
			after:  map[time.Duration]func(*arena){5 * time.Minute: func(a *arena) { a.cloud.SetAlarm("5xx", true) }},
			status: deploy.StatusRolledBack, fails: []string{"alarm 5xx"}, runs: "web:1",
		},
		"alarm without rollback, ours": {
			configuration: `{"strategy": "CANARY", "alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": false}}`, opts: deploy.Options{RollbackOnFailure: true},
			after:  map[time.Duration]func(*arena){5 * time.Minute: func(a *arena) { a.cloud.SetAlarm("5xx", true) }},
			status: deploy.StatusRolledBack, fails: []string{"alarm 5xx", "rolled back to web:1"}, runs: "web:1",
		},
		"crash, the circuit breaker rolls back": {
			configuration: `{"strategy": "LINEAR", "deploymentCircuitBreaker": {"enable": true, "rollback": true}}`, opts: deploy.Options{WaitLimit: 2 * time.Hour},
			next: crash, status: deploy.StatusRolledBack, fails: []string{"circuit breaker", "exit code 3"}, runs: "web:1", max: time.Minute,
		},
		"crash, no circuit breaker": {
			configuration: `{"strategy": "BLUE_GREEN"}`, opts: deploy.Options{RollbackOnFailure: true},
			next: crash, status: deploy.StatusRolledBack, fails: []string{"none stays up", "exit code 3"}, runs: "web:1", max: time.Minute,
		},
		"circuit breaker of the inputs": {
			opts: deploy.Options{Update: deploy.Update{Strategy: deploy.Strategy{CircuitBreaker: "rollback"}}},
			next: crash, status: deploy.StatusRolledBack, fails: []string{"circuit breaker", "exit code 3"}, runs: "web:1", max: time.Minute,
		},
		"time runs out while it shifts": {
			configuration: `{"strategy": "BLUE_GREEN"}`, opts: deploy.Options{WaitLimit: 10 * time.Minute, RollbackOnFailure: true},
			next: emulator.Behaviour{Health: emulator.Undecided}, status: deploy.StatusRolledBack, fails: []string{"wait-for-minutes"}, runs: "web:1",
		},
		"bakes for longer than is waited": {
			configuration: `{"strategy": "LINEAR"}`, fails: []string{"bake times alone take 54m", "Set wait-for-minutes to more than 54"}, runs: "web:1",
		},
		"paused ends the wait": {
			configuration: `{"strategy": "BLUE_GREEN", ` + hook + `}`, status: deploy.StatusPaused,
			reason: "held at post test traffic shift by a pause hook until 2000-01-02 00:00 UTC, then it is rolled back", stages: []string{"POST_TEST_TRAFFIC_SHIFT 0%"}, max: time.Minute,
		},
		"paused and waited for": {
			configuration: `{"strategy": "BLUE_GREEN", ` + hook + `}`, opts: deploy.Options{WaitAtPause: true},
			after:  map[time.Duration]func(*arena){10 * time.Minute: func(a *arena) { a.decide("CONTINUE") }},
			status: deploy.StatusSucceeded,
		},
		"paused, and somebody rolls back": {
			configuration: `{"strategy": "BLUE_GREEN", ` + hook + `}`, opts: deploy.Options{WaitAtPause: true},
			after:  map[time.Duration]func(*arena){10 * time.Minute: func(a *arena) { a.decide("ROLLBACK") }},
			status: deploy.StatusRolledBack, fails: []string{"did not succeed"}, runs: "web:1",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test.opts.Wait = true
				a := newArena(t, emulator.Options{}, emulator.Service{
					DesiredCount: 2, DeploymentConfiguration: test.configuration, NoRolloutState: test.hidden,
				}, test.opts)
				a.failing(test.next)
				for after, do := range test.after {
					time.AfterFunc(after, func() { do(a) })
				}
				start := time.Now()
				out, err := a.deploy(t.Context())
				if took := time.Since(start); test.max != 0 && took > test.max {
					t.Errorf("took %s, want at most %s", took, test.max)
				}
				check(t, out, err, test.status, test.fails)
				if !strings.Contains(out.Reason, test.reason) {
					t.Errorf("reason %q, want %q in it", out.Reason, test.reason)
				}
				if test.runs == "" {
					test.runs = "web:2"
				}
				if got := a.runs(t); got != test.runs {
					t.Errorf("the service runs %s, want %s", got, test.runs)
				}
				told := stagesOf(a.events)
				for _, want := range test.stages {
					i := slices.Index(told, want)
					if i < 0 {
						t.Errorf("stages told: %q; want %q", stagesOf(a.events), want)
						break
					}
					told = told[i+1:]
				}
			})
		})
	}
}

// decide answers the pause hook.
func (a *arena) decide(action string) {
	ctx := context.Background()
	list, err := a.other.ListServiceDeployments(ctx, &ecs.ListServiceDeploymentsInput{Cluster: aws.String("shop"), Service: aws.String("web")})
	if err != nil || len(list.ServiceDeployments) == 0 {
		return
	}
	arn := list.ServiceDeployments[0].ServiceDeploymentArn
	described, err := a.other.DescribeServiceDeployments(ctx, &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{*arn}})
	if err != nil {
		return
	}
	for _, h := range described.ServiceDeployments[0].LifecycleHookDetails {
		_, _ = a.other.ContinueServiceDeployment(ctx, &ecs.ContinueServiceDeploymentInput{ServiceDeploymentArn: arn, HookId: h.HookId, Action: ecstypes.DeploymentLifecycleHookAction(action)})
	}
}

func stagesOf(events []deploy.Event) []string {
	var told []string
	for _, e := range events {
		if e, ok := e.(deploy.Stage); ok {
			text := e.Stage
			if e.Production != nil {
				text += fmt.Sprintf(" %g%%", *e.Production)
			}
			told = append(told, text)
		}
	}
	return told
}

func TestResume(t *testing.T) {
	t.Parallel()
	const paused = `{"strategy": "BLUE_GREEN", "lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"]}]}`
	tests := map[string]struct {
		configuration string
		next          emulator.Behaviour
		back          bool
		faults        []emulator.Fault
		before        func(a *arena)
		status        deploy.Status
		fails         []string
		runs          string
		sent          map[string]int
	}{
		"continue to the next pause": {configuration: paused, status: deploy.StatusPaused, runs: "web:2", sent: map[string]int{"ContinueServiceDeployment": 1}},
		"roll back":                  {configuration: paused, back: true, status: deploy.StatusRolledBack, runs: "web:1", sent: map[string]int{"ContinueServiceDeployment": 1}},
		"the answer is lost": {
			configuration: paused, faults: []emulator.Fault{{Action: "ContinueServiceDeployment", Kind: emulator.Lost}},
			status: deploy.StatusPaused, runs: "web:2", sent: map[string]int{"ContinueServiceDeployment": 1},
		},
		"not allowed": {
			configuration: paused, faults: []emulator.Fault{{Action: "ContinueServiceDeployment", Kind: emulator.Denied, Times: -1}},
			status: deploy.StatusStarted, fails: []string{"continue deployment ecs-svc/", "Allow ecs:ContinueServiceDeployment"}, runs: "web:2",
		},
		"not paused any more": {
			configuration: paused, before: func(a *arena) { a.decide("CONTINUE"); pass(2 * time.Second) },
			status: deploy.StatusPaused, runs: "web:2",
		},
		"roll back what is not paused": {
			configuration: `{}`, next: emulator.Behaviour{StartDelay: 10 * time.Minute}, back: true, status: deploy.StatusRolledBack, runs: "web:1",
			sent: map[string]int{"StopServiceDeployment": 1},
		},
		"nothing is under way": {
			configuration: `{}`, before: func(*arena) { pass(time.Minute) }, fails: []string{"no deployment of the service is paused or under way"}, runs: "web:2",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newArena(t, emulator.Options{}, emulator.Service{DesiredCount: 1, DeploymentConfiguration: test.configuration}, deploy.Options{})
				a.failing(test.next)
				if _, err := a.deploy(t.Context()); err != nil {
					t.Fatal(err)
				}
				pass(20 * time.Second)
				if test.before != nil {
					test.before(a)
				}
				for _, fault := range test.faults {
					a.cloud.Fail(fault)
				}
				skip := len(a.cloud.Calls())
				a.opts.Wait = true
				out, err := deploy.New(a.opts).Resume(t.Context(), test.back)
				check(t, out, err, test.status, test.fails)
				if got := a.runs(t); got != test.runs {
					t.Errorf("the service runs %s, want %s", got, test.runs)
				}
				sent := map[string]int{}
				for _, call := range a.cloud.Calls()[skip:] {
					if strings.HasPrefix(call.Action, "Continue") || strings.HasPrefix(call.Action, "Stop") || strings.HasPrefix(call.Action, "Update") {
						sent[call.Action]++
					}
				}
				if diff := cmp.Diff(test.sent, sent); diff != "" && len(test.faults) == 0 && test.sent != nil {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// truth is what ECS itself says of the service's newest deployment.
type truth struct {
	arn, status       string
	created, finished time.Time
}

// state asks ECS, past all faults.
func (a *arena) state(t *testing.T) truth {
	t.Helper()
	all := a.states(t)
	return all[len(all)-1]
}

// states are all service deployments, oldest first.
func (a *arena) states(t *testing.T) []truth {
	t.Helper()
	var all []truth
	for _, d := range a.cloud.Deployments("shop", "web") {
		all = append(all, truth{d.ARN, d.Status, d.Created, d.Finished})
	}
	return all
}
