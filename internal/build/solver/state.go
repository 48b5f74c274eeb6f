package solver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/session"
	bksnapshot "github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/worker"
	"github.com/moby/sys/user"

	"github.com/towline/towline/internal/build/snapshot"
)

// state is a snapshot as BuildKit's scheduler and its cache hand it around: its
// cache.ImmutableRef, as far as they ask it.
type state struct {
	cache.ImmutableRef
	solver *Solver
	id     string
	ref    *snapshot.Ref
}

// ID is unique in the process: BuildKit keeps hashes of content by it.
func (s *state) ID() string { return s.id }

// Release does nothing. The store keeps what it needs.
func (s *state) Release(context.Context) error { return nil }

// Clone gives the same state.
func (s *state) Clone() cache.ImmutableRef { return s }

// Extract does nothing: a state is put on disk when somebody looks into it.
func (s *state) Extract(context.Context, session.Group) error { return nil }

// GetEqualMutable says that there is none.
func (s *state) GetEqualMutable() (cache.RefMetadata, bool) { return nil, false }

// GetExternal says that nothing is kept with the state.
func (s *state) GetExternal(string) ([]byte, error) { return nil, errors.New("nothing is kept") }

// SetExternal keeps nothing: the hashes live as long as the process.
func (s *state) SetExternal(string, []byte) error { return nil }

// Mount gives the state's folder, whose content is about to be hashed.
func (s *state) Mount(ctx context.Context, _ bool, _ session.Group) (bksnapshot.Mountable, error) {
	s.solver.running.RLock()
	view, err := s.solver.opts.Store.View(ctx, s.ref)
	if err != nil {
		s.solver.running.RUnlock()
		return nil, err
	}
	return &viewed{view: view, end: s.solver.running.RUnlock}, nil
}

// viewed is a folder that is seen until it is released.
type viewed struct {
	view *snapshot.View
	end  func()
}

// Mount describes the folder; nothing is mounted.
func (v *viewed) Mount() ([]mount.Mount, func() error, error) {
	return []mount.Mount{{Type: "bind", Source: v.view.Path, Options: []string{"rbind", "rw"}}}, func() error {
		v.view.Release()
		v.end()
		return nil
	}, nil
}

// IdentityMapping is nil: owners are as they are.
func (*viewed) IdentityMapping() *user.IdentityMapping { return nil }

// owner is BuildKit's worker.Worker as far as results and the cache ask it.
type owner struct {
	worker.Worker
	solver *Solver
}

// ID names the only worker.
func (*owner) ID() string { return "towline" }

// FromRemote makes a state of layers that a cache names. None is fetched for it.
func (o *owner) FromRemote(_ context.Context, remote *solver.Remote) (cache.ImmutableRef, error) {
	layers, err := o.solver.known(remote.Descriptors)
	if err != nil {
		return nil, err
	}
	names := []string{"cached"}
	for _, desc := range remote.Descriptors {
		names = append(names, desc.Digest.String())
	}
	return o.solver.state(strings.Join(names, " "), o.solver.opts.Store.Image("cache", layers)), nil
}

func (s *Solver) state(id string, ref *snapshot.Ref) cache.ImmutableRef {
	return &state{solver: s, id: s.name + " " + id, ref: ref}
}

// newResult is an output of v; nil is the empty filesystem.
func (s *Solver) newResult(v *vertex, index int, ref *snapshot.Ref) solver.Result {
	var handed cache.ImmutableRef
	if ref != nil {
		handed = s.state(v.digest.String()+":"+strconv.Itoa(index), ref)
	}
	return worker.NewWorkerRefResult(handed, &owner{solver: s})
}

func refOf(r solver.Result) (*snapshot.Ref, error) {
	w, ok := r.Sys().(*worker.WorkerRef)
	if !ok {
		return nil, fmt.Errorf("solver: result of type %T", r.Sys())
	}
	if w.ImmutableRef == nil {
		return nil, nil //nolint:nilnil // the empty filesystem
	}
	s, ok := w.ImmutableRef.(*state)
	if !ok {
		return nil, fmt.Errorf("solver: state of type %T", w.ImmutableRef)
	}
	return s.ref, nil
}

// results keeps the outputs of a build for its cache keys. Each Load gives a new
// result, as each is released.
type results struct {
	solver *Solver

	mu   sync.Mutex
	refs map[string]cache.ImmutableRef
}

// Save implements solver.CacheResultStorage.
func (s *results) Save(r solver.Result, createdAt time.Time) (solver.CacheResult, error) {
	w, ok := r.Sys().(*worker.WorkerRef)
	if !ok {
		return solver.CacheResult{}, fmt.Errorf("solver: result of type %T", r.Sys())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs[r.ID()] = w.ImmutableRef
	return solver.CacheResult{ID: r.ID(), CreatedAt: createdAt}, nil
}

// Load implements solver.CacheResultStorage.
func (s *results) Load(_ context.Context, r solver.CacheResult) (solver.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref, ok := s.refs[r.ID]
	if !ok {
		return nil, solver.ErrNotFound
	}
	return worker.NewWorkerRefResult(ref, &owner{solver: s.solver}), nil
}

// LoadRemotes implements solver.CacheResultStorage: Export asks for the layers itself.
func (s *results) LoadRemotes(context.Context, solver.CacheResult, *compression.Config, session.Group) ([]*solver.Remote, error) {
	return nil, nil
}

// Exists implements solver.CacheResultStorage.
func (s *results) Exists(_ context.Context, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.refs[id]
	return ok
}

// unique is a name that no other solver of this process has.
func unique() string { return rand.Text() }
