package deploy

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMessages holds what a user reads at the end of a bad deployment, whole.
func TestMessages(t *testing.T) {
	t.Parallel()
	pull := "CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref r/web:2: r/web:2: not found"
	thrice := func(do func(f *fakeECS, id string)) []step {
		var steps []step
		for i := range 3 {
			steps = append(steps, step{time.Duration(10+i) * time.Second, func(f *fakeECS) { do(f, fmt.Sprint("t", i)) }})
		}
		return steps
	}
	tests := map[string]struct {
		opts    Options
		prepare func(f *fakeECS)
		script  []step
	}{
		"1 task that exits at once, rolled back": {
			opts: Options{RollbackOnFailure: true},
			prepare: func(f *fakeECS) {
				f.onStop = []step{rolledBack(30*time.Second, "ecs-svc/3")}
				f.logs["ecs/app/t0"] = []string{"starting", "panic: no DATABASE_URL"}
			},
			script: thrice(func(f *fakeECS, id string) {
				f.stopTask(id, "ecs-svc/2", "EssentialContainerExited", "Essential container in task exited", 2)
			}),
		},
		"2 image that cannot be pulled, left": {
			script: thrice(func(f *fakeECS, id string) { f.stopTask(id, "ecs-svc/2", "TaskFailedToStart", pull, -1) }),
		},
		"3 wait running out": {
			opts:   Options{WaitLimit: 10 * time.Minute},
			script: []step{{time.Second, func(f *fakeECS) { f.deployment("ecs-svc/2").running = 1 }}},
		},
		"4 nothing can be placed": {
			opts: Options{WaitLimit: 10 * time.Minute},
			script: []step{{time.Second, func(f *fakeECS) {
				f.say("(service web) was unable to place a task. Reason: Capacity is unavailable at this time. Please try again later or in a different availability zone.")
			}}},
		},
		"5 superseded": {script: []step{{20 * time.Second, func(f *fakeECS) {
			f.state(2).status = "STOPPED"
			f.replace("ecs-svc/9", otherTD)
		}}}},
		"6 rolled back by the circuit breaker": {
			prepare: func(f *fakeECS) {
				f.service["deploymentConfiguration"] = map[string]any{"deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": true}}
			},
			script: append(thrice(func(f *fakeECS, id string) {
				f.stopTask(id, "ecs-svc/2", "ServiceSchedulerInitiated", "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:r:1:targetgroup/web/1)", 137)
			}), step{20 * time.Second, func(f *fakeECS) {
				f.state(2).status, f.state(2).reason = "ROLLBACK_IN_PROGRESS", "Service deployment rolled back because the circuit breaker threshold was exceeded."
			}}, rolledBack(time.Minute, "ecs-svc/1")),
		},
	}
	var b strings.Builder
	names := make([]string, 0, len(tests))
	for name := range tests {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			if tests[name].prepare != nil {
				tests[name].prepare(f)
			}
			f.script = tests[name].script
			opts := tests[name].opts
			opts.Wait = true
			c, _ := f.client(opts)
			out, err := c.Deploy(t.Context(), newTD)
			fmt.Fprintf(&b, "== %s\nstatus: %s\nreason: %s\nerror: %v\n", name, out.Status, out.Reason, err)
			if e, ok := errors.AsType[*problem.Error](err); ok {
				for _, line := range e.Detail {
					fmt.Fprintf(&b, "  | %s\n", line)
				}
			}
			b.WriteString("\n")
		})
	}
	const golden = "testdata/messages.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("messages (-want +got), -update rewrites:\n%s", diff)
	}
}
