package report

import (
	"fmt"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// failedTask is a task for the summary.
type failedTask struct{ id, summary, fix string }

// Deploy reports what happens during a deployment.
func (r *Reporter) Deploy(e deploy.Event) {
	switch e := e.(type) {
	case deploy.Registered:
		verb := "unchanged"
		if e.Changed {
			verb = "registered"
		}
		r.line(verb, e.ARN)
	case deploy.Started:
		verb := "started"
		if e.Joined {
			verb = "joined"
		}
		r.line(verb, "deployment "+e.DeploymentID, e.TaskDefinitionARN)
		if e.ConsoleURL != "" {
			r.line("see", e.ConsoleURL)
		}
	case deploy.Waiting:
		r.waiting(e)
	case deploy.ServiceEvent:
		r.untrusted(fmt.Sprintf("%-*s %s ", verbWidth, "event", e.At.UTC().Format("15:04:05")), oneLineUncut(e.Message))
	case deploy.TaskFailed:
		r.taskFailed(e)
	case deploy.LogLines:
		r.line("last", fmt.Sprintf("lines of container %s, task %s:", e.Container, e.TaskID))
		r.untrusted("  | ", strings.Join(e.Lines, "\n"))
	case deploy.RollingBack:
		object := e.To
		if object == "" {
			object = "the last deployment that succeeded"
		}
		by := "asked for by Towline"
		if e.ByECS {
			by = "by ECS itself"
		}
		r.line("rollback", "to "+object, by)
		r.untrusted(strings.Repeat(" ", verbWidth+1), oneLineUncut(e.Reason))
	case deploy.Notice:
		r.Notice(e.Message)
	case deploy.Done:
		r.line("ended", "deployment "+e.Outcome.DeploymentID, string(e.Outcome.Status))
	}
}

func (r *Reporter) waiting(e deploy.Waiting) {
	state := fmt.Sprintf("%d of %d tasks running", e.Running, e.Desired)
	if e.Pending > 0 {
		state += fmt.Sprintf(", %d starting", e.Pending)
	}
	if e.Failed > 0 {
		state += fmt.Sprintf(", %d failed", e.Failed)
	}
	r.line("waiting", "deployment "+e.DeploymentID, strings.ToLower(strings.ReplaceAll(e.State, "_", " ")), state, elapsed(e.Elapsed))
}

func (r *Reporter) taskFailed(e deploy.TaskFailed) {
	r.line("failed", "task "+e.TaskID, e.StopCode)
	r.untrusted(strings.Repeat(" ", verbWidth+1), oneLineUncut(e.StoppedReason))
	for _, c := range e.Containers {
		text := "container " + c.Name
		if c.ExitCode != nil {
			text += fmt.Sprintf(": exit code %d", *c.ExitCode)
		}
		if c.Reason != "" {
			text += ": " + c.Reason
		}
		r.untrusted(strings.Repeat(" ", verbWidth+1), oneLineUncut(text))
	}
	if e.Summary != "" {
		r.line("why", e.Summary, e.Fix)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tasks = append(r.tasks, failedTask{e.TaskID, e.Summary, e.Fix})
}

func oneLineUncut(text string) string { return strings.Join(strings.Fields(text), " ") }
