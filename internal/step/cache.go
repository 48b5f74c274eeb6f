package step

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/registry"
)

const (
	// cacheReadLimit is how long a build waits to learn what is cached.
	cacheReadLimit = 20 * time.Second
	// cacheWriteLimit is how long a step that has done its work waits for the
	// upload of its cache, and cacheGrace how long one that was cancelled does.
	cacheWriteLimit = 2 * time.Minute
	cacheGrace      = 2 * time.Second
)

// cachePlaces are where results come from and go to.
func (s *Step) cachePlaces() (from []string, to []inputs.CacheTo) {
	c := s.settings.Build.Cache
	if !c.ByDefault() {
		return c.From, c.To
	}
	for _, repository := range s.layerTargets() {
		host, _, _ := strings.Cut(repository, "/")
		if _, _, isECR := registry.ECRHost(host); isECR {
			ref := repository + ":" + s.cacheTag()
			return []string{ref}, []inputs.CacheTo{{Ref: ref, Max: true}}
		}
	}
	return nil, nil
}

// cacheTag is one for each Dockerfile and stage that share a repository, so that
// one does not put another's cache away.
func (s *Step) cacheTag() string {
	b := s.settings.Build
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%q", s.relative(b.Context), s.relative(b.File), b.Target, b.Platforms))
	return fmt.Sprintf("towline-cache-%x", sum[:4])
}

// useCaches reads the caches that the build starts from, side by side. One that
// cannot be read is told and done without.
func (s *Step) useCaches(ctx context.Context, opts *build.Options) {
	from, to := s.cachePlaces()
	c := s.settings.Build.Cache
	opts.CacheInline = c.Inline
	if len(to)+len(c.OtherTo) > 0 {
		opts.CacheMode = build.CacheMin
		if slices.ContainsFunc(to, func(p inputs.CacheTo) bool { return p.Max }) ||
			slices.ContainsFunc(c.OtherTo, func(p inputs.CachePlace) bool { return p.Max }) {
			opts.CacheMode = build.CacheMax
		}
	}
	if s.settings.Build.NoCache {
		return
	}
	found := make([]*build.Cache, len(from))
	var group sync.WaitGroup
	for i, ref := range from {
		group.Go(func() { found[i] = s.readCache(ctx, ref) })
	}
	others := make([][]build.Cache, len(c.OtherFrom))
	for i, place := range c.OtherFrom {
		group.Go(func() { others[i] = s.readPlace(ctx, place) })
	}
	group.Wait()
	for i, c := range found {
		if c != nil {
			s.report.Say("cache", from[i], plural(len(c.Layers), "layer"))
			opts.CacheFrom = append(opts.CacheFrom, *c)
		}
	}
	for i, caches := range others {
		for _, other := range caches {
			s.report.Say("cache", placeName(c.OtherFrom[i]), plural(len(other.Layers), "layer"))
		}
		opts.CacheFrom = append(opts.CacheFrom, caches...)
	}
}

func (s *Step) readCache(ctx context.Context, ref string) *build.Cache {
	ctx, cancel := context.WithTimeoutCause(ctx, cacheReadLimit, errors.New("it took too long"))
	defer cancel()
	image, err := s.readCurrent(ctx, ref)
	if isNone(err) {
		s.report.Say("cache", ref, "there is none yet")
		return nil
	}
	if err == nil {
		var c build.Cache
		if c, err = build.ReadCache(image.Image); err == nil {
			return &c
		}
	}
	s.report.Warning(fmt.Sprintf("the build cache %s is not used: %v", ref, err))
	return nil
}

// errNone: nothing was written to a place yet.
var errNone = errors.New("there is none yet")

// readCurrent finds what was written to a place last; see isNone.
func (s *Step) readCurrent(ctx context.Context, ref string) (*registry.Image, error) {
	at, err := s.current(ctx, ref)
	if err != nil {
		return nil, err
	}
	if at == "" {
		return nil, errNone
	}
	return s.registry.Quiet().Resolve(ctx, at, v1.Platform{})
}

// isNone says whether there was nothing to read.
func isNone(err error) bool {
	answer, ok := errors.AsType[*transport.Error](err)
	return errors.Is(err, errNone) || ok && answer.StatusCode == http.StatusNotFound
}

// writeNext writes image to refs, for readCurrent to find.
func (s *Step) writeNext(ctx context.Context, image *build.Image, refs []string) error {
	refs, err := s.next(ctx, refs, image)
	if err != nil || len(refs) == 0 {
		return err
	}
	_, err = s.registry.Quiet().Push(ctx, image, refs)
	return err
}

// keepCache begins to upload the build's cache, and its cache mounts, once the
// image is where it belongs, beside what follows; see keptCache.
func (s *Step) keepCache(ctx context.Context) {
	if s.built == nil || s.caching != nil || ctx.Err() != nil {
		return
	}
	_, to := s.cachePlaces()
	others := s.settings.Build.Cache.OtherTo
	var refs []string
	if s.deployable != "" { // the image is in its registry
		for _, place := range to {
			refs = append(refs, place.Ref)
		}
	}
	if len(refs)+len(others) == 0 {
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s.caching = &caching{cancel: cancel}
	if cache := s.built.Cache; cache != nil {
		if len(refs) > 0 {
			s.caching.begin(func(u *upload) { s.uploadCache(ctx, cache, refs, u) })
		}
		s.beginPlaces(ctx, cache, others)
	}
	if len(refs) > 0 && !s.settings.Build.Cache.MountsOff {
		s.caching.begin(func(u *upload) { s.uploadMounts(ctx, mountRefs(refs), u) })
	}
}

func (s *Step) uploadCache(ctx context.Context, cache *build.Image, refs []string, u *upload) {
	u.what, u.loss = "build cache", "so the next build does everything again"
	u.where = strings.Join(refs, ", ")
	if layers, err := cache.Layers(); err == nil {
		u.said = []string{plural(len(layers), "layer")}
	}
	u.err = s.writeNext(ctx, cache, refs)
}

// caching are the uploads of what the next build may start from, which go on
// beside the deployment.
type caching struct {
	cancel  context.CancelCauseFunc
	group   sync.WaitGroup
	uploads []*upload
}

// upload is one of them.
type upload struct {
	// what it is of, and where it goes; loss is what comes of its failure.
	what, where, loss string
	// said is what there is to tell of it; nothing if it has no place.
	said []string
	// notices are told in any case.
	notices []string
	took    time.Duration
	err     error
}

func (c *caching) begin(run func(*upload)) {
	u := &upload{}
	c.uploads = append(c.uploads, u)
	c.group.Go(func() {
		begin := time.Now()
		run(u)
		u.took = time.Since(begin)
	})
}

// keptCache waits for these uploads, and tells how they ended. A fault is a
// warning: the next build takes longer, and nothing else.
func (s *Step) keptCache(ctx context.Context) {
	s.keepCache(ctx)
	c := s.caching
	if c == nil {
		return
	}
	defer c.cancel(nil)
	limit := cacheWriteLimit
	if ctx.Err() != nil {
		limit = cacheGrace
	}
	timer := time.AfterFunc(limit, func() { c.cancel(errors.New("it took too long")) })
	defer timer.Stop()
	c.group.Wait()
	for _, u := range c.uploads {
		for _, notice := range u.notices {
			s.report.Notice(notice)
		}
		switch {
		case u.err != nil:
			s.report.Warning(fmt.Sprintf("the %s %s was not written, %s: %v", u.what, u.where, u.loss, u.err))
		case u.where != "":
			s.report.Say("cached", u.where, append(u.said, u.took.Round(100*time.Millisecond).String())...)
		}
	}
}
