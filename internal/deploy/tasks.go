package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// settled is how long ECS itself lets a task run before it counts as healthy,
// where neither a load balancer nor a container checks it.
const settled = 40 * time.Second

// taskWatch looks for failing tasks of one deployment.
type taskWatch struct {
	c     *Client
	d     *deployment
	table []cause
	logs  logReader
	// targets is what the load balancer says of them.
	targets targetWatch
	// over holds tasks that need no second look.
	over   map[string]bool
	failed []TaskFailed
	// said are the service's messages so far, oldest first.
	said []string
	// missed says that the last look could not be taken, or not to its end.
	missed bool
	// old are the ARNs of tasks that were told to stop.
	old []string
}

func newTaskWatch(c *Client, d *deployment) *taskWatch {
	return &taskWatch{c: c, d: d, table: causes(), logs: logReader{c: c, d: d}, targets: targetWatch{c: c}, over: map[string]bool{}}
}

// look tells of the tasks that have failed since the last look, and of what
// they wrote. What cannot be read now is read at the next look.
func (w *taskWatch) look(ctx context.Context) {
	for _, t := range w.tasks(ctx, ecstypes.DesiredStatusStopped) {
		arn := aws.ToString(t.TaskArn)
		switch {
		case aws.ToString(t.StartedBy) != w.d.id || isOrderly(t):
			w.over[arn] = true
			if aws.ToString(t.StartedBy) != w.d.id && len(w.old) < mostTimes {
				w.old = append(w.old, arn)
			}
		case hasEnded(t):
			w.over[arn] = true
			w.tell(ctx, t)
		}
	}
	w.logs.look(ctx)
}

// tell emits one failure.
func (w *taskWatch) tell(ctx context.Context, t ecstypes.Task) {
	failure := failureOf(t, w.logs.places(ctx))
	why := w.explainOne(failure)
	failure.Summary, failure.Fix = why.summary, why.fix
	w.failed = append(w.failed, failure)
	w.c.emit(failure)
	w.logs.want(t, failure)
}

// failureOf is what ECS says of a task's end.
func failureOf(t ecstypes.Task, places map[string]logPlace) TaskFailed {
	return TaskFailed{
		TaskID: lastPart(aws.ToString(t.TaskArn)), StopCode: string(t.StopCode), StoppedReason: aws.ToString(t.StoppedReason),
		CreatedAt: aws.ToTime(t.CreatedAt), StartedAt: aws.ToTime(t.StartedAt), StoppedAt: endOf(t),
		Containers: endsOf(t, places),
	}
}

// count is how many tasks failed for a reason of their own: not because their
// host or their Spot capacity was taken away. Those from before we watched are
// told, but not counted.
func (w *taskWatch) count() int {
	n := 0
	for _, f := range w.failed {
		if !isTakenAway(f) && !f.StoppedAt.Before(w.d.watched) {
			n++
		}
	}
	return n
}

// hopeless says whether ECS would try this deployment's tasks for ever: as many
// have failed as would open its circuit breaker, and none has outlived them. A
// service with a circuit breaker is left to it.
func (w *taskWatch) hopeless(ctx context.Context, s *ecstypes.Service, events []string) (string, bool) {
	ours := named(s, w.d.id)
	if w.d.breaker.enabled || ours == nil {
		return "", false
	}
	failed := max(w.count(), int(ours.FailedTasks)-w.d.failedBefore)
	limit := min(max((int(ours.DesiredCount)+1)/2, 3), 10)
	given := slices.ContainsFunc(events, func(e string) bool {
		return strings.Contains(e, "is unable to consistently start tasks successfully")
	})
	// The event may speak of the deployment before ours: it counts only with a
	// failure of our own.
	enough := failed >= limit || given && failed > 0
	if !enough || ours.RunningCount > 0 && w.anySteady(ctx) {
		return "", false
	}
	return plural(failed, "task") + " of this deployment failed and none stays up", true
}

