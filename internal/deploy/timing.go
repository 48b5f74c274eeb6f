package deploy

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// mostTimes bounds how many new tasks, and how many old ones, are read at the end.
const mostTimes = 50

// timed names the tasks to be read at a deployment's end: those that the service's
// messages say were started, and those that were told to stop.
func (w *taskWatch) timed() []string {
	var ids []string
	started := regexp.MustCompile(`\(task ([0-9a-f]{32})\)`)
	for _, message := range w.said {
		if !strings.Contains(message, " has started ") {
			continue
		}
		for _, id := range started.FindAllStringSubmatch(message, -1) {
			if len(ids) < mostTimes && !slices.Contains(ids, id[1]) {
				ids = append(ids, id[1])
			}
		}
	}
	return append(ids, w.old...)
}

// tellTimes tells once how the tasks of a deployment came and went: with one
// request, for the rate of them is shared by a whole account.
func (w *taskWatch) tellTimes(ctx context.Context) {
	in := &ecs.DescribeTasksInput{Tasks: w.timed()}
	if len(in.Tasks) == 0 {
		return
	}
	if w.c.cluster != "" {
		in.Cluster = aws.String(w.c.cluster)
	}
	var out *ecs.DescribeTasksOutput
	ok, _ := w.c.spare(ctx, "ecs:DescribeTasks", lossOfTasks, func() (err error) {
		out, err = w.c.ecs.DescribeTasks(ctx, in)
		return err
	})
	if !ok {
		return
	}
	var told Timing
	for _, t := range out.Tasks {
		if aws.ToString(t.StartedBy) != w.d.id {
			told.addOld(t)
			continue
		}
		one := TaskTimes{
			TaskID:    lastPart(aws.ToString(t.TaskArn)),
			CreatedAt: aws.ToTime(t.CreatedAt), StartedAt: aws.ToTime(t.StartedAt),
			PullStartedAt: aws.ToTime(t.PullStartedAt), PullStoppedAt: aws.ToTime(t.PullStoppedAt),
		}
		if t.HealthStatus == ecstypes.HealthStatusHealthy {
			one.HealthyBy = time.Now()
		}
		told.Tasks = append(told.Tasks, one)
	}
	slices.SortFunc(told.Tasks, func(a, b TaskTimes) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.TaskID, b.TaskID))
	})
	if len(told.Tasks) > 0 || told.Stopped > 0 {
		w.c.emit(told)
	}
}

// addOld notes how an old task ended.
func (t *Timing) addOld(task ecstypes.Task) {
	if task.StoppingAt == nil || task.ExecutionStoppedAt == nil {
		return
	}
	t.Stopped++
	t.StopTook = max(t.StopTook, task.ExecutionStoppedAt.Sub(*task.StoppingAt))
	killed := func(c ecstypes.Container) bool { return aws.ToInt32(c.ExitCode) == 128+9 } // SIGKILL
	if slices.ContainsFunc(task.Containers, killed) {
		t.Killed++
	}
}
