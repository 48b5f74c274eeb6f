package deploy

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeployWithoutWaiting(t *testing.T) {
	t.Parallel()
	f := newFake()
	c, events := f.client(Options{})
	out, err := c.Deploy(t.Context(), newTD)
	if err != nil || out.Status != StatusStarted || out.DeploymentID != "ecs-svc/2" {
		t.Errorf("outcome %+v, error %v; want started", out, err)
	}
	wantIn(t, "reason", out.Reason, "wait-for-service-stability")
	if want := []string{"DescribeServices", "UpdateService"}; !slices.Equal(f.calls, want) {
		t.Errorf("calls %v, want %v", f.calls, want)
	}
	if n := len(of[Done](*events)); n != 1 {
		t.Errorf("%d Done events, want 1", n)
	}
}

func TestDeployCancelled(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(f *fakeECS)
		after   time.Duration
		fix     string
	}{
		"while waiting":                {after: time.Minute, fix: "aws ecs stop-service-deployment --region eu-central-1 --service-deployment-arn " + ourSD},
		"while waiting, without reads": {prepare: denyStates, after: time.Minute, fix: "aws ecs update-service --region eu-central-1 --cluster prod --service web --task-definition " + "web:1"},
		"while rolling back":           {after: 6 * time.Minute, fix: "Look at its end: https://eu-central-1.console.aws.amazon.com/ecs/v2/clusters/prod/services/web/deployments/sd2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				if test.prepare != nil {
					test.prepare(f)
				}
				c, _ := f.client(Options{Wait: true, WaitLimit: 5 * time.Minute, RollbackOnFailure: true})
				ctx, cancel := context.WithCancelCause(t.Context())
				signal := errors.New("interrupt signal received")
				time.AfterFunc(test.after, func() { cancel(signal) })
				start := time.Now()
				out, err := c.Deploy(ctx, newTD)
				if took := time.Since(start) - test.after; took > 2*time.Second {
					t.Errorf("returned %s after the signal, want at most 2s", took)
				}
				if out.Status != StatusStarted || !errors.Is(err, signal) {
					t.Errorf("outcome %+v, error %v; want started, and the signal", out, err)
				}
				wantError(t, err, []string{"deployment ecs-svc/2 goes on in cluster prod", test.fix})
				if want := map[string]int{"while rolling back": 1}[name]; f.count("StopServiceDeployment") != want {
					t.Errorf("StopServiceDeployment was called %d times, want %d", f.count("StopServiceDeployment"), want)
				}
			})
		})
	}
}

func TestDeployCancelledDuringTheUpdate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		at      string // the action during which the signal comes
		effect  bool
		status  Status
		fails   []string
		updates int
	}{
		"it took effect":    {at: "UpdateService", effect: true, status: StatusStarted, fails: []string{"deployment ecs-svc/2 goes on"}, updates: 1},
		"it may yet":        {at: "UpdateService", status: StatusStarted, fails: []string{"it is not known whether", "aws ecs describe-services"}, updates: 1},
		"it was not sent":   {at: "ListServiceDeployments", fails: []string{"The service was not updated"}},
		"nothing was begun": {at: "DescribeServices", fails: nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				ctx, cancel := context.WithCancelCause(t.Context())
				signal := errors.New("interrupt signal received")
				f.hook = func(action string, call int) error {
					if action != test.at || call > 1 {
						return nil
					}
					if test.effect {
						f.update(map[string]any{"taskDefinition": newTD})
					}
					cancel(signal)
					return ctx.Err()
				}
				c, _ := f.client(Options{Wait: true})
				start := time.Now()
				out, err := c.Deploy(ctx, newTD)
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("took %s after the signal", took)
				}
				if out.Status != test.status || !errors.Is(err, signal) || f.count("UpdateService") != test.updates {
					t.Errorf("outcome %+v, error %v, %d updates; want %q, the signal, %d", out, err, f.count("UpdateService"), test.status, test.updates)
				}
				if test.fails != nil {
					wantError(t, err, test.fails)
				}
			})
		})
	}
}

func TestUpdateWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	lost := errors.New("read tcp: connection reset by peer")
	tests := map[string]struct {
		hook   func(f *fakeECS) func(action string, call int) error
		status Status
		fails  []string
		calls  int // of UpdateService
	}{
		"it took effect": {
			hook: func(f *fakeECS) func(string, int) error {
				return func(action string, call int) error {
					if action == "UpdateService" && call == 1 {
						f.update(map[string]any{"taskDefinition": newTD})
						return lost
					}
					return nil
				}
			},
			status: StatusSucceeded, calls: 1,
		},
		"it did not": {
			hook: func(*fakeECS) func(string, int) error {
				return func(action string, call int) error {
					if action == "UpdateService" && call < 3 {
						return lost
					}
					return nil
				}
			},
			status: StatusSucceeded, calls: 3,
		},
		"it never does": {
			hook: func(*fakeECS) func(string, int) error {
				return func(action string, _ int) error {
					if action == "UpdateService" {
						return lost
					}
					return nil
				}
			},
			fails: []string{"update service web", "connection reset"}, calls: 4,
		},
		"somebody else's update came between": {
			hook: func(f *fakeECS) func(string, int) error {
				return func(action string, call int) error {
					if action == "UpdateService" && call == 1 {
						f.replace("ecs-svc/9", otherTD)
						return lost
					}
					return nil
				}
			},
			status: StatusStarted, fails: []string{"it is not known whether", "ecs-svc/9", "aws ecs describe-services"}, calls: 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.script = []step{done(30 * time.Second)}
				f.hook = test.hook(f)
				c, _ := f.client(Options{Wait: true})
				out, err := c.Deploy(t.Context(), newTD)
				if out.Status != test.status {
					t.Errorf("status %q, want %q", out.Status, test.status)
				}
				wantError(t, err, test.fails)
				if got := f.count("UpdateService"); got != test.calls {
					t.Errorf("UpdateService was called %d times, want %d", got, test.calls)
				}
			})
		})
	}
}

func TestUpdateIsRepeatedWhenThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.script = []step{done(30 * time.Second)}
		f.refuse["UpdateService"] = "ThrottlingException"
		f.hook = func(action string, call int) error {
			if action == "UpdateService" && call == 4 {
				delete(f.refuse, action)
			}
			return nil
		}
		c, _ := f.client(Options{Wait: true})
		out, err := c.Deploy(t.Context(), newTD)
		if err != nil || out.Status != StatusSucceeded || f.count("UpdateService") != 4 {
			t.Errorf("outcome %+v, error %v, %d updates; want success at the fourth", out, err, f.count("UpdateService"))
		}
	})
}
