package emulator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/emulator"
)

// shifting adds a service whose deployments are so configured.
func (w *world) shifting(t *testing.T, configuration string) {
	t.Helper()
	w.AddLogGroup("/app")
	_, err := w.AddService(emulator.Service{Cluster: "shop", Name: "web", TaskDefinition: webV1, DesiredCount: 2, DeploymentConfiguration: configuration})
	if err != nil {
		t.Fatal(err)
	}
}

// way watches a deployment for a while and gives each state that it was in:
// its stage, and the traffic of its tasks.
func (w *world) way(t *testing.T, d time.Duration) []string {
	t.Helper()
	var way []string
	for range d / (500 * time.Millisecond) {
		r := w.record(t)
		now := fmt.Sprintf("%s %s", r.Status, r.LifecycleStage)
		if target := r.TargetServiceRevision; target.RequestedProductionTrafficWeight != nil {
			now += fmt.Sprintf(" %g%%", *target.RequestedProductionTrafficWeight)
			if len(r.SourceServiceRevisions) > 0 {
				now += fmt.Sprintf(" of %g%%", *target.RequestedProductionTrafficWeight+*r.SourceServiceRevisions[0].RequestedProductionTrafficWeight)
			}
		}
		if len(way) == 0 || way[len(way)-1] != now {
			way = append(way, now)
		}
		wait(t, 500*time.Millisecond)
	}
	return way
}

func TestStages(t *testing.T) {
	t.Parallel()
	begin := []string{"PENDING  0% of 100%", "IN_PROGRESS PRE_SCALE_UP 0% of 100%", "IN_PROGRESS SCALE_UP 0% of 100%", "IN_PROGRESS POST_SCALE_UP 0% of 100%", "IN_PROGRESS TEST_TRAFFIC_SHIFT 0% of 100%", "IN_PROGRESS POST_TEST_TRAFFIC_SHIFT 0% of 100%"}
	end := []string{
		"IN_PROGRESS POST_PRODUCTION_TRAFFIC_SHIFT 100% of 100%", "IN_PROGRESS BAKE_TIME 100% of 100%",
		"IN_PROGRESS CLEAN_UP 100% of 100%", "SUCCESSFUL CLEAN_UP 100% of 100%",
	}
	tests := map[string]struct {
		configuration string
		steps         []string
	}{
		"blue/green": {`{"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1}`, []string{
			"IN_PROGRESS PRE_PRODUCTION_TRAFFIC_SHIFT 0% of 100%", "IN_PROGRESS PRODUCTION_TRAFFIC_SHIFT 100% of 100%",
		}},
		"canary": {`{"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 2.5, "canaryBakeTimeInMinutes": 1}}`, []string{
			"IN_PROGRESS PRE_PRODUCTION_TRAFFIC_SHIFT 0% of 100%", "IN_PROGRESS PRODUCTION_TRAFFIC_SHIFT 2.5% of 100%",
			"IN_PROGRESS PRE_PRODUCTION_TRAFFIC_SHIFT 2.5% of 100%", "IN_PROGRESS PRODUCTION_TRAFFIC_SHIFT 100% of 100%",
		}},
		"linear": {`{"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 40, "stepBakeTimeInMinutes": 1}}`, []string{
			"IN_PROGRESS PRE_PRODUCTION_TRAFFIC_SHIFT 0% of 100%", "IN_PROGRESS PRODUCTION_TRAFFIC_SHIFT 40% of 100%",
			"IN_PROGRESS PRE_PRODUCTION_TRAFFIC_SHIFT 40% of 100%", "IN_PROGRESS PRODUCTION_TRAFFIC_SHIFT 80% of 100%",
			"IN_PROGRESS PRE_PRODUCTION_TRAFFIC_SHIFT 80% of 100%", "IN_PROGRESS PRODUCTION_TRAFFIC_SHIFT 100% of 100%",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				w.shifting(t, tt.configuration)
				w.deploy(t)
				if diff := cmp.Diff(slices.Concat(begin, tt.steps, end), w.way(t, 3*time.Minute)); diff != "" {
					t.Errorf("way (-want +got):\n%s", diff)
				}
				if s := w.describe(t); s.RunningCount != 2 || len(s.Deployments) != 1 || s.Deployments[0].RolloutState != "COMPLETED" {
					t.Errorf("got %d tasks in %d deployments, %s", s.RunningCount, len(s.Deployments), s.Deployments[0].RolloutState)
				}
			})
		})
	}
}

