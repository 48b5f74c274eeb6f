package solver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/session"
	bksnapshot "github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	"github.com/moby/sys/user"

	"github.com/towline/towline/internal/build/snapshot"
)

// fileRefs gives BuildKit's file operations their folders, for one operation.
// It stands where BuildKit has a cache manager, of which a file operation uses
// only what is here.
type fileRefs struct {
	solver  *Solver
	vertex  *vertex
	outline bool
	// failed says that an action has ended with an error: FileOpSolver then commits
	// what there is, for a debugger that nobody will attach.
	failed atomic.Bool

	mu    sync.Mutex
	views []*snapshot.View
	open  []*snapshot.Tree
	// trees maps a state that this operation is changing to the folder where it does.
	trees map[*snapshot.Ref]string
	seen  map[*snapshot.Ref]string
}

// handle stands for an input.
func (r *fileRefs) handle(ref *snapshot.Ref, edge solver.Edge) *fileRef {
	return &fileRef{refs: r, ref: ref, edge: &edge}
}

// look puts ref on disk to be read.
func (r *fileRefs) look(ctx context.Context, ref *snapshot.Ref) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if path, ok := r.seen[ref]; ok {
		return path, nil
	}
	view, err := r.solver.opts.Store.View(ctx, ref)
	if err != nil {
		return "", err
	}
	r.views = append(r.views, view)
	if r.seen == nil {
		r.seen = map[*snapshot.Ref]string{}
	}
	r.seen[ref] = view.Path
	return view.Path, nil
}

// read gives a folder in which ref's users can be looked up: where this
// operation is changing ref, that folder itself, for it has not begun yet.
func (r *fileRefs) read(ctx context.Context, ref *snapshot.Ref) (string, error) {
	r.mu.Lock()
	path, ok := r.trees[ref]
	if !ok {
		path, ok = r.seen[ref]
	}
	r.mu.Unlock()
	if ok {
		return path, nil
	}
	return r.look(ctx, ref)
}

// change gives a folder with ref's content to change.
func (r *fileRefs) change(ctx context.Context, parent *fileRef) (*snapshot.Tree, error) {
	access := snapshot.Access{Outline: r.outline}
	var ref *snapshot.Ref
	if parent != nil {
		ref = parent.ref
		access.Last = parent.edge == nil || r.solver.last(*parent.edge)
	}
	tree, err := r.solver.opts.Store.Change(ctx, ref, access)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, tree)
	if ref != nil {
		r.trees[ref] = tree.Path
	}
	return tree, nil
}

// errFailed is why a tree is not committed.
var errFailed = errors.New("the file operation has failed")

// commit makes a tree a state.
func (r *fileRefs) commit(ctx context.Context, tree *snapshot.Tree) (*snapshot.Ref, error) {
	if r.failed.Load() {
		return nil, errFailed
	}
	ref, err := tree.Commit(ctx, r.vertex.digest.String(), nil)
	if err != nil {
		return nil, err
	}
	r.drop(tree)
	return ref, nil
}

// drop takes a tree off the list of those to discard at the end.
func (r *fileRefs) drop(tree *snapshot.Tree) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, t := range r.open {
		if t == tree {
			r.open = append(r.open[:i], r.open[i+1:]...)
			break
		}
	}
	for ref, path := range r.trees {
		if path == tree.Path {
			delete(r.trees, ref)
		}
	}
}

// release ends all views, and discards the trees that were not committed.
func (r *fileRefs) release() {
	for _, view := range r.views {
		view.Release()
	}
	for _, tree := range r.open {
		_ = tree.Discard() // the store's folder goes at the end in any case
	}
}

// fileManager is BuildKit's cache.Manager as far as a file operation asks it.
type fileManager struct {
	cache.Manager
	refs *fileRefs
}

// New gives a tree with parent's content.
func (m *fileManager) New(ctx context.Context, parent cache.ImmutableRef, _ session.Group, _ ...cache.RefOption) (cache.MutableRef, error) {
	var from *fileRef
	if parent != nil {
		ref, ok := parent.(*fileRef)
		if !ok {
			return nil, fmt.Errorf("file operation: parent of type %T", parent)
		}
		from = ref
	}
	tree, err := m.refs.change(ctx, from)
	if err != nil {
		return nil, err
	}
	return &fileTree{refs: m.refs, tree: tree}, nil
}

// fileRef is BuildKit's cache.ImmutableRef as far as a file operation asks it.
type fileRef struct {
	cache.ImmutableRef
	refs *fileRefs
	ref  *snapshot.Ref
	// edge is nil for a state between two actions.
	edge *solver.Edge
}

// ID tells states apart.
func (r *fileRef) ID() string { return fmt.Sprintf("%p", r.ref) }

// Release does nothing: fileRefs ends what it has opened.
func (r *fileRef) Release(context.Context) error { return nil }

// Clone gives the same state.
func (r *fileRef) Clone() cache.ImmutableRef { return r }

// Mount gives the state's folder to read.
func (r *fileRef) Mount(ctx context.Context, _ bool, _ session.Group) (bksnapshot.Mountable, error) {
	path, err := r.refs.read(ctx, r.ref)
	if err != nil {
		return nil, err
	}
	return folder(path), nil
}

// fileTree is BuildKit's cache.MutableRef as far as a file operation asks it.
type fileTree struct {
	cache.MutableRef
	refs *fileRefs
	tree *snapshot.Tree
}

// ID tells trees apart.
func (t *fileTree) ID() string { return t.tree.Path }

// Release does nothing: fileRefs ends what it has opened.
func (t *fileTree) Release(context.Context) error { return nil }

// SetCachePolicyDefault does nothing: nothing is kept between builds.
func (t *fileTree) SetCachePolicyDefault() error { return nil }

// Mount gives the tree's folder to change.
func (t *fileTree) Mount(context.Context, bool, session.Group) (bksnapshot.Mountable, error) {
	return folder(t.tree.Path), nil
}

// Commit makes the tree a state.
func (t *fileTree) Commit(ctx context.Context) (cache.ImmutableRef, error) {
	ref, err := t.refs.commit(ctx, t.tree)
	if err != nil {
		return nil, err
	}
	return &fileRef{refs: t.refs, ref: ref}, nil
}

// folder is a plain folder. BuildKit uses a writable bind mount's source as it
// is, without mounting anything.
type folder string

// Mount describes the folder; nothing is mounted.
func (f folder) Mount() ([]mount.Mount, func() error, error) {
	return []mount.Mount{{Type: "bind", Source: string(f), Options: []string{"rbind", "rw"}}}, func() error { return nil }, nil
}

// IdentityMapping is nil: owners are as they are.
func (folder) IdentityMapping() *user.IdentityMapping { return nil }
