package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/problem"
)

// explainLimit bounds the last look at what failed: it takes a moment, unless
// ECS refuses reads.
const explainLimit = 2 * time.Minute

// told is what is known about why a deployment did not succeed.
type told struct {
	explanation
	detail []string
}

// explain gathers why tasks failed, after a last look at them.
func (f *follower) explain(ctx context.Context, v verdict) told {
	if v.status == StatusFailed || v.status == StatusRolledBack || v.status == StatusTimedOut {
		last, cancel := context.WithTimeoutCause(ctx, explainLimit, errors.New("no more time to look at failed tasks"))
		defer cancel()
		for range logLooks {
			f.tasks.look(last)
			again := f.tasks.missed
			if v.status == StatusTimedOut || f.tasks.blamesBalancer() {
				f.tasks.targets.look(last, f.service)
			}
			if !again && len(f.tasks.logs.waiting) == 0 || last.Err() != nil {
				break
			}
			f.c.pause(last, early, 0.1)
		}
	}
	best := f.tasks.why(f.events)
	if e, known := explainText(f.tasks.table, v.reason); known && (e.rank == rankKnown && best.rank < rankKnown || best.summary == "") {
		best = told{explanation: e}
	}
	return best
}

// why picks the most telling failure: known causes before exit codes before
// unknown ones, then the most frequent, then the latest. Where no task was
// even begun, the service's events are asked.
func (w *taskWatch) why(events []string) told {
	var best told
	counts := map[string]int{}
	for _, failure := range w.failed {
		e := w.explainOne(failure)
		counts[e.summary]++
		better := best.summary == "" || e.rank > best.rank || e.rank == best.rank && counts[e.summary] >= counts[best.summary]
		same := e.summary == best.summary && len(w.logs.of(failure.TaskID)) == 0 && len(w.logs.found) > 0
		if better && !same {
			best = told{explanation: e, detail: w.detail(failure)}
		}
	}
	if best.summary != "" {
		return best
	}
	for _, message := range events {
		if e, known := explainText(w.table, message); known && e.rank >= best.rank {
			best = told{explanation: e, detail: []string{message}}
		}
	}
	if e, asked := w.explainTarget(); asked && best.rank < rankKnown {
		best = told{explanation: e, detail: []string{w.targets.said}}
	}
	return best
}

// detail is what ECS and the container themselves said of one failure.
func (w *taskWatch) detail(f TaskFailed) []string {
	head := fmt.Sprintf("task %s: %s", f.TaskID, f.StopCode)
	if f.StoppedReason != "" {
		head += ": " + f.StoppedReason
	}
	detail := []string{head}
	for _, c := range f.Containers {
		line := "container " + c.Name
		if c.ExitCode != nil {
			line += fmt.Sprintf(": exit code %d", *c.ExitCode)
		}
		if c.Reason != "" {
			line += ": " + c.Reason
		}
		if c.ExitCode != nil || c.Reason != "" {
			detail = append(detail, line)
		}
	}
	return append(detail, w.logs.of(f.TaskID)...)
}

// praise is the reason of a success: what should be known in spite of it.
func (f *follower) praise() string {
	if f.d.scaling {
		return "the service already ran this task definition; it now runs " + plural(f.d.desired, "task")
	}
	if f.d.desired == 0 {
		return "the desired count is 0: no task was started, nothing was verified"
	}
	if n := len(f.tasks.failed); n > 0 {
		return fmt.Sprintf("%s failed on the way", plural(n, "task"))
	}
	return ""
}

// problem is the error of a deployment that did not succeed.
func (f *follower) problem(v verdict, t told) error {
	e := &problem.Error{Op: "deploy to service " + f.c.serviceName(), Fix: t.fix, Detail: t.detail}
	what := fmt.Sprintf("deployment %s of %s ", f.d.id, lastPart(f.d.taskDefinition))
	switch v.status {
	case StatusRolledBack:
		what += "did not succeed"
	case StatusTimedOut:
		e.Input, e.Value = "wait-for-minutes", fmt.Sprint(f.c.opts.WaitLimit.Minutes())
		what += "goes on with " + f.runs
		if f.rolling {
			what += ", on its way back"
		}
		e.Fix = firstOf(t.fix, "Look why its tasks are slow to become healthy, or raise wait-for-minutes.") +
			" To stop the deployment: " + f.c.stopCommand(f.d)
	case StatusSuperseded:
		what += "was superseded"
		e.Fix = "Let only one deployment at a time run for the service: give the job a concurrency group."
		e.Detail = nil
	case StatusStopped:
		what += "was stopped by somebody"
		e.Fix = "Look in CloudTrail for who called StopServiceDeployment, and run the job again."
		e.Detail = nil
	default:
		what += "failed"
		if f.d.previous != "" && !f.c.reverting {
			e.Fix = strings.TrimSpace(e.Fix + " To go back by hand: " + f.c.updateCommand(f.d.previous))
		}
	}
	if t.words != "" && t.words != v.reason {
		t.summary += " (" + cut(t.words, 400) + ")"
	}
	e.Err = errors.New(what + ": " + reason(v, t))
	if e.Fix == "" {
		e.Fix = "Look at the service's events and at the logs of its tasks."
		if strings.HasPrefix(v.reason, "service not stable after") {
			e.Fix = "Look why its tasks are slow to become healthy, or raise wait-for-minutes."
		}
	}
	return e
}

// reason puts ECS's verdict, the cause behind it and what came of it into one
// line.
func reason(v verdict, t told) string {
	line := strings.TrimRight(v.reason, ". ")
	switch {
	case t.summary == "", t.words == v.reason && line != "":
		line = firstOf(line, "no reason given")
	case line == "":
		line = t.summary
	default:
		line += ": " + t.summary
	}
	if v.sequel != "" {
		line += "; " + v.sequel
	}
	return line
}

// cut shortens a text to at most n bytes, at a character's border.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "..."
}

// span writes a time as people do: 10m, not 10m0s.
func span(d time.Duration) string {
	if text, whole := strings.CutSuffix(d.String(), "m0s"); whole {
		return text + "m"
	}
	return d.String()
}
