package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// worthTelling is how long a phase takes that the closing line names.
const worthTelling = time.Second

// Close writes the log's last line: the result, the image, the revision, the
// time, and where it went.
func (r *Reporter) Close(ok bool) {
	r.mu.Lock()
	verb, text := r.closing(ok)
	if parts := r.whereTimeWent(); len(parts) > 1 || ok && len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	r.mu.Unlock()
	code := green + bold
	if !ok {
		code = red + bold
	}
	r.runner.Line(r.paint(code, columns(verb, text)))
}

// headline is the run in one sentence. r.mu is held.
func (r *Reporter) headline(ok bool) string {
	verb, text := r.closing(ok)
	return verb + " " + text
}

// closing is the run in a verb, its object and the time. r.mu is held.
func (r *Reporter) closing(ok bool) (verb, text string) {
	verb, object := r.result(ok)
	preposition := "in"
	if !ok {
		preposition = "after"
	}
	return verb, strings.TrimSpace(fmt.Sprintf("%s %s %s", object, preposition, elapsed(time.Since(r.begin))))
}

// result is the run in a verb and its object. r.mu is held.
func (r *Reporter) result(ok bool) (verb, object string) {
	image, revision := shortImage(r.fact("Image")), shortARNs(r.fact("Task definition"))
	what := cmp.Or(revision, image)
	if revision != "" && image != "" {
		what = image + " as " + revision
	}
	switch {
	case len(r.services) > 0:
		return r.closingServices(ok)
	case !ok && len(r.outcomes) > 0:
		return "failed", "deployment of " + cmp.Or(what, "the service") + r.ends()
	case !ok:
		return "failed", "in " + strings.ToLower(r.failedPhase())
	case r.fact("Dry run") != "":
		return "dry run", "nothing was written,"
	case len(r.outcomes) > 0:
		return r.deployed(what)
	case r.fact("Task") != "":
		return "ran", "one-off task of " + what
	case revision != "":
		return "registered", what
	case image != "":
		return "pushed", image
	case r.fact("Digest") != "":
		return "built", short(r.fact("Digest"))
	}
	return "done", ""
}

// deployed is the verb and object of deployments that did not fail. r.mu is held.
func (r *Reporter) deployed(what string) (verb, object string) {
	all := func(status deploy.Status) bool {
		return !slices.ContainsFunc(r.outcomes, func(o deploy.Outcome) bool { return o.Status != status })
	}
	switch {
	case all(deploy.StatusUnchanged):
		return "unchanged", what
	case all(deploy.StatusPaused):
		return "paused", what
	case all(deploy.StatusStarted):
		return "started", "deployment of " + what + ", not waited for,"
	}
	return "deployed", cmp.Or(what, lastPart(r.outcomes[0].TaskDefinitionARN))
}

// ends says how deployments ended that did not succeed. r.mu is held.
func (r *Reporter) ends() string {
	var texts []string
	for _, o := range r.outcomes {
		text := strings.ReplaceAll(string(o.Status), "-", " ")
		switch o.Status {
		case deploy.StatusSucceeded, deploy.StatusUnchanged, "":
			continue
		case deploy.StatusRolledBack:
			if o.PreviousARN != "" {
				text += " to " + lastPart(o.PreviousARN)
			}
		case deploy.StatusStarted:
			text = "still under way"
		default:
		}
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return ", " + strings.Join(texts, ", ") + ","
}

// failedPhase is the phase that failed, or did not end. r.mu is held.
func (r *Reporter) failedPhase() string {
	for _, p := range slices.Backward(r.phases) {
		if p.failed || !p.over {
			return p.title
		}
	}
	return "inputs"
}

// whereTimeWent lists the phases that took a while. r.mu is held.
func (r *Reporter) whereTimeWent() []string {
	var parts []string
	for _, p := range r.phases {
		took := p.took
		if !p.over {
			took = time.Since(p.begin)
		}
		if took >= worthTelling {
			parts = append(parts, strings.ToLower(p.title)+" "+elapsed(took))
		}
	}
	return parts
}

// fact is the value of a line of the summary's table. r.mu is held.
func (r *Reporter) fact(name string) string {
	for _, f := range r.facts {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// shortImage is a reference without its registry, and without the digest where
// it has a tag.
func shortImage(ref string) string {
	if host, rest, found := strings.Cut(ref, "/"); found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		ref = rest
	}
	if name, _, found := strings.Cut(ref, "@"); found && strings.Contains(name, ":") {
		return name
	}
	return short(ref)
}

// shortARNs is FAMILY:REVISION of each of a list of ARNs.
func shortARNs(list string) string {
	arns := strings.Split(list, ", ")
	for i, arn := range arns {
		arns[i] = lastPart(arn)
	}
	return strings.Join(arns, ", ")
}
