package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/towline/towline/internal/actions"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/registry"
)

// step is a vertex of the build.
type step struct {
	number  int
	name    string
	partial []byte
	quiet   bool
}

// Build reports what happens during a build.
func (r *Reporter) Build(e progress.Event) {
	switch e := e.(type) {
	case progress.SandboxChosen:
		r.line("sandbox", e.Name)
		if e.Warning != "" {
			r.Warning(e.Warning)
		}
	case progress.StepStarted:
		r.stepStarted(e)
	case progress.StepOutput:
		r.stepOutput(e)
	case progress.StepDone:
		r.stepDone(e)
	case progress.Warning:
		r.buildWarning(e)
	case progress.LayerDone:
		if s := r.step(e.ID); s != nil && !s.quiet {
			r.line("packed", fmt.Sprintf("#%d layer %s", s.number, short(e.Digest)),
				size(e.Size), elapsed(e.Duration), count(e.Files, "entry"))
		}
	case progress.BaseUnpacked:
		r.line("unpacked", oneLine(e.Ref), size(e.Size), elapsed(e.Duration), count(e.Layers, "layer"))
	}
}

// buildWarning shows a finding at its place. BuildKit says the line once more.
func (r *Reporter) buildWarning(e progress.Warning) {
	message := e.Message
	if e.Line > 0 {
		message = strings.TrimSuffix(message, fmt.Sprintf(" (line %d)", e.Line))
	}
	if message == "" {
		message = e.Detail
	}
	if e.URL != "" {
		message += " (" + e.URL + ")"
	}
	r.warn(actions.Annotation{Title: annotationTitle, File: e.File, Line: e.Line, Message: message})
}

func (r *Reporter) step(id string) *step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.steps[id]
}

// stepStarted numbers a step. What the frontend does for itself, such as reading
// .dockerignore, is not a step to the user.
func (r *Reporter) stepStarted(e progress.StepStarted) {
	s := &step{name: e.Name, quiet: strings.HasPrefix(e.Name, "[internal]")}
	r.mu.Lock()
	if !s.quiet {
		r.shown++
		s.number = r.shown
	}
	r.steps[e.ID] = s
	r.mu.Unlock()
	if !s.quiet && !e.Cached {
		r.line("begin", fmt.Sprintf("#%d %s", s.number, oneLine(e.Name)))
	}
}

// stepOutput writes whole lines only, so that steps that run side by side do not
// break each other's lines.
func (r *Reporter) stepOutput(e progress.StepOutput) {
	s := r.step(e.ID)
	if s == nil {
		return
	}
	r.mu.Lock()
	s.partial = append(s.partial, e.Data...)
	end := bytes.LastIndexByte(s.partial, '\n')
	if end < 0 && len(s.partial) < 64<<10 {
		r.mu.Unlock()
		return
	}
	if end < 0 {
		end = len(s.partial) - 1
	}
	text := string(s.partial[:end+1])
	s.partial = append(s.partial[:0], s.partial[end+1:]...)
	r.mu.Unlock()
	r.untrusted(fmt.Sprintf("#%d | ", s.number), text)
}

func (r *Reporter) stepDone(e progress.StepDone) {
	s := r.step(e.ID)
	if s == nil {
		return
	}
	r.mu.Lock()
	rest := string(s.partial)
	s.partial = nil
	r.mu.Unlock()
	if rest != "" {
		r.untrusted(fmt.Sprintf("#%d | ", s.number), rest)
	}
	if s.quiet {
		return
	}
	what := fmt.Sprintf("#%d %s", s.number, oneLine(s.name))
	switch {
	case e.Err != nil:
		r.line("failed", what, elapsed(e.Duration))
	case e.Cached:
		r.line("cached", what)
	default:
		r.line("built", what, elapsed(e.Duration))
	}
}

// Registry reports what is moved to and from registries.
func (r *Reporter) Registry(e registry.Event) {
	object, where := short(e.Object), e.Repository
	if strings.HasPrefix(object, "tag ") {
		where = "" // the tag's reference says it
	}
	var amounts []string
	if e.Size > 0 {
		amounts = append(amounts, size(e.Size), elapsed(e.Duration))
	}
	r.line(string(e.Kind), object, append(amounts, where)...)
}
