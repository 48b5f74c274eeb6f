package report

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// failedTask is a task for the summary.
type failedTask struct {
	id, summary, fix string
	at               deploy.TaskFailed
}

// logTail is what a failed task wrote last.
type logTail struct {
	task, container string
	lines           []string
}

// mostLogTails bounds how many containers' last lines the summary shows, and
// mostLogLines how many of each.
const mostLogTails, mostLogLines = 5, 50

// failingTasks tells of the failed tasks, those that failed alike together.
func (r *Reporter) failingTasks() string {
	if len(r.tasks) == 0 {
		return ""
	}
	type kind struct{ summary, fix string }
	alike := map[kind][]failedTask{}
	var order []kind
	for _, t := range r.tasks {
		key := kind{t.summary, t.fix}
		if alike[key] == nil {
			order = append(order, key)
		}
		alike[key] = append(alike[key], t)
	}
	var b strings.Builder
	b.WriteString("#### Failing tasks\n\n| | Why | ECS says | Ran for |\n|---|---|---|---:|\n")
	for _, key := range order {
		last := alike[key][len(alike[key])-1]
		why := cell(key.summary)
		if key.fix != "" {
			why += "<br>**To do:** " + cell(key.fix)
		}
		fmt.Fprintf(&b, "| %s, the last:<br>%s | %s | %s | %s |\n", count(len(alike[key]), "task"), code(last.id[:min(len(last.id), 32)]), why, ecsSays(last.at), ranFor(last.at))
	}
	b.WriteString("\n")
	for _, tail := range r.logTails[:min(len(r.logTails), mostLogTails)] {
		lines := tail.lines[max(0, len(tail.lines)-mostLogLines):]
		fmt.Fprintf(&b, "Last lines of container %s, task %s:\n\n%s\n", code(tail.container), code(tail.task), fence("text", lines))
	}
	return b.String()
}

// ecsSays is the end of a task in ECS's words.
func ecsSays(t deploy.TaskFailed) string {
	texts := []string{cell(t.StopCode)}
	if t.StoppedReason != "" {
		texts = append(texts, cell(t.StoppedReason))
	}
	for _, c := range t.Containers {
		text := ""
		if c.ExitCode != nil {
			text += fmt.Sprintf(": exit code %d", *c.ExitCode)
		}
		if c.Reason != "" {
			text += ": " + c.Reason
		}
		if text != "" {
			texts = append(texts, cell("container "+c.Name+text))
		}
	}
	return strings.Join(texts, "<br>")
}

func ranFor(t deploy.TaskFailed) string {
	if t.StartedAt.IsZero() || !t.StoppedAt.After(t.StartedAt) {
		return "never ran"
	}
	return elapsed(t.StoppedAt.Sub(t.StartedAt))
}

// newTasks tells how each new task came up.
func (r *Reporter) newTasks() string {
	if len(r.timing.Tasks) == 0 {
		return ""
	}
	const most = 20
	between := func(from, to time.Time) string {
		if from.IsZero() || to.IsZero() || to.Before(from) {
			return ""
		}
		return elapsed(to.Sub(from))
	}
	var b strings.Builder
	b.WriteString("| New task | Created (UTC) | Provisioned | Image pulled | Started | Healthy within |\n|---|---|---:|---:|---:|---:|\n")
	for _, t := range r.timing.Tasks[:min(len(r.timing.Tasks), most)] {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", code(t.TaskID), t.CreatedAt.UTC().Format("15:04:05"),
			between(t.CreatedAt, t.PullStartedAt), between(t.PullStartedAt, t.PullStoppedAt),
			between(t.PullStoppedAt, t.StartedAt), between(t.StartedAt, t.HealthyBy))
	}
	if more := len(r.timing.Tasks) - most; more > 0 {
		fmt.Fprintf(&b, "\nand %s more.\n", count(more, "task"))
	}
	return b.String() + "\n"
}

// From which times on something is worth a hint.
const (
	longPull     = 20 * time.Second
	longHealth   = 20 * time.Second
	longInterval = 10 * time.Second
	longStop     = 15 * time.Second
	longDrain    = 45 * time.Second
	longBake     = time.Minute
)

// hints say what would make the next deployment faster.
func (r *Reporter) hints() string {
	var hints []string
	add := func(format string, args ...any) { hints = append(hints, fmt.Sprintf(format, args...)) }
	var pull, health time.Duration
	for _, t := range r.timing.Tasks {
		pull = max(pull, t.PullStoppedAt.Sub(t.PullStartedAt))
		if !t.HealthyBy.IsZero() {
			health = max(health, t.HealthyBy.Sub(t.StartedAt))
		}
	}
	if pull >= longPull {
		of := ""
		if text := r.fact("Size"); text != "" {
			of = " of " + text
		}
		add("Pulling the image%s took %s: a last stage with less in it, or `compression: zstd`, makes each task start sooner.", of, elapsed(pull))
	}
	for _, c := range r.checks {
		if health >= longHealth && c.interval >= longInterval {
			add("Tasks were healthy %s after their start, and container %s is looked at every %s only: with `\"interval\": 5` in its health check a task counts up to %s sooner.",
				elapsed(health), code(c.container), elapsed(c.interval), elapsed(c.interval-5*time.Second))
		}
	}
	if r.timing.Killed > 0 && r.timing.StopTook >= longStop {
		add("%s had to be killed, after %s: let the program end at SIGTERM (a `CMD` in the JSON form gets it, one behind a shell does not), or lower `stopTimeout`.",
			count(r.timing.Killed, "old task"), elapsed(r.timing.StopTook))
	}
	if r.drain >= longDrain {
		add("Old tasks were drained for %s: lower `deregistration_delay.timeout_seconds` of the target group (300 s unless set) to what the longest request needs.", elapsed(r.drain))
	}
	for i, s := range r.stages {
		if i+1 < len(r.stages) && strings.Contains(s.name, "bake time") && r.stages[i+1].at.Sub(s.at) >= longBake {
			add("The deployment baked for %s: `bake-time-minutes` sets for how long.", elapsed(r.stages[i+1].at.Sub(s.at)))
		}
	}
	if len(hints) == 0 {
		return ""
	}
	return "#### Faster next time\n\n- " + strings.Join(hints, "\n- ") + "\n\n"
}

// check is a container's health check.
type check struct {
	container string
	interval  time.Duration
}

// HealthCheck notes how often ECS looks whether a container is well.
func (r *Reporter) HealthCheck(container string, interval time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.checks {
		if c.container == container {
			return
		}
	}
	r.checks = append(r.checks, check{container, cmp.Or(interval, 30*time.Second)})
}

// drained notes from a service's messages for how long old tasks were drained.
func (r *Reporter) drained(e deploy.ServiceEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case strings.Contains(e.Message, "has begun draining connections"):
		if r.draining.IsZero() {
			r.draining = e.At
		}
	case strings.Contains(e.Message, "has stopped") && !r.draining.IsZero():
		r.drain = max(r.drain, e.At.Sub(r.draining))
		r.draining = time.Time{}
	}
}
