package solver

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/snapshot"
)

// Annotations of a cache's layers, as BuildKit writes and reads them.
const (
	annotationDiffID  = "containerd.io/uncompressed"
	annotationCreated = "buildkit/createdat"
)

// Cache is what builds left for later ones, in BuildKit's format (buildkit,
// cache/remotecache/v1/types): Config says which operation on which inputs
// gives which of the layers.
type Cache struct {
	// Config is of media type application/vnd.buildkit.cacheconfig.v0.
	Config []byte
	// Layers are the blobs, and Descriptors name them in the same order.
	Layers      []v1.Layer
	Descriptors []v1.Descriptor
	// Outlines are those of layers of bases, by the layers' digests: see
	// snapshot.Options.Outlines.
	Outlines map[v1.Hash]v1.Layer
}

// CacheMode says which steps' results a cache keeps.
type CacheMode string

// The modes have the names and meanings of buildx's cache-to.
const (
	// CacheMax keeps the results of all steps.
	CacheMax CacheMode = "max"
	// CacheMin keeps those whose layers are in the image.
	CacheMin CacheMode = "min"
)

// Keep says what Export keeps.
type Keep struct {
	// Mode is CacheMax or CacheMin. Default: CacheMax.
	Mode CacheMode
	// DiffIDs are the layers that results may be made of. Default: all.
	DiffIDs map[v1.Hash]bool
}

func (s *Solver) caching() bool { return s.opts.CacheMode != "" || len(s.sources) > 0 }

// read makes the caches of the options known to the scheduler. One that cannot
// be read is a warning: a build does not fail for want of a cache.
func (s *Solver) read(caches []Cache) {
	for i, c := range caches {
		manager, err := s.manager(fmt.Sprintf("%s cache %d", s.name, i), c)
		if err != nil {
			s.opts.Progress.Emit(progress.Warning{Message: "the build cache cannot be read, and is not used", Detail: err.Error()})
			continue
		}
		s.sources = append(s.sources, manager)
	}
}

func (s *Solver) manager(id string, c Cache) (solver.CacheManager, error) {
	if len(c.Layers) != len(c.Descriptors) {
		return nil, fmt.Errorf("%d layers have %d descriptors", len(c.Layers), len(c.Descriptors))
	}
	provider := cacheimport.DescriptorProvider{}
	for i, d := range c.Descriptors {
		dgst := digest.Digest(d.Digest.String())
		provider[dgst] = cacheimport.DescriptorProviderPair{Descriptor: ocispec.Descriptor{
			MediaType: string(d.MediaType), Digest: dgst, Size: d.Size, Annotations: d.Annotations,
		}}
		s.layers[dgst] = c.Layers[i]
		if at, err := time.Parse(time.RFC3339Nano, d.Annotations[annotationCreated]); err == nil {
			s.created[d.Digest] = at
		}
	}
	chains := cacheimport.NewCacheChains()
	if err := cacheimport.Parse(c.Config, provider, chains); err != nil {
		return nil, err
	}
	keys, results, err := cacheimport.NewCacheKeyStorage(chains, &owner{solver: s})
	if err != nil {
		return nil, err
	}
	return solver.NewCacheManager(context.Background(), id, keys, results), nil
}

// known finds the layers that a cache or this build has.
func (s *Solver) known(descriptors []ocispec.Descriptor) ([]v1.Layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	layers := make([]v1.Layer, len(descriptors))
	for i, d := range descriptors {
		if layers[i] = s.layers[d.Digest]; layers[i] == nil {
			return nil, fmt.Errorf("layer %s is not in the cache", d.Digest)
		}
	}
	return layers, nil
}

