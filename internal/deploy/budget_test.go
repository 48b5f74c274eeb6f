package deploy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

// distant answers as the cloud does, after a while.
type distant struct {
	inner http.RoundTripper
	by    time.Duration
}

// RoundTrip implements http.RoundTripper.
func (d distant) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(d.by):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return d.inner.RoundTrip(req)
}

// The end of a deployment is seen within 3 s of its happening at up to ten
// minutes, with at most one read a second; a crashing task is named within
// 10 s of its first stop.
func TestBudget(t *testing.T) {
	t.Parallel()
	const latency = 80 * time.Millisecond
	blueGreen := `{"strategy": "BLUE_GREEN", "bakeTimeInMinutes": %d}`
	breaker := `{"deploymentCircuitBreaker": {"enable": true, "rollback": true}}`
	tests := map[string]struct {
		configuration string
		next          emulator.Behaviour
		denied        []string
		status        deploy.Status
	}{
		"bake": {configuration: fmt.Sprintf(blueGreen, 9), status: deploy.StatusSucceeded},
		"circuit breaker": {
			configuration: breaker, status: deploy.StatusRolledBack,
			next: emulator.Behaviour{Exit: &emulator.Exit{After: 40 * time.Second, Code: 3}, HealthyAfter: time.Minute},
		},
		"crash at once": {configuration: breaker, status: deploy.StatusRolledBack, next: emulator.Behaviour{Exit: &emulator.Exit{Code: 3}}},
		"cannot start":  {configuration: breaker, status: deploy.StatusRolledBack, next: emulator.Behaviour{FailToStart: "ResourceInitializationError: x", StartDelay: 30 * time.Second}},
		"without the reads": {
			configuration: `{}`, next: emulator.Behaviour{StartDelay: 3 * time.Minute}, status: deploy.StatusSucceeded,
			denied: []string{"ListServiceDeployments", "DescribeServiceDeployments"},
		},
	}
	for _, seconds := range []int{5, 20, 45, 61, 100, 247, 431, 597} {
		name := fmt.Sprintf("tasks that need %ds", seconds)
		tests[name] = struct {
			configuration string
			next          emulator.Behaviour
			denied        []string
			status        deploy.Status
		}{configuration: `{}`, next: emulator.Behaviour{StartDelay: time.Duration(seconds) * time.Second}, status: deploy.StatusSucceeded}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newArena(t, emulator.Options{}, emulator.Service{DesiredCount: 2, DeploymentConfiguration: test.configuration}, deploy.Options{Wait: true})
				a.failing(test.next)
				for _, action := range test.denied {
					a.cloud.Fail(emulator.Fault{Action: action, Kind: emulator.Denied, Times: -1})
				}
				a.opts.Config.HTTPClient = &http.Client{Transport: distant{a.cloud.RoundTripper(), latency}}
				var firstStop, named, seen time.Time
				inner := a.opts.Events
				a.opts.Events = func(e deploy.Event) {
					inner(e)
					if state, ok := e.(deploy.Waiting); ok && strings.HasSuffix(state.State, "SUCCESSFUL") {
						seen = time.Now()
					}
					if failed, ok := e.(deploy.TaskFailed); ok && named.IsZero() {
						firstStop, named = failed.StoppedAt, time.Now()
					}
				}
				start := time.Now()
				out, err := a.deploy(t.Context())
				took := time.Since(start)
				if out.Status != test.status {
					t.Fatalf("status %s, want %s: %v", out.Status, test.status, err)
				}
				if seen.IsZero() {
					seen = time.Now()
				}
				if late := seen.Sub(a.state(t).finished); late > 3*time.Second || time.Since(seen) > 12*time.Second {
					t.Errorf("seen %s after the end, and told %s later", late, time.Since(seen))
				}
				reads := 0
				for _, call := range a.cloud.Called("ecs", "") {
					if call.Time.Before(start) || call.Time.After(start.Add(took)) || call.Action == "UpdateService" {
						continue
					}
					reads++
				}
				// One more tells at the end how the tasks came up.
				if limit := max(took.Seconds(), 20) + 1; float64(reads) > limit {
					t.Errorf("%d reads in %s", reads, took)
				}
				if !named.IsZero() && named.Sub(firstStop) > 10*time.Second {
					t.Errorf("the first task that stopped was named after %s", named.Sub(firstStop))
				}
				if test.status != deploy.StatusSucceeded && named.IsZero() {
					t.Error("no task was named")
				}
			})
		})
	}
}

// Throttling at ten times the allowed rate changes nothing but the time.
func TestThrottling(t *testing.T) {
	t.Parallel()
	crash := emulator.Behaviour{Exit: &emulator.Exit{Code: 3}}
	tests := map[string]struct {
		configuration string
		next          emulator.Behaviour
		status        deploy.Status
		runs          string
		events        bool
	}{
		"success":            {configuration: `{}`, status: deploy.StatusSucceeded, runs: "web:2"},
		"canary":             {configuration: `{"strategy": "CANARY"}`, status: deploy.StatusSucceeded, runs: "web:2"},
		"crash, breaker":     {configuration: `{"deploymentCircuitBreaker": {"enable": true, "rollback": true}}`, next: crash, status: deploy.StatusRolledBack, runs: "web:1"},
		"crash, no breaker":  {configuration: `{}`, next: crash, status: deploy.StatusRolledBack, runs: "web:1"},
		"health, no breaker": {configuration: `{}`, next: emulator.Behaviour{Health: emulator.Failing}, status: deploy.StatusRolledBack, runs: "web:1"},
	}
	for name, test := range tests {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s, %d", name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					a := newArena(t, emulator.Options{Busy: 10, Seed: seed}, emulator.Service{DesiredCount: 2, DeploymentConfiguration: test.configuration},
						deploy.Options{Wait: true, RollbackOnFailure: true})
					a.failing(test.next)
					out, err := a.deploy(t.Context())
					if out.Status != test.status || (err == nil) != (test.status == deploy.StatusSucceeded) {
						t.Errorf("status %s (%s), want %s; error %v", out.Status, out.Reason, test.status, err)
					}
					if got := a.runs(t); got != test.runs {
						t.Errorf("the service runs %s, want %s", got, test.runs)
					}
					if test.next.Exit != nil && !strings.Contains(fmt.Sprint(err), "exit code 3") {
						t.Errorf("error %v, want the exit code", err)
					}
					updates := 0
					for _, call := range a.cloud.Called("ecs", "UpdateService") {
						if call.Status == http.StatusOK {
							updates++
						}
					}
					if updates != 1 {
						t.Errorf("%d updates were carried out, want 1", updates)
					}
				})
			})
		}
	}
}
