// Package actions speaks the protocol of GitHub's runner: inputs, commands on
// standard output, files for outputs and the summary, and the ID token.
//
// Away from GitHub, and when Options.Plain is set, the same Runner writes plain
// text for a reader. Text that is not ours can become a command in neither case.
// https://docs.github.com/actions/reference/workflow-commands-for-github-actions
package actions

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/sethvargo/go-githubactions"
)

// Options says what a Runner reads from and writes to.
type Options struct {
	// Getenv reads one variable of the environment. Required.
	Getenv func(string) string
	// Stdout receives commands and text. Default: they are dropped.
	Stdout io.Writer
	// Transport carries the requests for ID tokens. Default: a transport of
	// its own, with the settings of net/http's default one.
	Transport http.RoundTripper
	// Plain writes text for a reader even on GitHub, and leaves the runner's
	// files alone. Default: false; without GITHUB_ACTIONS=true text is plain anyway.
	Plain bool
	// Terminal says that Stdout shows colours where text is plain. Default: false.
	// GitHub's log always shows them. NO_COLOR switches them off everywhere.
	Terminal bool
}

// Runner is one step's end of the protocol. It is safe for concurrent use. A
// failing write to Options.Stdout is dropped: there is nowhere to report it.
type Runner struct {
	getenv    func(string) string
	transport http.RoundTripper
	delimiter func() string
	plain     bool
	colors    bool
	files     bool

	// mu orders what is written to stdout.
	mu       sync.Mutex
	stdout   io.Writer
	library  *githubactions.Action // writes to buffer
	buffer   bytes.Buffer
	token    string // while commands are stopped: what resumes them
	open     int    // untrusted writers not closed yet
	grouped  bool
	masks    map[string]bool
	redactor *strings.Replacer
	sent     map[Level]int
	folded   map[Level]int

	// filesMu orders what is written to the runner's files.
	filesMu     sync.Mutex
	output      *os.File
	env         *os.File
	summary     *os.File
	summaryFull bool
}

// New makes the Runner of this step.
func New(o Options) *Runner {
	r := &Runner{
		getenv: o.Getenv, stdout: o.Stdout, transport: o.Transport,
		delimiter: rand.Text,
		plain:     o.Plain || o.Getenv("GITHUB_ACTIONS") != "true",
		files:     !o.Plain,
		masks:     map[string]bool{},
		redactor:  strings.NewReplacer(),
		sent:      map[Level]int{},
		folded:    map[Level]int{},
	}
	r.colors = (!r.plain || o.Terminal) && o.Getenv("NO_COLOR") == "" // https://no-color.org
	if r.stdout == nil {
		r.stdout = io.Discard
	}
	if r.transport == nil {
		r.transport = newTransport()
	}
	r.library = githubactions.New(githubactions.WithWriter(&r.buffer), githubactions.WithGetenv(r.getenv))
	return r
}

// Through has requests for ID tokens go through transport from now on. It may
// not be called while one is under way.
func (r *Runner) Through(transport http.RoundTripper) { r.transport = transport }

// Input is the value of the action's input name without blanks around it. An
// input that is not set is empty. Both forms of the variable's name are read:
// the runner's, which keeps hyphens, and nektos/act's, which has an underscore
// for everything but letters, digits and hyphens.
func (r *Runner) Input(name string) string {
	if v := r.library.GetInput(name); v != "" {
		return v
	}
	act := strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' {
			return c
		}
		return '_'
	}, strings.ToUpper(name))
	return strings.TrimSpace(r.getenv("INPUT_" + act))
}

// Mask keeps secret, and each of its lines, out of the log from now on. Call it
// before anything that could hold the secret is written. Blank text is ignored.
func (r *Runner) Mask(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := append([]string{secret}, strings.FieldsFunc(secret, func(c rune) bool { return c == '\r' || c == '\n' })...)
	changed := false
	for i, v := range values {
		v = strings.TrimSpace(v)
		if i == 0 {
			v = secret
		}
		if strings.TrimSpace(v) == "" || r.masks[v] {
			continue
		}
		r.masks[v], changed = true, true
		if !r.plain {
			r.command(func(a *githubactions.Action) { a.AddMask(v) })
		}
	}
	if changed {
		r.redactor = newRedactor(r.masks)
	}
}

// newRedactor replaces every mask by three stars, the longest first.
func newRedactor(masks map[string]bool) *strings.Replacer {
	values := make([]string, 0, len(masks))
	for v := range masks {
		values = append(values, v)
	}
	slices.SortFunc(values, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(values))
	for _, v := range values {
		pairs = append(pairs, v, "***")
	}
	return strings.NewReplacer(pairs...)
}

// Group starts a group of lines that the log can fold. Groups do not nest: a
// new one ends the former.
func (r *Runner) Group(title string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	title = strings.Join(strings.Fields(title), " ")
	r.grouped = true
	if r.plain {
		r.text("== " + title + " ==")
		return
	}
	r.command(func(a *githubactions.Action) { a.Group(title) })
}

// EndGroup ends the open group, if there is one.
func (r *Runner) EndGroup() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grouped && !r.plain {
		r.command(func(a *githubactions.Action) { a.EndGroup() })
	}
	r.grouped = false
}

// Line writes one line of our own text; line breaks in it make several. Whatever
// the text holds, the runner does not read it as a command: a text that would
// be one gets a blank in the middle of its `::` or `##[`.
func (r *Runner) Line(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text(text)
}

// Debug writes a line that is only shown when DebugOn.
func (r *Runner) Debug(text string) {
	if !r.DebugOn() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plain || r.token != "" { // not worth two lines in the log to resume and stop
		r.text("debug: " + text)
		return
	}
	r.command(func(a *githubactions.Action) { a.Debugf("%s", text) })
}

// Colors says whether who reads the log sees ANSI's colours.
func (r *Runner) Colors() bool { return r.colors }

// DebugOn says whether the step runs with debug logging, RUNNER_DEBUG=1.
func (r *Runner) DebugOn() bool { return r.getenv("RUNNER_DEBUG") == "1" }

// text writes lines that cannot be commands. r.mu is held.
func (r *Runner) text(text string) {
	var out strings.Builder
	text = strings.ReplaceAll(r.redactor.Replace(text), "\r\n", "\n")
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r", "\n"), "\n") {
		out.WriteString(defuse(line))
		out.WriteByte('\n')
	}
	_, _ = io.WriteString(r.stdout, out.String())
}

// command writes what f has the library write, where the runner listens to
// commands. r.mu is held.
func (r *Runner) command(f func(*githubactions.Action)) {
	r.resume()
	r.buffer.Reset()
	if err := calmly(func() { f(r.library) }); err != nil {
		return // the library panics when its writer fails; a buffer does not
	}
	_, _ = r.stdout.Write(r.buffer.Bytes())
}

// calmly runs f and turns a panic of the library into an error.
func calmly(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("runner protocol: %v", p)
		}
	}()
	f()
	return nil
}