// Created gives the time at which a layer was made that came from a cache.
func (s *Solver) Created(l v1.Layer) (time.Time, bool) {
	dgst, err := l.Digest()
	if err != nil {
		return time.Time{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.created[dgst]
	return at, ok
}

// Export describes how roots, which this solver has solved, came to be. now is
// when the layers were made that did not come from a cache.
func (s *Solver) Export(ctx context.Context, roots []*snapshot.Ref, now time.Time, keep Keep) (Cache, error) {
	chains := cacheimport.NewCacheChains()
	mode := solver.CacheExportModeMax
	if keep.Mode == CacheMin {
		mode = solver.CacheExportModeMin
	}
	for _, root := range roots {
		s.mu.Lock()
		solved := s.solved[root]
		s.mu.Unlock()
		if solved == nil {
			continue // the empty filesystem
		}
		for _, key := range solved.CacheKeys() {
			if _, err := key.Exporter.ExportTo(ctx, chains, solver.CacheExportOpt{
				Mode: mode,
				ResolveRemotes: func(ctx context.Context, r solver.Result) ([]*solver.Remote, error) {
					return s.remote(ctx, r, now, keep.DiffIDs)
				},
			}); err != nil {
				return Cache{}, fmt.Errorf("cache: %w", err)
			}
		}
	}
	config, described, err := chains.Marshal(ctx)
	if err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	var c Cache
	for _, l := range config.Layers {
		desc, ok := described[l.Blob]
		if !ok {
			return Cache{}, fmt.Errorf("cache: layer %s has no descriptor", l.Blob)
		}
		layers, knownErr := s.known([]ocispec.Descriptor{desc.Descriptor})
		if knownErr != nil {
			return Cache{}, knownErr
		}
		hash, hashErr := v1.NewHash(l.Blob.String())
		if hashErr != nil {
			return Cache{}, fmt.Errorf("cache: %w", hashErr)
		}
		d := v1.Descriptor{Digest: hash, Size: desc.Descriptor.Size, Annotations: desc.Descriptor.Annotations}
		if d.MediaType, err = layers[0].MediaType(); err != nil {
			return Cache{}, fmt.Errorf("cache: layer %s: %w", l.Blob, err)
		}
		c.Layers, c.Descriptors = append(c.Layers, layers[0]), append(c.Descriptors, d)
	}
	if c.Config, err = json.Marshal(config); err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	return c, nil
}

// remote describes the layers of a result, if they are all among only, or if that is nil.
func (s *Solver) remote(ctx context.Context, r solver.Result, now time.Time, only map[v1.Hash]bool) ([]*solver.Remote, error) {
	ref, err := refOf(r)
	if err != nil || ref == nil || ref.IsFolder() {
		return nil, err
	}
	layers, err := s.opts.Store.Layers(ctx, ref)
	if err != nil {
		return nil, err
	}
	remote := &solver.Remote{}
	for _, l := range layers {
		if only == nil {
			break
		}
		diffID, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		if !only[diffID] {
			return nil, nil // and it need not be compressed
		}
	}
	for _, l := range layers {
		d, err := partial.Descriptor(l)
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		diffID, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		at, cached := s.Created(l)
		if !cached {
			at = now
		}
		dgst := digest.Digest(d.Digest.String())
		remote.Descriptors = append(remote.Descriptors, ocispec.Descriptor{
			MediaType: string(d.MediaType), Digest: dgst, Size: d.Size,
			Annotations: map[string]string{annotationDiffID: diffID.String(), annotationCreated: at.UTC().Format(time.RFC3339Nano)},
		})
		s.mu.Lock()
		s.layers[dgst] = l
		s.mu.Unlock()
	}
	return []*solver.Remote{remote}, nil
}

// begun notes that v is done here, and not taken from a cache.
func (s *Solver) begun(v *vertex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[v.digest] = true
	delete(s.runs, v.digest)
}

// moreRuns says whether there are commands that have not begun yet. Some may turn
// out to be cached.
func (s *Solver) moreRuns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.runs) > 0
}

// tellCached tells the steps that v rests on and whose results came from a cache:
// v can only begin when they are there, and nobody has done them.
func (s *Solver) tellCached(v *vertex) {
	if len(s.sources) == 0 {
		return
	}
	for _, in := range v.inputs {
		from, ok := in.Vertex.(*vertex)
		if !ok {
			continue
		}
		s.mu.Lock()
		told := s.told[from.digest]
		s.told[from.digest] = true
		delete(s.runs, from.digest)
		at := s.places[from.digest]
		s.mu.Unlock()
		if told || from.op.GetSource() != nil {
			continue
		}
		s.tellCached(from)
		id := from.digest.String()
		s.opts.Progress.Emit(progress.StepStarted{ID: id, Name: from.name, File: at.file, Line: at.line, Cached: true})
		s.opts.Progress.Emit(progress.StepDone{ID: id, Cached: true})
	}
}
