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
	quiet   bool // BuildKit's frontend does it for itself
	base    bool // it only names an image

	begin  time.Time
	took   time.Duration
	cached bool
	over   bool
	failed bool
	// layer is what it made, unless that was told on a line of its own.
	layer *progress.LayerDone
	size  int64 // of the layer, compressed
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
		r.layerDone(e)
	case progress.BaseUnpacked:
		r.line("unpacked", oneLine(e.Ref), size(e.Size), elapsed(e.Duration), count(e.Layers, "layer"))
	case progress.MountRestored:
		r.line("restored", "cache mount "+oneLine(e.Path), size(e.Size), elapsed(e.Duration), count(e.Files, "file"))
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
	s := &step{
		name: e.Name, quiet: strings.HasPrefix(e.Name, "[internal]"), begin: time.Now(),
		base: strings.HasPrefix(e.Name[strings.IndexByte(e.Name, ']')+1:], " FROM "),
	}
	r.mu.Lock()
	if !s.quiet {
		r.shown++
		s.number = r.shown
	}
	r.steps[e.ID] = s
	r.order = append(r.order, s)
	r.mu.Unlock()
	verb := "begin"
	if s.base {
		verb = "base"
	}
	if !s.quiet && !e.Cached {
		r.line(verb, s.title())
	}
}

// title is the step's number and what it does.
func (s *step) title() string { return fmt.Sprintf("#%d %s", s.number, oneLine(s.name)) }

// layerDone keeps a layer for the line that ends its step; one that is packed
// later, because only then somebody wanted it, has a line of its own.
func (r *Reporter) layerDone(e progress.LayerDone) {
	r.mu.Lock()
	s := r.steps[e.ID]
	if s == nil || s.quiet {
		r.mu.Unlock()
		return
	}
	s.size = e.Size
	over := s.over
	if !over {
		s.layer = &e
	}
	r.mu.Unlock()
	if over {
		r.line("packed", fmt.Sprintf("#%d", s.number), elapsed(e.Duration), layerText(e))
	}
}

func layerText(e progress.LayerDone) string {
	return fmt.Sprintf("layer %s, %s, %s", short(e.Digest), size(e.Size), count(e.Files, "entry"))
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
	r.stepText(s, text)
}

// stepDone ends a step. A line says the name only where it is needed, for the
// line that began the step has it too.
func (r *Reporter) stepDone(e progress.StepDone) {
	s := r.step(e.ID)
	if s == nil {
		return
	}
	r.mu.Lock()
	rest := string(s.partial)
	s.partial = nil
	s.took, s.cached, s.over, s.failed = e.Duration, e.Cached, true, e.Err != nil
	layer := s.layer
	r.mu.Unlock()
	if rest != "" {
		r.stepText(s, rest)
	}
	switch {
	case s.quiet:
	case e.Err != nil:
		r.line("failed", s.title(), elapsed(e.Duration))
	case e.Cached:
		r.line("cached", s.title())
	case layer != nil:
		r.line("built", fmt.Sprintf("#%d", s.number), elapsed(e.Duration), layerText(*layer))
	case s.base && e.Duration < time.Second: // nothing was done
	default:
		r.line("built", fmt.Sprintf("#%d", s.number), elapsed(e.Duration))
	}
}

// stepText writes a step's output.
func (r *Reporter) stepText(s *step, text string) {
	r.untrusted(r.paintPrefix(s.number, fmt.Sprintf("#%d |", s.number))+" ", text)
}

// Registry reports what is moved to and from registries.
func (r *Reporter) Registry(e registry.Event) {
	object, where := short(e.Object), e.Repository
	switch thing, _, _ := strings.Cut(object, " "); {
	case thing == "tag": // its reference says it
		where = ""
	case e.Kind != registry.KindPulled && (thing == "layer" || thing == "config"): // the manifest, which follows, says it
		where = ""
	}
	var amounts []string
	if e.Size > 0 {
		amounts = append(amounts, size(e.Size), elapsed(e.Duration), rate(e))
	}
	r.line(string(e.Kind), object, append(amounts, where)...)
}

// rate is how fast an object moved, where it is large enough to say.
func rate(e registry.Event) string {
	if e.Size < 1e6 || e.Duration <= 0 || e.Kind == registry.KindExists || e.Kind == registry.KindMounted {
		return ""
	}
	return size(int64(float64(e.Size)/e.Duration.Seconds())) + "/s"
}