// anySteady says whether a task of ours has run for longer than those lived
// that failed. Where tasks may not be read, those that run are believed.
func (w *taskWatch) anySteady(ctx context.Context) bool {
	longest := settled
	for _, f := range w.failed {
		if !f.StartedAt.IsZero() && !f.StoppedAt.IsZero() {
			longest = max(longest, f.StoppedAt.Sub(f.StartedAt))
		}
	}
	running := w.tasks(ctx, ecstypes.DesiredStatusRunning)
	if len(running) == 0 {
		return true
	}
	return slices.ContainsFunc(running, func(t ecstypes.Task) bool {
		return aws.ToString(t.StartedBy) == w.d.id && aws.ToString(t.LastStatus) == "RUNNING" &&
			t.HealthStatus != ecstypes.HealthStatusUnhealthy && t.StartedAt != nil && time.Since(*t.StartedAt) > longest
	})
}

// tasks reads the service's tasks in a desired status, but those that need no
// second look. Stopped ones are visible for about an hour.
func (w *taskWatch) tasks(ctx context.Context, status ecstypes.DesiredStatus) []ecstypes.Task {
	const pages, batch = 5, 100
	w.missed = false
	in := &ecs.ListTasksInput{ServiceName: aws.String(w.c.serviceName()), DesiredStatus: status}
	if w.c.cluster != "" {
		in.Cluster = aws.String(w.c.cluster)
	}
	var arns []string
	for range pages {
		var out *ecs.ListTasksOutput
		ok, err := w.c.spare(ctx, "ecs:ListTasks", lossOfTasks, func() (err error) {
			out, err = w.c.ecs.ListTasks(ctx, in)
			return err
		})
		if !ok {
			w.missed = err != nil
			return nil
		}
		arns = append(arns, out.TaskArns...)
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	arns = slices.DeleteFunc(arns, func(arn string) bool { return w.over[arn] })
	var all []ecstypes.Task
	for some := range slices.Chunk(arns, batch) {
		var out *ecs.DescribeTasksOutput
		ok, err := w.c.spare(ctx, "ecs:DescribeTasks", lossOfTasks, func() (err error) {
			out, err = w.c.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: in.Cluster, Tasks: some})
			return err
		})
		if !ok {
			w.missed = err != nil
			return all
		}
		all = append(all, out.Tasks...)
	}
	slices.SortStableFunc(all, func(a, b ecstypes.Task) int {
		return aws.ToTime(a.StoppedAt).Compare(aws.ToTime(b.StoppedAt))
	})
	return all
}

const lossOfTasks = "failing tasks are not named"

// isOrderly says whether a task was stopped because the service no longer
// wants it, which is no failure. Failed health checks are stopped by the
// scheduler too.
func isOrderly(t ecstypes.Task) bool {
	switch t.StopCode {
	case ecstypes.TaskStopCodeUserInitiated:
		return true
	case ecstypes.TaskStopCodeServiceSchedulerInitiated:
		return !mentions(aws.ToString(t.StoppedReason), "failed", "unhealthy", "error")
	}
	return strings.HasPrefix(aws.ToString(t.StoppedReason), "Scaling activity initiated by")
}

// hasEnded says whether a task's end is known well enough to tell it: its
// clean-up may take another half minute.
func hasEnded(t ecstypes.Task) bool {
	switch aws.ToString(t.LastStatus) {
	case "STOPPED", "DEPROVISIONING", "DELETED":
		return true
	}
	return slices.ContainsFunc(t.Containers, func(c ecstypes.Container) bool { return c.ExitCode != nil || aws.ToString(c.Reason) != "" })
}

// endOf is when a task ended, as well as it is known: StoppedAt comes only
// after its clean-up.
func endOf(t ecstypes.Task) time.Time {
	for _, at := range []*time.Time{t.ExecutionStoppedAt, t.StoppedAt, t.StoppingAt} {
		if at != nil {
			return *at
		}
	}
	return time.Time{}
}

// isTakenAway says whether a task ended because of what it ran on.
func isTakenAway(f TaskFailed) bool {
	switch ecstypes.TaskStopCode(f.StopCode) {
	case ecstypes.TaskStopCodeSpotInterruption, ecstypes.TaskStopCodeTerminationNotice, ecstypes.TaskStopCodeInfrastructureHealth:
		return true
	}
	return false
}

// plural gives "1 task", "2 tasks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
