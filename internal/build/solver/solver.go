// Package solver runs an LLB definition.
//
// BuildKit's scheduler orders the operations, runs the independent ones side by
// side and recognises equal ones; this package is what it calls: sources, file
// operations by BuildKit's own FileOpSolver, and RUN steps in a sandbox.
package solver

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/towline/towline/internal/build/keys"
	"github.com/towline/towline/internal/build/mounts"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/build/snapshot"
)

// Images finds images in registries.
type Images interface {
	// Image gives the image that ref names for a platform; ref holds a digest.
	Image(ctx context.Context, ref string, platform v1.Platform) (v1.Image, error)
}

// Options configures a Solver.
type Options struct {
	// Store keeps the states of root filesystems. Required.
	Store *snapshot.Store
	// Sandbox runs RUN steps. Required.
	Sandbox sandbox.Sandbox
	// Images finds base images. Required.
	Images Images
	// Contexts maps the names of local sources to folders.
	Contexts map[string]string
	// Secrets are what RUN --mount=type=secret may ask for, by id.
	Secrets map[string][]byte
	// SSH are the keys that RUN --mount=type=ssh and git over ssh may use, by id.
	SSH map[string]keys.Set
	// GitLogin gives the user and the token for an https host of git, or two empty
	// strings; it may be nil.
	GitLogin func(host string) (user, token string)
	// Uploads are files that stand for URLs; see web.Client.
	Uploads map[string]string
	// Transport carries requests for git and http sources. Default: http.DefaultTransport.
	Transport http.RoundTripper
	// Ready is told each layer of a result as soon as it is there, so that it can
	// be uploaded beside what is still being built. It may be nil, and is called
	// from several goroutines.
	Ready func(v1.Layer)
	// Caches are what earlier builds left; Export describes this one when
	// CacheMode is not empty.
	Caches    []Cache
	CacheMode CacheMode
	// Mounts keeps the folders of RUN --mount=type=cache beyond the build; nil: they
	// begin empty and are dropped.
	Mounts *mounts.Set
	// Platforms are what RUN steps can be run for, this machine's own first. Required.
	Platforms []v1.Platform
	// Workspace is cut off file names in messages, so that they are relative to it.
	Progress progress.Func
}

// Solver runs definitions; states that several definitions share are made once.
type Solver struct {
	opts Options
	// name is in the IDs of all states, and in the keys of folders.
	name   string
	solver *solver.Solver
	job    *solver.Job
	// sources are the caches that could be read.
	sources []solver.CacheManager
	caches  cacheMounts
	serial  bool
	// remotes reaches sources on other machines.
	remotes *remotes

	// running keeps file operations away from folders that a sandbox without
	// mounts has moved into a RUN's root filesystem.
	running sync.RWMutex
	// outside keeps what reads folders of this machine, such as build contexts,
	// apart from RUN steps in place, during which they are not where they were.
	outside sync.RWMutex
	// run lets one RUN at a time where the sandbox allows no more.
	run sync.Mutex

	mu     sync.Mutex
	left   map[edgeKey]*atomic.Int64
	result map[edgeKey]bool
	whole  map[edgeKey]bool
	places map[digest.Digest]place
	// layers are those that a cache names, and created when they were made.
	layers  map[digest.Digest]v1.Layer
	created map[v1.Hash]time.Time
	solved  map[*snapshot.Ref]solver.CachedResult
	// runs are the commands that have not begun yet.
	runs map[digest.Digest]bool
	// told are the operations that are done here, or are known to be cached.
	told map[digest.Digest]bool
}

// New makes a Solver. Close it.
func New(opts Options) (*Solver, error) {
	s := &Solver{
		opts:   opts,
		serial: opts.Sandbox == nil || opts.Sandbox.Name() != "namespaces",
		left:   map[edgeKey]*atomic.Int64{},
		result: map[edgeKey]bool{},
		whole:  map[edgeKey]bool{},
		places: map[digest.Digest]place{},
		layers: map[digest.Digest]v1.Layer{}, created: map[v1.Hash]time.Time{},
		solved: map[*snapshot.Ref]solver.CachedResult{},
		runs:   map[digest.Digest]bool{},
		told:   map[digest.Digest]bool{},
		name:   unique(),
	}
	s.caches.store, s.caches.kept, s.caches.progress = opts.Store, opts.Mounts, opts.Progress
	s.remotes = newRemotes(opts)
	s.solver = solver.NewSolver(solver.SolverOpt{
		ResolveOpFunc: func(v solver.Vertex, _ solver.Builder) (solver.Op, error) { return s.resolve(v) },
		DefaultCache: solver.NewCacheManager(context.Background(), s.name, solver.NewInMemoryCacheStorage(),
			&results{solver: s, refs: map[string]cache.ImmutableRef{}}),
	})
	job, err := s.solver.NewJob("build")
	if err != nil {
		return nil, fmt.Errorf("solver: %w", err)
	}
	s.job = job
	s.read(opts.Caches)
	return s, nil
}

