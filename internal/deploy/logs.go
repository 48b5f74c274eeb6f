package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	// mostLogs is of how many failed tasks the last lines are read: they tend
	// to die of the same cause.
	mostLogs = 3
	// logLooks is how often an empty log is read again: lines arrive seconds
	// after they were written.
	logLooks = 4
	// logLines is how many lines are read.
	logLines = 20
	// logWidth cuts longer lines, in bytes.
	logWidth = 2000
)

// logReader reads the last lines of failed containers from CloudWatch Logs.
type logReader struct {
	c       *Client
	d       *deployment
	read    bool // the task definition was asked for
	known   map[string]logPlace
	told    map[string]bool
	waiting []logWanted
	wanted  int
	found   []LogLines
}

// logPlace is where a container's log goes.
type logPlace struct {
	driver, group, prefix, region string
	// check is the command of the container's own health check, or empty.
	check     string
	essential bool
}

// logWanted is one stream to read.
type logWanted struct {
	task, container, stream string
	place                   logPlace
	looks                   int
}

// places reads from the task definition where its containers log to. Without
// the permission for that, nothing is known.
func (r *logReader) places(ctx context.Context) map[string]logPlace {
	if r.read {
		return r.known
	}
	var answer []byte
	ok, err := r.c.spare(ctx, "ecs:DescribeTaskDefinition", "the last log lines of failed containers are not shown", func() (err error) {
		answer, err = r.c.definition(ctx, r.d.taskDefinition)
		return err
	})
	if err != nil {
		return nil // asked again for the next task
	}
	r.read, r.known, r.told = true, map[string]logPlace{}, map[string]bool{}
	var got struct {
		TaskDefinition struct {
			ContainerDefinitions []struct {
				Name             string
				Essential        *bool
				HealthCheck      struct{ Command []string }
				LogConfiguration struct {
					LogDriver string
					Options   map[string]string
				}
			}
		}
	}
	if !ok || json.Unmarshal(answer, &got) != nil {
		return r.known
	}
	for _, def := range got.TaskDefinition.ContainerDefinitions {
		log := def.LogConfiguration
		r.known[def.Name] = logPlace{
			driver: log.LogDriver, group: log.Options["awslogs-group"], prefix: log.Options["awslogs-stream-prefix"],
			region: log.Options["awslogs-region"], essential: def.Essential == nil || *def.Essential,
			check: checkCommand(def.HealthCheck.Command),
		}
	}
	return r.known
}

// want notes the container of a failed task that is to blame.
func (r *logReader) want(t ecstypes.Task, failure TaskFailed) {
	culprit := blame(failure.Containers)
	if culprit == nil || r.wanted == mostLogs {
		return
	}
	place, known := r.known[culprit.Name]
	if !known {
		return
	}
	if place.driver != "awslogs" || place.group == "" {
		if !r.told[culprit.Name] {
			r.told[culprit.Name] = true
			r.c.emit(Notice{Message: fmt.Sprintf("the log of container %s is not shown: its log driver is %q, not awslogs", culprit.Name, place.driver)})
		}
		return
	}
	wanted := logWanted{task: failure.TaskID, container: culprit.Name, place: place}
	wanted.stream = place.prefix + "/" + culprit.Name + "/" + failure.TaskID
	if place.prefix == "" {
		i := slices.IndexFunc(t.Containers, func(c ecstypes.Container) bool { return aws.ToString(c.Name) == culprit.Name })
		wanted.stream = aws.ToString(t.Containers[i].RuntimeId)
	}
	if wanted.stream == "" {
		return
	}
	r.wanted++
	r.waiting = append(r.waiting, wanted)
}

// look reads what is wanted; what is still empty is read again at later looks.
func (r *logReader) look(ctx context.Context) {
	still := r.waiting[:0]
	for _, w := range r.waiting {
		lines := r.lines(ctx, w)
		if w.looks++; len(lines) == 0 {
			if w.looks < logLooks {
				still = append(still, w)
			}
			continue
		}
		got := LogLines{TaskID: w.task, Container: w.container, Lines: lines}
		r.found = append(r.found, got)
		r.c.emit(got)
	}
	r.waiting = still
}

// lines reads the end of one stream. A stream that is not there is empty: the
// container wrote nothing, or not yet.
func (r *logReader) lines(ctx context.Context, w logWanted) []string {
	var out *cloudwatchlogs.GetLogEventsOutput
	ok, _ := r.c.spare(ctx, "logs:GetLogEvents", "the last log lines of failed containers are not shown", func() (err error) {
		out, err = r.c.logs.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{
			LogGroupName: aws.String(w.place.group), LogStreamName: aws.String(w.stream),
			StartFromHead: aws.Bool(false), Limit: aws.Int32(logLines),
		}, func(o *cloudwatchlogs.Options) {
			if w.place.region != "" {
				o.Region = w.place.region
			}
		})
		return err
	})
	if !ok {
		return nil
	}
	var lines []string
	for _, e := range out.Events {
		for line := range strings.SplitSeq(strings.TrimRight(aws.ToString(e.Message), "\r\n"), "\n") {
			lines = append(lines, cut(line, logWidth))
		}
	}
	return lines[max(0, len(lines)-logLines):]
}

// of gives what a task's container wrote, as far as it was read.
func (r *logReader) of(task string) []string {
	for _, l := range r.found {
		if l.TaskID == task {
			return l.Lines
		}
	}
	return nil
}

// blame finds the container whose end ended the task: one that ran out of
// memory, else an essential one that failed by itself, else any that failed.
// The others of the task are killed after it, with 137 or 143.
func blame(containers []ContainerEnd) *ContainerEnd {
	best, most := -1, 0
	for i, c := range containers {
		if c.ExitCode == nil {
			continue
		}
		score := 1
		switch code := *c.ExitCode; {
		case strings.Contains(c.Reason, "OutOfMemory"):
			score = 6
		case code != 0 && code != 137 && code != 143:
			score = 4
		case code != 0:
			score = 2
		}
		if c.Essential {
			score++
		}
		if score > most {
			best, most = i, score
		}
	}
	if best < 0 {
		return nil
	}
	return &containers[best]
}
