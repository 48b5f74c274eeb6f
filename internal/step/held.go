package step

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/taskdef"
)

// Where a repository's tags cannot be moved, what a build leaves for the next one
// gets a tag of its own each time: the name that would be moved elsewhere, the
// time, and the beginning of its digest. The latest one counts.

// heldTags are what such repositories hold, each listed once.
type heldTags struct {
	mu   sync.Mutex
	tags map[string][]string
}

// current is the reference at which ref is to be read: ref itself, or the latest
// of its tags. It is empty if there is none yet.
func (s *Step) current(ctx context.Context, ref string) (string, error) {
	if !s.isHeld(ref) {
		return ref, nil
	}
	repository := taskdef.Repository(ref)
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	tags, listed := s.held.tags[repository]
	if !listed {
		var err error
		if tags, err = s.registry.Quiet().Tags(ctx, repository); err != nil {
			return "", err
		}
		if s.held.tags == nil {
			s.held.tags = map[string][]string{}
		}
		s.held.tags[repository] = tags
	}
	latest, base := "", strings.TrimPrefix(ref, repository+":")
	written := regexp.MustCompile(`^-[0-9]{8}t[0-9]{6}-[0-9a-f]{12}$`)
	for _, tag := range tags {
		if rest, ours := strings.CutPrefix(tag, base); ours && written.MatchString(rest) && tag > latest {
			latest = tag
		}
	}
	if latest == "" {
		return "", nil
	}
	return repository + ":" + latest, nil
}

// next gives the references under which something is to be written: refs, or new
// tags where these cannot be moved. What is the latest already is left out.
func (s *Step) next(ctx context.Context, refs []string, content *build.Image) ([]string, error) {
	digest, err := content.Digest()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, ref := range refs {
		if !s.isHeld(ref) {
			out = append(out, ref)
			continue
		}
		name := "-" + digest.Hex[:12]
		if latest, err := s.current(ctx, ref); err == nil && strings.HasSuffix(latest, name) {
			continue
		}
		out = append(out, ref+"-"+time.Now().UTC().Format("20060102t150405")+name)
	}
	return out, nil
}
