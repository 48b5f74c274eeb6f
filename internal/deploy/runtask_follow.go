package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// taskRun is a task that was started by RunTask.
type taskRun struct {
	c      *Client
	t      Task
	arn    string
	log    taskLog
	places map[string]logPlace
	state  string
	// done is how often the task was seen running after its container had ended.
	done int
}

func (r *taskRun) id() string { return lastPart(r.arn) }

// follow looks until the task has ended. When ctx ends, so does it; otherwise its
// error is the step's.
func (r *taskRun) follow(ctx context.Context) error {
	reader := logReader{c: r.c, d: &deployment{taskDefinition: r.t.DefinitionARN}}
	r.places = reader.places(ctx)
	r.log = taskLog{c: r.c, task: r.id(), container: r.t.Container, place: r.places[r.t.Container]}
	begin, misses := time.Now(), 0
	for ctx.Err() == nil {
		task, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errMissing) && time.Since(begin) < patience: // not known everywhere yet
		case err != nil && (!isPassing(err) || misses == mostMisses):
			return r.lost(err)
		case err != nil:
			misses++
		case r.ended(task):
			return r.conclude(ctx, task)
		default:
			misses = 0
			r.endOthers(ctx, task)
		}
		if time.Since(begin) < watchful {
			r.c.pause(ctx, early, 0.1)
		} else {
			r.c.pause(ctx, usual, 0.2)
		}
	}
	return context.Cause(ctx)
}

