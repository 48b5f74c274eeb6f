package step

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/taskdef"
)

// useMounts lets cache mounts outlive the build, where its results do. They are
// asked for only if a RUN with a cache mount runs.
func (s *Step) useMounts(opts *build.Options) {
	from, to := s.cachePlaces()
	if s.settings.Build.Cache.MountsOff || len(from)+len(to) == 0 {
		return
	}
	opts.Mounts = build.MountOptions{
		Keep: true, MaxSize: s.settings.Build.Cache.MountsMaxSize,
		From: func(ctx context.Context) (build.Mounts, error) { return s.readMounts(ctx, mountRefs(from)) },
	}
}

// mountRefs are where the cache mounts lie that belong to caches.
func mountRefs(caches []string) []string {
	refs := make([]string, len(caches))
	for i, ref := range caches {
		ref, _, _ = strings.Cut(ref, "@")
		repository := taskdef.Repository(ref)
		tag := strings.TrimPrefix(strings.TrimPrefix(ref, repository), ":")
		refs[i] = repository + ":" + strings.TrimPrefix(tag+"-mounts", "-")
	}
	return refs
}

// readMounts gives the first of refs that is there.
func (s *Step) readMounts(ctx context.Context, refs []string) (build.Mounts, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cacheReadLimit, errors.New("it took too long"))
	defer cancel()
	var failed []error
	for _, ref := range refs {
		image, err := s.readCurrent(ctx, ref)
		if isNone(err) {
			continue
		}
		if err == nil {
			var m build.Mounts
			if m, err = build.ReadMounts(image.Image); err == nil {
				return m, nil
			}
		}
		failed = append(failed, fmt.Errorf("%s: %w", ref, err))
	}
	return build.Mounts{}, errors.Join(failed...)
}

// uploadMounts writes the cache mounts, if there is anything new in them.
func (s *Step) uploadMounts(ctx context.Context, refs []string, u *upload) {
	u.what, u.loss = "cache mounts", "so the next build begins with them as they were"
	image, kept, err := s.built.Mounts(ctx)
	for _, name := range slices.Sorted(maps.Keys(kept.Dropped)) {
		u.notices = append(u.notices, fmt.Sprintf(
			"the cache mount %s is not kept: its files have %.1f MB, and those of all mounts together may have %.1f MB (input \"cache-mounts-max-size\")",
			name, float64(kept.Dropped[name])/1e6, float64(kept.MaxSize)/1e6,
		))
	}
	if err == nil && image == nil {
		return
	}
	u.where, u.err = strings.Join(refs, ", "), err
	if err == nil {
		u.said = []string{plural(kept.Mounts, "cache mount"), fmt.Sprintf("%.1f MB new", float64(kept.New)/1e6)}
		u.err = s.writeNext(ctx, image, refs)
	}
}
