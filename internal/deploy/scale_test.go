package deploy_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

func TestOnlyTheNumberOfTasksChanges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		count     int
		behaviour emulator.Behaviour
		wait      bool
		limit     time.Duration
		status    deploy.Status
		reason    string
		fails     []string
		min, max  time.Duration
	}{
		"more, waited for": {
			count: 4, behaviour: emulator.Behaviour{StartDelay: 40 * time.Second}, wait: true,
			status: deploy.StatusSucceeded, reason: "the service already ran this task definition; it now runs 4 tasks", min: 40 * time.Second, max: 2 * time.Minute,
		},
		"fewer": {
			count: 1, wait: true, status: deploy.StatusSucceeded, reason: "it now runs 1 task", max: 2 * time.Minute,
		},
		"the same": {
			count: 2, wait: true, status: deploy.StatusUnchanged, reason: "its settings were updated", max: 5 * time.Second,
		},
		"not waited for": {
			count: 4, status: deploy.StatusUnchanged, reason: "its settings were updated", max: 5 * time.Second,
		},
		"the new ones fail": {
			count: 3, behaviour: emulator.Behaviour{Exit: &emulator.Exit{Code: 3}}, wait: true, status: deploy.StatusFailed,
			fails: []string{"exit code 3", "the task definition is the one that ran before"}, max: 10 * time.Minute,
		},
		"the new ones are slow": {
			count: 3, behaviour: emulator.Behaviour{StartDelay: time.Hour}, wait: true, limit: 5 * time.Minute, status: deploy.StatusTimedOut,
			fails: []string{"wait-for-minutes", "2 of 3 tasks"}, max: 6 * time.Minute,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newArena(t, emulator.Options{}, emulator.Service{DesiredCount: 2}, deploy.Options{
					Wait: test.wait, WaitLimit: test.limit, RollbackOnFailure: true, Update: deploy.Update{DesiredCount: &test.count},
				})
				a.next = strings.Replace(a.next, "web:2", "web:1", 1)
				a.cloud.Behave(func(emulator.TaskInfo) emulator.Behaviour { return test.behaviour })
				start := time.Now()
				out, err := a.deploy(t.Context())
				check(t, out, err, test.status, test.fails)
				if !strings.Contains(out.Reason, test.reason) {
					t.Errorf("reason %q, want %q in it", out.Reason, test.reason)
				}
				if took := time.Since(start); took < test.min || took > test.max {
					t.Errorf("took %s, want %s to %s", took, test.min, test.max)
				}
			})
		})
	}
}
