package report

import (
	"bytes"
	"fmt"
	"strings"
	"time"

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

// moved counts what was done with the objects of one kind of transfer.
type moved struct {
	count int
	size  int64
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
		message := e.Message
		if e.Detail != "" && !strings.Contains(message, e.Detail) {
			message += " (" + e.Detail + ")"
		}
		if e.URL != "" {
			message += " " + e.URL
		}
		r.runner.Annotate(actions.Warning, actions.Annotation{Title: "Dockerfile", File: e.File, Line: e.Line, Message: message})
	case progress.LayerDone:
		if s := r.step(e.ID); s != nil && !s.quiet {
			r.line("packed", fmt.Sprintf("#%d layer %s", s.number, short(e.Digest)),
				fmt.Sprintf("%d entries", e.Files), size(e.Size), elapsed(e.Duration))
		}
	case progress.BaseUnpacked:
		r.line("unpacked", e.Ref, fmt.Sprintf("%d layers", e.Layers), size(e.Size), elapsed(e.Duration))
	}
}

func (r *Reporter) step(id string) *step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.steps[id]
}

// stepStarted numbers a step. What the frontend does for itself, such as reading
// .dockerignore, is not a step to the user.
func (r *Reporter) stepStarted(e progress.StepStarted) {
	r.mu.Lock()
	s := &step{number: len(r.steps) + 1, name: e.Name, quiet: strings.HasPrefix(e.Name, "[internal]")}
	if s.quiet {
		s.number = 0
	}
	for _, other := range r.steps {
		if other.quiet {
			s.number--
		}
	}
	r.steps[e.ID] = s
	r.mu.Unlock()
	if !s.quiet {
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
	verb := "built"
	switch {
	case e.Err != nil:
		verb = "failed"
	case e.Cached:
		verb = "cached"
	}
	r.line(verb, fmt.Sprintf("#%d %s", s.number, oneLine(s.name)), elapsed(e.Duration))
}

// oneLine is a step's name cut to a line of the log.
func oneLine(name string) string {
	name = strings.Join(strings.Fields(name), " ")
	if runes := []rune(name); len(runes) > 120 {
		name = string(runes[:119]) + "…"
	}
	return name
}

// Registry reports what is moved to and from registries.
func (r *Reporter) Registry(e registry.Event) {
	r.mu.Lock()
	m := r.moved[string(e.Kind)]
	if m == nil {
		m = &moved{}
		r.moved[string(e.Kind)] = m
	}
	m.count++
	m.size += e.Size
	r.mu.Unlock()
	object := e.Object
	if kind, digest, ok := strings.Cut(object, " "); ok {
		object = kind + " " + short(digest)
	}
	var amounts []string
	if e.Size > 0 {
		amounts = append(amounts, size(e.Size))
	}
	if e.Duration > time.Millisecond {
		amounts = append(amounts, elapsed(e.Duration))
	}
	r.line(string(e.Kind), object, append(amounts, e.Repository)...)
}
