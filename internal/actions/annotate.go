package actions

import (
	"strconv"
	"strings"

	"github.com/sethvargo/go-githubactions"
)

// Level is how serious an annotation is.
type Level string

// The levels that GitHub shows.
const (
	Notice  Level = "notice"
	Warning Level = "warning"
	Error   Level = "error"
)

// maxAnnotations is how many annotations of one level GitHub keeps per step.
const maxAnnotations = 10

// Annotation is a message that GitHub shows above the log and at a line of a file.
type Annotation struct {
	// Title is a few words in bold; may be empty.
	Title string
	// File is a path relative to the workspace; may be empty.
	File string
	// Line and EndLine count from 1; 0 is unknown. They need File.
	Line, EndLine int
	// Message is the text. GitHub cuts it after 4,096 characters. Empty: Title.
	Message string
}

// Annotate shows a. GitHub keeps ten annotations of a level per step, so later
// ones are written as plain lines; Folded counts them.
func (r *Runner) Annotate(level Level, a Annotation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Message == "" {
		a.Message, a.Title = a.Title, ""
	}
	if a.Message == "" {
		return
	}
	if r.plain || r.sent[level] >= maxAnnotations {
		if !r.plain {
			r.folded[level]++
		}
		r.text(a.line(level))
		return
	}
	r.sent[level]++
	r.command(func(lib *githubactions.Action) {
		lib = lib.WithFieldsMap(a.fields())
		switch level {
		case Notice:
			lib.Noticef("%s", a.Message)
		case Warning:
			lib.Warningf("%s", a.Message)
		default:
			lib.Errorf("%s", a.Message)
		}
	})
}

// Folded is how many annotations of level were written as plain lines because
// GitHub would not have kept them.
func (r *Runner) Folded(level Level) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.folded[level]
}

// fields are the properties of the command.
func (a Annotation) fields() map[string]string {
	f := map[string]string{}
	if a.Title != "" {
		f["title"] = a.Title
	}
	if a.File == "" {
		return f
	}
	f["file"] = a.File
	if a.Line > 0 {
		f["line"] = strconv.Itoa(a.Line)
	}
	if a.EndLine > a.Line && a.Line > 0 {
		f["endLine"] = strconv.Itoa(a.EndLine)
	}
	return f
}

// line is the annotation as text: "warning: FILE:LINE: title: message".
func (a Annotation) line(level Level) string {
	var b strings.Builder
	b.WriteString(string(level) + ": ")
	if a.File != "" {
		b.WriteString(a.File + ":")
		if a.Line > 0 {
			b.WriteString(strconv.Itoa(a.Line) + ":")
		}
		b.WriteByte(' ')
	}
	if a.Title != "" {
		b.WriteString(a.Title + ": ")
	}
	b.WriteString(strings.ReplaceAll(strings.TrimRight(a.Message, "\r\n"), "\n", "\n  "))
	return b.String()
}