func TestShiftFails(t *testing.T) {
	t.Parallel()
	pause := `{"strategy": "BLUE_GREEN", "lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"], "timeoutConfiguration": {"timeoutInMinutes": 30, "action": "%s"}}]}`
	lambda := `{"strategy": "BLUE_GREEN", "lifecycleHooks": [{"hookTargetArn": "arn:aws:lambda:x", "lifecycleStages": ["PRE_SCALE_UP"]}]}`
	answer := func(action ecstypes.DeploymentLifecycleHookAction) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			r := w.record(t)
			if len(r.LifecycleHookDetails) != 1 || r.LifecycleHookDetails[0].Status != "AWAITING_ACTION" || r.LifecycleStage != "POST_TEST_TRAFFIC_SHIFT" {
				t.Fatalf("at %s, hooks %+v; want one that waits", r.LifecycleStage, r.LifecycleHookDetails)
			}
			in := &ecs.ContinueServiceDeploymentInput{ServiceDeploymentArn: r.ServiceDeploymentArn, HookId: r.LifecycleHookDetails[0].HookId, Action: action}
			if _, err := w.ecs.ContinueServiceDeployment(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			_, err := w.ecs.ContinueServiceDeployment(t.Context(), in)
			wantCode(t, err, "ConflictException", "")
		}
	}
	tests := map[string]struct {
		configuration string
		behave        func(emulator.TaskInfo) emulator.Behaviour
		hooks         func(emulator.HookInfo) emulator.HookEnd
		after         func(t *testing.T, w *world) // a minute
		status        ecstypes.ServiceDeploymentStatus
		reason        string
		events        []string
		runs          string
	}{
		"pause continued":       {configuration: fmt.Sprintf(pause, "ROLLBACK"), after: answer("CONTINUE"), status: "SUCCESSFUL", runs: "web:2"},
		"pause rolled back":     {configuration: fmt.Sprintf(pause, "CONTINUE"), after: answer("ROLLBACK"), status: "ROLLBACK_SUCCESSFUL", runs: "web:1"},
		"pause timed out, back": {configuration: fmt.Sprintf(pause, "ROLLBACK"), status: "ROLLBACK_SUCCESSFUL", reason: "timed out", runs: "web:1"},
		"pause timed out, on":   {configuration: fmt.Sprintf(pause, "CONTINUE"), status: "SUCCESSFUL", runs: "web:2"},
		"function succeeds":     {configuration: lambda, status: "SUCCESSFUL", runs: "web:2"},
		"function fails": {
			configuration: lambda, hooks: func(emulator.HookInfo) emulator.HookEnd { return emulator.HookEnd{Failed: true} },
			status: "ROLLBACK_SUCCESSFUL", reason: "PRE_SCALE_UP lifecycle hook(s) failed. Lifecycle hook target arn:aws:lambda:x returned FAILED status.", runs: "web:1",
		},
		"circuit breaker": {
			configuration: `{"strategy": "LINEAR", "deploymentCircuitBreaker": {"enable": true, "rollback": true, "thresholdConfiguration": {"type": "COUNT", "value": 4}}}`,
			behave:        crash, status: "ROLLBACK_SUCCESSFUL", reason: "circuit breaker threshold", runs: "web:1",
		},
		"alarm": {
			configuration: `{"strategy": "CANARY", "alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": true}}`,
			after:         func(_ *testing.T, w *world) { w.SetAlarm("5xx", true) },
			status:        "ROLLBACK_SUCCESSFUL", reason: "alarm", events: []string{"deployment failed: alarm detected."}, runs: "web:1",
		},
		"alarm without rollback": {
			configuration: `{"strategy": "CANARY", "alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": false}}`,
			after:         func(_ *testing.T, w *world) { w.SetAlarm("5xx", true) },
			status:        "STOPPED", reason: "alarm", runs: "web:2",
		},
		"another alarm": {
			configuration: `{"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5, "alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": true}}`,
			after:         func(_ *testing.T, w *world) { w.SetAlarm("4xx", true) },
			status:        "SUCCESSFUL", runs: "web:2",
		},
		"rolling, alarm while it bakes": {
			configuration: `{"alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": true}}`,
			behave:        func(emulator.TaskInfo) emulator.Behaviour { return emulator.Behaviour{StartDelay: 50 * time.Second} },
			after:         func(_ *testing.T, w *world) { w.SetAlarm("5xx", true) },
			status:        "ROLLBACK_SUCCESSFUL", runs: "web:1",
		},
		"stopped": {
			configuration: `{"strategy": "CANARY"}`, after: func(t *testing.T, w *world) {
				t.Helper()
				in := &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: w.record(t).ServiceDeploymentArn, StopType: "ROLLBACK"}
				if _, err := w.ecs.StopServiceDeployment(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			},
			status: "ROLLBACK_SUCCESSFUL", runs: "web:1",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				w.shifting(t, tt.configuration)
				w.Behave(tt.behave)
				w.Hooks(tt.hooks)
				w.deploy(t)
				wait(t, time.Minute)
				if tt.after != nil {
					tt.after(t, w)
				}
				wait(t, 50*time.Minute)
				r, s := w.record(t), w.describe(t)
				if r.Status != tt.status || !strings.Contains(aws.ToString(r.StatusReason), tt.reason) {
					t.Errorf("got %s (%s), want %s (%s)", r.Status, aws.ToString(r.StatusReason), tt.status, tt.reason)
				}
				if !strings.HasSuffix(*s.TaskDefinition, tt.runs) || s.RunningCount < 2 {
					t.Errorf("runs %d of %s, want %s", s.RunningCount, *s.TaskDefinition, tt.runs)
				}
				for _, want := range tt.events {
					if !slices.ContainsFunc(events(s), func(e string) bool { return strings.Contains(e, want) }) {
						t.Errorf("events %q, want %q", events(s), want)
					}
				}
			})
		})
	}
}

func TestAlarmThatWasRaisedBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.shifting(t, `{"alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": true}}`)
		w.SetAlarm("5xx", true)
		w.deploy(t)
		wait(t, time.Second)
		w.SetAlarm("5xx", true)
		wait(t, 5*time.Minute)
		if r := w.record(t); r.Status != "SUCCESSFUL" || r.Alarms.Status != "MONITORING_COMPLETE" {
			t.Errorf("got %s, alarms %s", r.Status, r.Alarms.Status)
		}
	})
}

func TestStrategyIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		if _, err := w.AddService(emulator.Service{
			Cluster: "shop", Name: "web", TaskDefinition: webV1, Settings: `{"loadBalancers": [{"targetGroupArn": "arn:tg", "containerPort": 80}]}`,
		}); err != nil {
			t.Fatal(err)
		}
		_, err := w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{
			Cluster: aws.String("shop"), Service: aws.String("web"),
			DeploymentConfiguration: &ecstypes.DeploymentConfiguration{Strategy: ecstypes.DeploymentStrategyCanary},
		})
		wantCode(t, err, "InvalidParameterException", "advancedConfiguration")
		if got := w.describe(t).DeploymentConfiguration.Strategy; got != "ROLLING" {
			t.Errorf("strategy %s after a refused update", got)
		}
	})
}
