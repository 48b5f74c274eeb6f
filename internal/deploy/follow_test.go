package deploy

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEventsComeOnceAndInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.script = []step{
			{5 * time.Second, func(f *fakeECS) { f.say("(service web) has started 1 tasks: (task a).") }},
			{6 * time.Second, func(f *fakeECS) { f.say("(service web) has started 1 tasks: (task b).") }},
			{30 * time.Second, func(f *fakeECS) { f.say("(service web) (deployment ecs-svc/2) deployment completed.") }},
			done(30 * time.Second),
		}
		c, events := f.client(Options{Wait: true})
		if _, err := c.Deploy(t.Context(), newTD); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range of[ServiceEvent](*events) {
			got = append(got, strings.TrimPrefix(e.Message, "(service web) "))
		}
		want := []string{"has started 1 tasks: (task a).", "has started 1 tasks: (task b).", "(deployment ecs-svc/2) deployment completed."}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("service events (-want +got):\n%s", diff)
		}
	})
}

func TestFailedTaskIsNamedSoonWithItsLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.logs["ecs/app/t1"] = []string{"starting", "panic: no DATABASE_URL"}
		var failedAt time.Time
		f.script = []step{
			{20 * time.Second, func(f *fakeECS) {
				failedAt = time.Now()
				f.stopTask("t1", "ecs-svc/2", "EssentialContainerExited", "Essential container in task exited", 3)
				f.stopTask("old", "ecs-svc/1", "EssentialContainerExited", "Essential container in task exited", 9)
				f.stopTask("scaled", "ecs-svc/2", "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/2)", 143)
				f.stopTask("unhealthy", "ecs-svc/2", "ServiceSchedulerInitiated", "Task failed ELB health checks in (target-group arn:aws:x)", 137)
			}},
			done(time.Minute),
		}
		c, _ := f.client(Options{Wait: true})
		var named []string
		var lines []LogLines
		c.opts.Events = func(e Event) {
			switch e := e.(type) {
			case TaskFailed:
				named = append(named, e.TaskID)
				if since := time.Since(failedAt); since > 10*time.Second {
					t.Errorf("task %s was named %s after its end", e.TaskID, since)
				}
				if e.TaskID == "t1" {
					want := []ContainerEnd{{Name: "app", ExitCode: new(3), Essential: true}, {Name: "proxy", ExitCode: new(143)}}
					if diff := cmp.Diff(want, e.Containers); diff != "" {
						t.Errorf("containers (-want +got):\n%s", diff)
					}
				}
			case LogLines:
				lines = append(lines, e)
			}
		}
		if _, err := c.Deploy(t.Context(), newTD); err != nil {
			t.Fatal(err)
		}
		if want := []string{"t1", "unhealthy"}; !slices.Equal(named, want) {
			t.Errorf("named %v, want %v", named, want)
		}
		if want := []LogLines{{TaskID: "t1", Container: "app", Lines: []string{"starting", "panic: no DATABASE_URL"}}}; !cmp.Equal(lines, want) {
			t.Errorf("log lines %v, want %v", lines, want)
		}
	})
}