// look reads the task, and tells what is new: its state, and what it wrote.
func (r *taskRun) look(ctx context.Context) (*ecstypes.Task, error) {
	in := &ecs.DescribeTasksInput{Tasks: []string{r.arn}}
	if r.c.cluster != "" {
		in.Cluster = aws.String(r.c.cluster)
	}
	out, err := r.c.ecs.DescribeTasks(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(out.Tasks) == 0 {
		return nil, fmt.Errorf("task %s is %w", r.id(), errMissing)
	}
	task := &out.Tasks[0]
	if state := aws.ToString(task.LastStatus); state != r.state && !r.ended(task) {
		r.state = state
		r.c.emit(TaskState{TaskID: r.id(), State: state})
	}
	if task.StartedAt != nil {
		r.log.find(task)
		r.log.look(ctx)
	}
	return task, nil
}

// container is the one whose exit code decides.
func (r *taskRun) container(task *ecstypes.Task) *ecstypes.Container {
	for i := range task.Containers {
		if aws.ToString(task.Containers[i].Name) == r.t.Container {
			return &task.Containers[i]
		}
	}
	return nil
}

// ended says whether the task's end is known: its clean-up need not be waited for.
func (r *taskRun) ended(task *ecstypes.Task) bool {
	switch aws.ToString(task.LastStatus) {
	case "STOPPED", "DELETED":
		return true
	}
	c := r.container(task)
	return c != nil && c.ExitCode != nil && aws.ToString(task.DesiredStatus) == "STOPPED"
}

// endOthers stops what still runs after the container that counts has ended: it
// need not be essential.
func (r *taskRun) endOthers(ctx context.Context, task *ecstypes.Task) {
	c := r.container(task)
	if c == nil || c.ExitCode == nil {
		return
	}
	const grace = 2 // looks in which the task may end by itself
	if r.done++; r.done <= grace {
		return
	}
	if err := r.stop(ctx, "Container "+r.t.Container+" has ended"); err != nil && r.done == grace+1 {
		r.c.emit(Notice{Message: fmt.Sprintf("container %s has ended, but the rest of task %s cannot be stopped: %s", r.t.Container, r.id(), firstLine(err))})
	}
}

func (r *taskRun) stop(ctx context.Context, reason string) error {
	in := &ecs.StopTaskInput{Task: aws.String(r.arn), Reason: aws.String(reason)}
	if r.c.cluster != "" {
		in.Cluster = aws.String(r.c.cluster)
	}
	_, err := r.c.ecs.StopTask(ctx, in)
	return err
}

// conclude reads the rest of the log, and judges.
func (r *taskRun) conclude(ctx context.Context, task *ecstypes.Task) error {
	c := r.container(task)
	well := c != nil && c.ExitCode != nil && *c.ExitCode == 0
	r.log.find(task)
	looks := logLooks
	if well {
		looks = 2
	}
	for range looks {
		r.c.pause(ctx, early/2, 0.1)
		if r.log.look(ctx); r.log.total > 0 && r.log.idle > 1 {
			break
		}
	}
	r.log.end()
	if well {
		r.c.emit(TaskEnded{TaskID: r.id(), Container: r.t.Container, Took: endOf(*task).Sub(aws.ToTime(task.CreatedAt))})
		return nil
	}
	failure := failureOf(*task, r.places)
	why := explainTask(causes(), failure, r.log.tail)
	if c != nil && c.ExitCode != nil && why.rank < rankKnown && *c.ExitCode != 137 && *c.ExitCode != 143 {
		// Not another one that failed too: this is the one that counts, unless it was killed.
		why = explainExit(ContainerEnd{Name: r.t.Container, ExitCode: aws.Int(int(*c.ExitCode))})
	}
	failure.Summary, failure.Fix = why.summary, why.fix
	r.c.emit(failure)
	detail := []string{fmt.Sprintf("task %s: %s", r.id(), strings.Trim(failure.StopCode+": "+failure.StoppedReason, ": "))}
	for _, each := range failure.Containers {
		if each.ExitCode != nil {
			detail = append(detail, fmt.Sprintf("container %s: exit code %d", each.Name, *each.ExitCode))
		}
	}
	return &problem.Error{
		Op: r.c.runOp(r.t), Err: fmt.Errorf("%s; nothing was deployed", why.summary), Fix: why.fix,
		Detail: append(detail, r.log.tail[max(0, len(r.log.tail)-logLines):]...),
	}
}

// lost is the end when ECS's answers ceased.
func (r *taskRun) lost(err error) error {
	if errors.Is(err, errMissing) {
		return r.goesOn(fmt.Errorf("it can no longer be watched: %w", err))
	}
	known, ok := errors.AsType[*problem.Error](r.c.apiProblem(r.c.runOp(r.t), "", "", err))
	if !ok {
		return err
	}
	known.Err = fmt.Errorf("task %s goes on, but can no longer be watched: %w", r.id(), known.Err)
	return known
}

// taskLog reads what a container writes, from its beginning.
type taskLog struct {
	c               *Client
	task, container string
	place           logPlace
	stream, token   string
	told            bool
	total, skipped  int
	idle            int // looks without a line
	tail            []string
}

// mostShown is how many lines are shown as they come; of those after them, the
// last ones are.
const mostShown = 1000

// find finds the container's stream, as soon as it is known.
func (l *taskLog) find(task *ecstypes.Task) {
	switch {
	case l.stream != "" || l.told:
	case l.place.driver != "awslogs" || l.place.group == "":
		l.told = true
		driver := fmt.Sprintf("its log driver is %q, not awslogs", l.place.driver)
		if l.place.driver == "" {
			driver = "its task definition names no log driver"
		}
		l.c.emit(Notice{Message: fmt.Sprintf("the log of container %s is not shown: %s", l.container, driver)})
	case l.place.prefix != "":
		l.stream = l.place.prefix + "/" + l.container + "/" + l.task
	default:
		i := slices.IndexFunc(task.Containers, func(c ecstypes.Container) bool { return aws.ToString(c.Name) == l.container })
		if i >= 0 {
			l.stream = aws.ToString(task.Containers[i].RuntimeId)
		}
	}
}

// look shows what is new.
func (l *taskLog) look(ctx context.Context) {
	if l.stream == "" {
		return
	}
	const pages = 10
	before := l.total
	for range pages {
		lines, more := l.page(ctx)
		l.show(lines)
		if !more {
			break
		}
	}
	if l.idle++; l.total > before {
		l.idle = 0
	}
}

// page reads on from where the last one ended. A stream that is not there is
// empty: the container wrote nothing, or not yet.
func (l *taskLog) page(ctx context.Context) (lines []string, more bool) {
	in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String(l.place.group), LogStreamName: aws.String(l.stream), StartFromHead: aws.Bool(true)}
	if l.token != "" {
		in.NextToken = aws.String(l.token)
	}
	var out *cloudwatchlogs.GetLogEventsOutput
	ok, _ := l.c.spare(ctx, "logs:GetLogEvents", "what the task writes is not shown", func() (err error) {
		out, err = l.c.logs.GetLogEvents(ctx, in, func(o *cloudwatchlogs.Options) {
			if l.place.region != "" {
				o.Region = l.place.region
			}
		})
		return err
	})
	if !ok {
		return nil, false
	}
	for _, e := range out.Events {
		for line := range strings.SplitSeq(strings.TrimRight(aws.ToString(e.Message), "\r\n"), "\n") {
			lines = append(lines, cut(line, logWidth))
		}
	}
	next := aws.ToString(out.NextForwardToken)
	more = len(out.Events) > 0 && next != l.token
	l.token = firstOf(next, l.token)
	return lines, more
}

// show tells lines, and keeps the last ones.
func (l *taskLog) show(lines []string) {
	if len(lines) == 0 {
		return
	}
	const kept = 50
	shown := min(len(lines), max(0, mostShown-l.total))
	if shown > 0 {
		l.c.emit(TaskOutput{TaskID: l.task, Container: l.container, Lines: lines[:shown]})
	}
	l.total += len(lines)
	l.skipped += len(lines) - shown
	l.tail = append(l.tail, lines...)
	l.tail = slices.Clone(l.tail[max(0, len(l.tail)-kept):])
}

// end tells the last of the lines that were not shown.
func (l *taskLog) end() {
	if l.skipped == 0 {
		return
	}
	last := l.tail[max(0, len(l.tail)-l.skipped):]
	l.c.emit(TaskOutput{TaskID: l.task, Container: l.container, Skipped: l.skipped - len(last), Lines: last})
}
