package actions

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/towline/towline/internal/problem"
)

const (
	// maxSummary is how many bytes a step's summary may have: GitHub shows
	// nothing of a longer one.
	maxSummary = 1 << 20
	// summaryReserve is kept free for what is written where a summary is cut.
	summaryReserve = 256
	summaryCut     = "\n*The summary ends here: GitHub shows at most 1 MiB per step. The log has the rest.*\n"
)

// OpenFiles opens the runner's files for outputs, variables and the summary. Call it
// before anything that is not ours runs: from then on they are written by
// descriptor, whatever becomes of their paths.
func (r *Runner) OpenFiles() error {
	r.filesMu.Lock()
	defer r.filesMu.Unlock()
	return errors.Join(
		r.openFile(&r.output, "GITHUB_OUTPUT"),
		r.openFile(&r.env, "GITHUB_ENV"),
		r.openFile(&r.summary, "GITHUB_STEP_SUMMARY"))
}

// openFile opens the file that the variable name holds into *f, once. Without
// the variable *f stays nil. r.filesMu is held.
func (r *Runner) openFile(f **os.File, name string) error {
	path := r.getenv(name)
	if *f != nil || path == "" || !r.files {
		return nil
	}
	opened, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // the path is the runner's own
	if err != nil {
		return &problem.Error{
			Op: "open the runner's file " + name, Err: err,
			Fix: "Let the step run as root, which GitHub asks of container actions, and leave " + name + " as the runner sets it.",
		}
	}
	*f = opened
	return nil
}

// SetOutput sets one of the action's outputs. The value may have several lines;
// nothing in it can set another output. Without a file for outputs, away from
// GitHub, nobody would read it, and it is dropped.
func (r *Runner) SetOutput(name, value string) error {
	return r.set(&r.output, "GITHUB_OUTPUT", "output "+name, name, value)
}

// SetEnv sets a variable in the environment of the job's later steps, as
// SetOutput sets an output.
func (r *Runner) SetEnv(name, value string) error {
	return r.set(&r.env, "GITHUB_ENV", "variable "+name, name, value)
}

// set writes name and value into the file that the variable holds.
func (r *Runner) set(file **os.File, variable, what, name, value string) error {
	if name == "" || strings.ContainsAny(name, "=<\r\n") {
		return fmt.Errorf("%s: not a name", what)
	}
	r.filesMu.Lock()
	defer r.filesMu.Unlock()
	if err := r.openFile(file, variable); err != nil {
		return err
	}
	if *file == nil {
		if !r.plain {
			return &problem.Error{
				Op: "set " + what, Err: errors.New(variable + " is not in the environment"),
				Fix: "Use a runner of version 2.297 or newer.",
			}
		}
		return nil
	}
	delimiter := "towline_" + r.delimiter()
	if strings.Contains(value, delimiter) {
		return fmt.Errorf("%s: the value contains the delimiter", what)
	}
	if _, err := (*file).WriteString(name + "<<" + delimiter + "\n" + value + "\n" + delimiter + "\n"); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Summary appends Markdown to the step's summary. What would make the summary
// longer than GitHub shows is cut at the end of a line, with a sentence that
// says so, and everything after it is dropped. Masks are applied here too, for
// runners that do not. Without a file for the summary it does nothing.
func (r *Runner) Summary(markdown string) error {
	r.filesMu.Lock()
	defer r.filesMu.Unlock()
	if err := r.openFile(&r.summary, "GITHUB_STEP_SUMMARY"); err != nil {
		return err
	}
	if r.summary == nil || r.summaryFull || markdown == "" {
		return nil
	}
	info, err := r.summary.Stat()
	if err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	if markdown = r.redact(markdown); !strings.HasSuffix(markdown, "\n") {
		markdown += "\n"
	}
	room := maxSummary - summaryReserve - info.Size()
	if int64(len(markdown)) > room {
		r.summaryFull = true
		markdown = cutMarkdown(markdown, max(room, 0)) + summaryCut
		if info.Size()+int64(len(markdown)) > maxSummary {
			return nil // others filled it
		}
	}
	if _, err := r.summary.WriteString(markdown); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	return nil
}

// redact puts stars in place of what is masked.
func (r *Runner) redact(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.redactor.Replace(text)
}

// cutMarkdown is as many whole lines of text as fit into room bytes, with the
// code block closed that they leave open.
func cutMarkdown(text string, room int64) string {
	text = text[:strings.LastIndexByte(text[:room], '\n')+1]
	fence := ""
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		mark := line[:len(line)-len(strings.TrimLeft(line, "`"))]
		if strings.HasPrefix(line, "~") {
			mark = line[:len(line)-len(strings.TrimLeft(line, "~"))]
		}
		switch {
		case fence == "" && len(mark) >= 3:
			fence = mark
		case fence != "" && len(mark) >= len(fence) && mark[0] == fence[0] && mark == line:
			fence = ""
		}
	}
	if fence == "" || len(fence) > summaryReserve/4 {
		return text
	}
	return text + fence + "\n"
}

// Guarded lists the files by which a step tells the runner things, and the
// event. What a RUN does to them must be undone.
func (r *Runner) Guarded() []string {
	var paths []string
	for _, name := range []string{
		"GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE",
		"GITHUB_STEP_SUMMARY", "GITHUB_EVENT_PATH",
	} {
		if path := r.getenv(name); path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}
