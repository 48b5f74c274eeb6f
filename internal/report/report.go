// Package report turns the typed events of a run into log lines, annotations
// and the job summary. Nothing else below main writes to the log.
package report

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/towline/towline/internal/actions"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/problem"
)

// Reporter writes one run's report. It is safe for concurrent use.
type Reporter struct {
	runner *actions.Runner
	begin  time.Time

	mu          sync.Mutex
	phases      []*phase
	steps       map[string]*step
	order       []*step // as they began
	shown       int     // steps that have a number
	facts       []fact
	outputs     []fact
	errors      []*problem.Error
	warnings    []actions.Annotation
	tasks       []failedTask
	causes      map[string]bool   // that have been told
	lastLog     map[string]string // by container: the last lines that were shown
	deployments []string          // the deployments that were told of
	outcomes    []deploy.Outcome
	services    []Service // the table of several
	changes     []change
	logTails    []logTail
	stages      []stage
	timing      deploy.Timing
	checks      []check
	// draining is since when old tasks are drained, drain how long it took.
	draining time.Time
	drain    time.Duration
}

// change is a difference of a task definition.
type change struct{ path, before, after string }

// stage is where a deployment stood from a moment on.
type stage struct {
	id, name string
	at       time.Time
}

// phase is one part of the run.
type phase struct {
	title  string
	begin  time.Time
	took   time.Duration
	over   bool
	failed bool
}

// fact is a line of the summary's table, or an output.
type fact struct{ name, value string }

// New makes a Reporter that writes through runner.
func New(runner *actions.Runner) *Reporter {
	return &Reporter{runner: runner, begin: time.Now(), steps: map[string]*step{}, lastLog: map[string]string{}, causes: map[string]bool{}}
}

// Phase begins a part of the run, which ends with the call of its result.
func (r *Reporter) Phase(title string) (end func(error)) {
	p := &phase{title: title, begin: time.Now()}
	r.mu.Lock()
	r.phases = append(r.phases, p)
	r.mu.Unlock()
	r.runner.Group(title)
	return func(err error) {
		r.mu.Lock()
		p.took, p.over, p.failed = time.Since(p.begin), true, err != nil
		took := p.took
		r.mu.Unlock()
		verb := "done"
		if err != nil {
			verb = "failed"
		}
		r.runner.EndGroup() // what follows can be read when the group is folded
		r.line(verb, title, elapsed(took))
	}
}

// Say writes one line: a verb, its object, and amounts and times.
func (r *Reporter) Say(verb, object string, more ...string) { r.line(verb, object, more...) }

// Text writes text that is not ours, as it is.
func (r *Reporter) Text(text string) { r.untrusted("", text) }

// Change tells what is different in a new task definition; before or after is
// empty where there is none.
func (r *Reporter) Change(path, before, after string) {
	how := short(clip(before, maxValue)) + " -> " + short(clip(after, maxValue))
	switch {
	case before == "":
		how = "added " + short(clip(after, maxValue))
	case after == "":
		how = "removed"
	}
	r.line("change", path, how)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, change{path, clip(before, maxValue), clip(after, maxValue)})
}

// Fact puts a line into the summary's table. A later value of the same name
// takes the former's place.
func (r *Reporter) Fact(name, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts = put(r.facts, name, value)
}

// Output sets one of the action's outputs at once, and shows it at the end.
func (r *Reporter) Output(name, value string) error {
	r.mu.Lock()
	r.outputs = put(r.outputs, name, value)
	r.mu.Unlock()
	return r.runner.SetOutput(name, value)
}

func put(facts []fact, name, value string) []fact {
	for i, f := range facts {
		if f.name == name {
			facts[i].value = value
			return facts
		}
	}
	return append(facts, fact{name, value})
}

// Notice tells the user something that is no failure.
func (r *Reporter) Notice(message string) {
	r.runner.Annotate(actions.Notice, actions.Annotation{Title: annotationTitle, Message: message})
}

// Warning tells the user what is likely to go wrong.
func (r *Reporter) Warning(message string) {
	r.warn(actions.Annotation{Title: annotationTitle, Message: message})
}

func (r *Reporter) warn(a actions.Annotation) {
	r.mu.Lock()
	r.warnings = append(r.warnings, a)
	r.mu.Unlock()
	r.runner.Annotate(actions.Warning, a)
}

// annotationTitle stands above each annotation; its message says the rest, for
// the log shows the message alone.
const annotationTitle = "Towline"

// Fail explains why the run failed: one annotation for each problem in err,
// after the lines that belong to it.
func (r *Reporter) Fail(op string, err error) {
	for _, p := range problem.All(op, err) {
		told := *p
		told.Op = oneLine(p.Op)
		r.mu.Lock()
		r.errors = append(r.errors, &told)
		r.mu.Unlock()
		if len(p.Detail) > 0 {
			r.untrusted("  ", strings.Join(p.Detail, "\n"))
		}
		r.runner.Annotate(actions.Error, actions.Annotation{Title: annotationTitle, File: p.File, Line: p.Line, Message: told.Error()})
	}
}

// The widths to which the log's columns are filled.
const (
	verbWidth   = 10
	objectWidth = 30
	amountWidth = 8
	// maxLine is how many characters of a line that is not ours are shown.
	maxLine = 2000
	// maxValue is how many characters of a changed value are shown.
	maxValue = 300
)

// line writes one line of columns. The last one, and what is too wide, is as
// wide as it is.
func (r *Reporter) line(verb, object string, more ...string) {
	r.runner.Line(r.paintVerb(columns(verb, object, more...)))
}

func columns(verb, object string, more ...string) string {
	cells, widths := []string{verb, object}, []int{verbWidth, objectWidth}
	for _, m := range more {
		if m != "" {
			cells, widths = append(cells, m), append(widths, amountWidth)
		}
	}
	var b strings.Builder
	b.WriteString(cells[0])
	for i, cell := range cells[1:] {
		if gap := widths[i] - utf8.RuneCountInString(cells[i]); gap > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(" " + cell)
	}
	return b.String()
}

// untrusted writes text that is not ours, each line after prefix. Of a line
// that was drawn over, as progress bars are, the last state is shown.
func (r *Reporter) untrusted(prefix, text string) {
	w := r.runner.Untrusted()
	defer w.Close() //nolint:errcheck // it cannot fail
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		line = line[strings.LastIndexByte(line, '\r')+1:]
		_, _ = fmt.Fprintf(w, "%s%s\n", prefix, clip(line, maxLine))
	}
}

// clip cuts text to a number of characters, and says how many it left out.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return fmt.Sprintf("%s… (%d more characters)", string(runes[:most]), len(runes)-most)
}

// count is a number of things: "1 layer", "2 layers".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if base, ok := strings.CutSuffix(thing, "y"); ok {
		return fmt.Sprintf("%d %sies", n, base)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// elapsed is a duration as the log shows it: "0.02s", "1.2s", "3m05s".
func elapsed(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
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

// short cuts digests to their first 12 digits, wherever they stand in text.
func short(text string) string {
	return regexp.MustCompile(`(sha256:[0-9a-f]{12})[0-9a-f]{52}`).ReplaceAllString(text, "$1")
}

// oneLine is text on one line, its digests shortened, cut to what fits.
func oneLine(text string) string {
	text = short(strings.Join(strings.Fields(text), " "))
	if runes := []rune(text); len(runes) > 120 {
		text = string(runes[:119]) + "…"
	}
	return text
}