// Close ends the solver.
func (s *Solver) Close() error {
	s.job.CloseProgress() // a goroutine waits for it
	err := s.job.Discard()
	s.solver.Close()
	if err != nil {
		return fmt.Errorf("solver: %w", err)
	}
	return nil
}

// Solve runs def and gives its result; nil is the empty filesystem.
func (s *Solver) Solve(ctx context.Context, def *pb.Definition) (*snapshot.Ref, error) {
	g, err := load(def)
	if err != nil || g == nil {
		return nil, err
	}
	s.learn(g, def.Source)
	for _, v := range g.vertices {
		v.options.CacheSources = s.sources
	}
	result, err := s.job.Build(ctx, g.root)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	ref, err := refOf(result)
	if err != nil {
		return nil, err
	}
	s.tellCached(&vertex{inputs: []solver.Edge{g.root}})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.solved[ref] = result
	return ref, nil
}

// learn adds what a graph says to what is known of the operations.
func (s *Solver) learn(g *graph, source *pb.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, n := range g.uses {
		if s.left[key] == nil {
			s.left[key] = &atomic.Int64{}
		}
		s.left[key].Add(int64(n))
	}
	maps.Copy(s.whole, g.whole)
	maps.Copy(s.result, g.result)
	// The result of a definition is still wanted when its last use in it has ended.
	root := keyOf(g.root)
	if s.left[root] == nil {
		s.left[root] = &atomic.Int64{}
	}
	s.left[root].Add(1)
	places := placesOf(source)
	maps.Copy(s.places, places)
	// The frontend places a COPY or ADD, not the sources that it brings in.
	for _, v := range g.vertices {
		if v.op.GetExec() != nil && !s.told[v.digest] {
			s.runs[v.digest] = true
		}
		at, known := places[v.digest]
		for _, in := range v.inputs {
			from := in.Vertex.Digest()
			if _, own := places[from]; !known || own || g.vertices[from].op.GetSource() == nil {
				continue
			}
			if before, twice := s.places[from]; !twice || at.line < before.line {
				s.places[from] = at
			}
		}
	}
}

// used counts the inputs of v as used once more, and lets go of those that
// nobody will ask for again.
func (s *Solver) used(v *vertex, inputs []*snapshot.Ref) error {
	for i, in := range v.inputs {
		s.mu.Lock()
		left := s.left[keyOf(in)]
		gone := left != nil && left.Add(-1) <= 0
		s.mu.Unlock()
		if !gone || inputs[i] == nil {
			continue
		}
		if err := s.opts.Store.Forget(inputs[i]); err != nil {
			return err
		}
	}
	return nil
}

// tell packs the layers that v has added to a result, and tells Ready.
func (s *Solver) tell(ctx context.Context, v *vertex, outs []*snapshot.Ref) error {
	for i, ref := range outs {
		s.mu.Lock()
		wanted := s.result[edgeKey{v.digest, solver.Index(i)}]
		s.mu.Unlock()
		if !wanted || ref.IsFolder() {
			continue // a folder, such as the one with the Dockerfile, is only read
		}
		layers, err := s.opts.Store.Layers(ctx, ref)
		if err != nil {
			return err
		}
		if s.opts.Ready == nil || v.op.GetMerge() != nil {
			continue // a merge's inputs have told theirs
		}
		if v.op.GetSource() == nil && len(layers) > 0 {
			layers = layers[len(layers)-1:]
		}
		for _, l := range layers {
			s.opts.Ready(l)
		}
	}
	return nil
}

// wantsWhole says whether somebody will look into this output or run on it.
func (s *Solver) wantsWhole(v *vertex, index int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole[edgeKey{v.digest, solver.Index(index)}]
}

func (s *Solver) place(v *vertex) place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[v.digest]
}

// place is where an operation stands in a Dockerfile; line 0 is unknown.
type place struct {
	file string
	line int
}

func placesOf(source *pb.Source) map[digest.Digest]place {
	places := map[digest.Digest]place{}
	if source == nil {
		return places
	}
	for dgst, locations := range source.Locations {
		for _, l := range locations.Locations {
			if int(l.SourceIndex) >= len(source.Infos) || len(l.Ranges) == 0 {
				continue
			}
			places[digest.Digest(dgst)] = place{source.Infos[l.SourceIndex].Filename, int(l.Ranges[0].Start.Line)}
			break
		}
	}
	return places
}

// last says whether only one use of an output is left.
func (s *Solver) last(e solver.Edge) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.left[keyOf(e)]
	return left != nil && left.Load() <= 1
}
