package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

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
		r.begun(e.DeploymentID)
		r.line(verb, "deployment "+e.DeploymentID, "of "+lastPart(e.TaskDefinitionARN), e.Detail)
		if e.ConsoleURL != "" {
			r.line("see", e.ConsoleURL)
		}
	case deploy.Waiting:
		r.waiting(e)
	case deploy.Stage, deploy.Paused, deploy.AlarmRaised:
		r.strategy(e)
	case deploy.ServiceEvent:
		r.untrusted(fmt.Sprintf("%-*s %s ", verbWidth, "event", e.At.UTC().Format("15:04:05")), oneLineUncut(e.Message))
		r.told(e.Summary, e.Fix)
		r.drained(e)
	case deploy.Timing:
		r.timed(e)
	case deploy.TaskFailed:
		r.taskFailed(e)
	case deploy.LogLines:
		r.logLines(e)
	case deploy.RollingBack:
		object := lastPart(e.To)
		if object == "" {
			object = "the last deployment that succeeded"
		}
		by := "asked for by Towline"
		if e.ByECS {
			by = "by ECS itself"
			if e.CodeDeploy {
				by = "by CodeDeploy itself"
			}
		}
		r.line("rollback", "to "+object, by)
		r.indented(e.Reason)
	case deploy.Notice:
		r.Notice(e.Message)
	case deploy.Done:
		r.ended(e.Outcome)
	default:
		r.oneOff(e)
	}
}

// begun notes a deployment.
func (r *Reporter) begun(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.deployments, id) {
		r.deployments = append(r.deployments, id)
	}
}

// timed notes how tasks came and went, of each service.
func (r *Reporter) timed(t deploy.Timing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timing.Tasks = append(r.timing.Tasks, t.Tasks...)
	r.timing.Stopped += t.Stopped
	r.timing.Killed += t.Killed
	r.timing.StopTook = max(r.timing.StopTook, t.StopTook)
}

func (r *Reporter) ended(o deploy.Outcome) {
	r.mu.Lock()
	r.outcomes = append(r.outcomes, o)
	r.mu.Unlock()
	switch {
	case o.DeploymentID == "", o.Status == deploy.StatusUnchanged: // nothing was started
	case o.Status == deploy.StatusPaused:
		r.line("left", "deployment "+o.DeploymentID, "paused")
	case o.Status == deploy.StatusStarted:
		r.line("left", "deployment "+o.DeploymentID, "goes on by itself")
	default:
		r.line("ended", "deployment "+o.DeploymentID, string(o.Status))
	}
}

// logLines shows a container's last lines, unless another task's were the same.
func (r *Reporter) logLines(e deploy.LogLines) {
	text := strings.Join(e.Lines, "\n")
	r.mu.Lock()
	same := r.lastLog[e.Container] == text
	r.lastLog[e.Container] = text
	if !same {
		r.logTails = append(r.logTails, logTail{e.TaskID, e.Container, e.Lines})
	}
	r.mu.Unlock()
	object := "of container " + e.Container + ", task " + e.TaskID
	if same {
		r.line("last lines", object, "the same")
		return
	}
	r.line("last lines", object)
	r.untrusted(strings.Repeat(" ", verbWidth+1)+"| ", text)
}

// oneOff reports what happens besides the deployment of a service: a task that
// is run once, and revisions that are dropped.
func (r *Reporter) oneOff(e deploy.Event) {
	switch e := e.(type) {
	case deploy.TaskStarted:
		r.line("started", "task "+e.TaskID, "of "+lastPart(e.TaskDefinitionARN))
		if e.ConsoleURL != "" {
			r.line("see", e.ConsoleURL)
		}
	case deploy.TaskState:
		r.line("waiting", "task "+e.TaskID, strings.ToLower(e.State))
	case deploy.TaskOutput:
		r.taskOutput(e)
	case deploy.TaskEnded:
		r.line("ended", "task "+e.TaskID, "container "+e.Container+" with exit code 0", elapsed(e.Took))
	case deploy.Deregistered:
		for _, arn := range e.ARNs {
			r.line("dropped", arn)
		}
		if e.Left > 0 {
			r.line("left", count(e.Left, "older revision"), "for later runs")
		}
	}
}

// taskOutput shows what a one-off task writes, as it comes.
func (r *Reporter) taskOutput(e deploy.TaskOutput) {
	if e.Skipped > 0 {
		r.line("left out", count(e.Skipped, "line"), "of container "+e.Container)
	}
	r.untrusted(strings.Repeat(" ", verbWidth+1)+"| ", strings.Join(e.Lines, "\n"))
}

// indented writes texts that are not ours, each on a line, below the object of
// the line before.
func (r *Reporter) indented(texts ...string) {
	var b strings.Builder
	for _, text := range texts {
		if text = oneLineUncut(text); text != "" {
			b.WriteString(text + "\n")
		}
	}
	if b.Len() > 0 {
		r.untrusted(strings.Repeat(" ", verbWidth+1), b.String())
	}
}

func (r *Reporter) waiting(e deploy.Waiting) {
	state := fmt.Sprintf("%d of %d tasks running", e.Running, e.Desired)
	if e.Pending > 0 {
		state += fmt.Sprintf(", %d starting", e.Pending)
	}
	if e.Failed > 0 {
		state += fmt.Sprintf(", %d failed", e.Failed)
		if e.Threshold > 0 {
			state += fmt.Sprintf(" (circuit breaker: %d)", e.Threshold)
		}
	}
	if word := words(e.State); word != "in progress" {
		state += ", " + word
	}
	r.line("waiting", r.of(e.DeploymentID)+state, elapsed(e.Elapsed))
}

// of names a deployment where there are several.
func (r *Reporter) of(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.deployments) < 2 {
		return ""
	}
	return "deployment " + id + ": "
}

// taskFailed tells of one task what is not known from another one already.
func (r *Reporter) taskFailed(e deploy.TaskFailed) {
	r.mu.Lock()
	known := e.Summary != "" && slices.ContainsFunc(r.tasks, func(t failedTask) bool { return t.summary == e.Summary })
	r.tasks = append(r.tasks, failedTask{e.TaskID, e.Summary, e.Fix, e})
	r.mu.Unlock()
	if known {
		r.line("failed", "task "+e.TaskID, e.StopCode, "as before")
		return
	}
	r.line("failed", "task "+e.TaskID, e.StopCode)
	texts := []string{e.StoppedReason}
	for _, c := range e.Containers {
		text := ""
		if c.ExitCode != nil {
			text += fmt.Sprintf(": exit code %d", *c.ExitCode)
		}
		if c.Reason != "" {
			text += ": " + c.Reason
		}
		if text != "" {
			texts = append(texts, "container "+c.Name+text)
		}
	}
	r.indented(texts...)
	r.told(e.Summary, e.Fix)
}

// told says what a failure means and what to do, unless it has been said.
func (r *Reporter) told(summary, fix string) {
	r.mu.Lock()
	known := summary == "" || r.causes[summary]
	r.causes[summary] = true
	r.mu.Unlock()
	if known {
		return
	}
	r.line("why", oneLineUncut(summary))
	if fix != "" {
		r.line("to do", oneLineUncut(fix))
	}
}

// lastPart is the short form of an ARN: FAMILY:REVISION of a task definition.
func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func oneLineUncut(text string) string { return strings.Join(strings.Fields(text), " ") }
