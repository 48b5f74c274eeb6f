// Package report turns the typed events of a run into log lines, annotations
// and the job summary. Nothing else below main writes to the log.
package report

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/actions"
	"github.com/towline/towline/internal/problem"
)

// Reporter writes one run's report. It is safe for concurrent use.
type Reporter struct {
	runner *actions.Runner
	begin  time.Time

	mu     sync.Mutex
	phases []phase
	steps  map[string]*step
	facts  []fact
	errors []*problem.Error
	moved  map[string]*moved
	tasks  []failedTask
}

// phase is one part of the run.
type phase struct {
	title string
	begin time.Time
	took  time.Duration
}

// fact is a line of the summary's table.
type fact struct{ name, value string }

// New makes a Reporter that writes through runner.
func New(runner *actions.Runner) *Reporter {
	return &Reporter{runner: runner, begin: time.Now(), steps: map[string]*step{}, moved: map[string]*moved{}}
}

// Phase begins a part of the run, which ends with the call of its result.
func (r *Reporter) Phase(title string) (end func()) {
	r.mu.Lock()
	r.phases = append(r.phases, phase{title: title, begin: time.Now()})
	i := len(r.phases) - 1
	r.mu.Unlock()
	r.runner.Group(title)
	return func() {
		r.mu.Lock()
		p := &r.phases[i]
		p.took = time.Since(p.begin)
		took := p.took
		r.mu.Unlock()
		r.line("done", title, elapsed(took))
		r.runner.EndGroup()
	}
}

// Say writes one line: a verb, its object, and amounts and times.
func (r *Reporter) Say(verb, object string, more ...string) { r.line(verb, object, more...) }

// Fact puts a line into the summary's table.
func (r *Reporter) Fact(name, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts = append(r.facts, fact{name, value})
}

// Notice tells the user something that is no failure.
func (r *Reporter) Notice(message string) {
	r.runner.Annotate(actions.Notice, actions.Annotation{Title: "Towline", Message: message})
}

// Warning tells the user what is likely to go wrong.
func (r *Reporter) Warning(message string) {
	r.runner.Annotate(actions.Warning, actions.Annotation{Title: "Towline", Message: message})
}

// Fail explains why the run failed: one annotation for each problem in err,
// after the lines that belong to it.
func (r *Reporter) Fail(op string, err error) {
	for _, p := range problem.All(op, err) {
		r.mu.Lock()
		r.errors = append(r.errors, p)
		r.mu.Unlock()
		if len(p.Detail) > 0 {
			r.untrusted("  ", strings.Join(p.Detail, "\n"))
		}
		r.runner.Annotate(actions.Error, actions.Annotation{Title: title(p.Op), File: p.File, Line: p.Line, Message: p.Error()})
	}
}

// title is an operation as a heading, cut to what fits one.
func title(op string) string {
	if op == "" {
		return "Towline"
	}
	op, _, _ = strings.Cut(op, "\n")
	if runes := []rune(op); len(runes) > 80 {
		op = string(runes[:79]) + "…"
	}
	return strings.ToUpper(op[:1]) + op[1:]
}

// verbWidth aligns the objects of the log's lines.
const verbWidth = 9

func (r *Reporter) line(verb, object string, more ...string) {
	text := fmt.Sprintf("%-*s %s", verbWidth, verb, object)
	for _, m := range more {
		if m != "" {
			text += "  " + m
		}
	}
	r.runner.Line(text)
}

// untrusted writes text that is not ours, each line after prefix.
func (r *Reporter) untrusted(prefix, text string) {
	w := r.runner.Untrusted()
	defer w.Close() //nolint:errcheck // it cannot fail
	for line := range strings.Lines(text) {
		_, _ = fmt.Fprintf(w, "%s%s\n", prefix, strings.TrimRight(line, "\r\n"))
	}
}

// elapsed is a duration as the log shows it: "1.2s", "3m05s".
func elapsed(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.3fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
}

// size is an amount of bytes as the log shows it: "12.4 MB".
func size(bytes int64) string {
	switch {
	case bytes < 1000:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	case bytes < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	default:
		return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
	}
}

// short is a digest as the log shows it: its first 12 digits.
func short(digest string) string {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) <= 12 {
		return digest
	}
	return algorithm + ":" + hex[:12]
}
