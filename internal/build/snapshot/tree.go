package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/build/progress"
)

// folder is a state on disk.
type folder struct {
	path string
	// outline says that files which came from an image are empty.
	outline bool
	// index is what the folder held when it was parked; nil when that is unknown.
	index *layer.Index
	// views counts who is reading the folder now.
	views int
}

// Access says what somebody wants with a state.
type Access struct {
	// Outline is enough for the caller: the files of images may be empty.
	Outline bool
	// Last says that nobody else will ask for this state again, so that its
	// folder may be taken over.
	Last bool
}

// Tree is a root filesystem that may be changed. It ends with Commit or Discard.
type Tree struct {
	// Path is the root's folder.
	Path string

	store   *Store
	parent  *Ref
	outline bool
	before  *layer.Index
	overlay *overlay
}

// Change gives a root filesystem with the content of parent (nil: an empty one).
func (s *Store) Change(ctx context.Context, parent *Ref, access Access) (*Tree, error) {
	// What has been mounted can be so again for little, and knows more than an
	// outline of its layers: the times of folders, sockets.
	if s.opts.Mount != nil && (!access.Outline || parent != nil && parent.lowers != nil) {
		return s.changeOverlay(ctx, parent)
	}
	chain, err := s.Layers(ctx, parent)
	if err != nil {
		return nil, err
	}
	f := s.take(parent, access)
	if f == nil {
		if f, err = s.unpack(ctx, parent, chain, access.Outline); err != nil {
			return nil, err
		}
	}
	if f.index == nil {
		if f.index, err = layer.Scan(ctx, f.path, layer.ScanOptions{}); err != nil {
			return nil, fmt.Errorf("tree %s: %w", f.path, err)
		}
	}
	if err := layer.Settle(ctx, s.opts.Dir, f.index); err != nil {
		return nil, err
	}
	return &Tree{Path: f.path, store: s, parent: parent, outline: f.outline, before: f.index}, nil
}

// take gives parent's folder away when nobody else needs it.
func (s *Store) take(parent *Ref, access Access) *folder {
	if parent == nil || !access.Last {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.parked[parent]
	if f == nil || f.views > 0 || (f.outline && !access.Outline) {
		return nil
	}
	delete(s.parked, parent)
	return f
}

// unpack puts a chain of layers into a new folder.
func (s *Store) unpack(ctx context.Context, ref *Ref, chain []v1.Layer, outline bool) (*folder, error) {
	if outline {
		return s.sketch(ctx, chain)
	}
	if err := s.fetch(ctx, chain); err != nil {
		return nil, err
	}
	begin := time.Now()
	dir, err := s.Dir("tree")
	if err != nil {
		return nil, err
	}
	var bytes int64
	for _, l := range chain {
		result, applyErr := s.apply(ctx, dir, l, layer.ApplyOptions{IgnoreOwner: s.opts.IgnoreOwner})
		if applyErr != nil {
			_ = os.RemoveAll(dir)
			return nil, applyErr
		}
		bytes += result.Bytes
	}
	if ref != nil && len(chain) > 0 {
		s.opts.Progress.Emit(progress.BaseUnpacked{Ref: ref.name, Layers: len(chain), Size: bytes, Duration: time.Since(begin)})
	}
	return &folder{path: dir}, nil
}

func (s *Store) fetch(ctx context.Context, chain []v1.Layer) error {
	if s.opts.Fetch == nil {
		return nil
	}
	return s.noteUnreadable(s.opts.Fetch(ctx, chain...), chain...)
}

// apply applies one layer to dir.
func (s *Store) apply(ctx context.Context, dir string, l v1.Layer, opts layer.ApplyOptions) (layer.ApplyResult, error) {
	digest, err := l.Digest()
	if err != nil {
		return layer.ApplyResult{}, fmt.Errorf("layer: %w", err)
	}
	blob, err := l.Compressed()
	if err != nil {
		return layer.ApplyResult{}, s.noteUnreadable(fmt.Errorf("layer %s: %w", digest, err), l)
	}
	defer blob.Close() //nolint:errcheck // read only
	// Not Uncompressed: that of a pulled layer takes twice as long.
	tar, err := layer.Decompress(blob)
	if err != nil {
		return layer.ApplyResult{}, s.noteUnreadable(fmt.Errorf("layer %s: %w", digest, err), l)
	}
	result, err := s.applyTar(ctx, dir, digest, tar, opts)
	return result, s.noteUnreadable(err, l)
}

// applyTar applies the tar of the layer digest to dir, and closes it.
func (s *Store) applyTar(ctx context.Context, dir string, digest v1.Hash, tar io.ReadCloser, opts layer.ApplyOptions) (layer.ApplyResult, error) {
	defer tar.Close() //nolint:errcheck // read only
	result, err := layer.Apply(ctx, dir, tar, opts)
	if err != nil {
		return result, fmt.Errorf("layer %s: %w", digest, err)
	}
	if len(result.Lost) > 0 {
		s.opts.Progress.Emit(progress.Warning{
			Message: fmt.Sprintf("layer %s: extended attributes could not be set: %v", digest, result.Lost),
		})
	}
	return result, nil
}

// Commit makes the tree's changes a layer on top of its parent. Moved lists
// paths whose ctime changed although nobody wrote them (sandbox.Result).
func (t *Tree) Commit(ctx context.Context, id string, moved []string) (*Ref, error) {
	if t.overlay != nil {
		return t.commitOverlay(id)
	}
	after, err := layer.Scan(ctx, t.Path, layer.ScanOptions{Before: t.before})
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", t.Path, err)
	}
	touched := make(map[string]bool, len(moved))
	for _, path := range moved {
		touched[path] = true
	}
	changes := layer.Compare(t.before, after, touched)
	if t.outline {
		changes = layer.CompareOutline(t.before, after)
	}
	chain, err := t.add(ctx, id, t.Path, changes)
	if err != nil {
		return nil, err
	}
	ref := &Ref{name: id, chain: chain}
	t.store.mu.Lock()
	t.store.parked[ref] = &folder{path: t.Path, outline: t.outline, index: after}
	t.store.mu.Unlock()
	return ref, nil
}

// add packs changes of root, and gives the layers of the parent with the new one.
func (t *Tree) add(ctx context.Context, id, root string, changes []layer.Change) ([]v1.Layer, error) {
	begin := time.Now()
	blob, err := t.store.pack(ctx, root, changes)
	if err != nil {
		return nil, err
	}
	t.store.opts.Progress.Emit(progress.LayerDone{
		ID: id, DiffID: blob.DiffID.String(), Digest: blob.Digest.String(),
		Size: blob.Size, Files: blob.Files, Duration: time.Since(begin),
	})
	chain, err := t.store.Layers(ctx, t.parent)
	if err != nil {
		return nil, err
	}
	return append(slices.Clip(chain), blob.Layer()), nil
}

// Discard drops the tree and its changes.
func (t *Tree) Discard() error {
	if t.overlay != nil {
		return t.overlay.remove()
	}
	if err := os.RemoveAll(t.Path); err != nil {
		return fmt.Errorf("tree %s: %w", t.Path, err)
	}
	return nil
}

// View is a root filesystem that is only looked at. It ends with Release.
type View struct {
	// Path is the root's folder.
	Path    string
	release func()
}

// Release ends the view.
func (v *View) Release() { v.release() }

// View puts ref on disk, whole, to be read.
func (s *Store) View(ctx context.Context, ref *Ref) (*View, error) {
	if ref == nil {
		dir, err := s.Dir("empty")
		if err != nil {
			return nil, err
		}
		return &View{Path: dir, release: func() { _ = os.RemoveAll(dir) }}, nil
	}
	if ref.source != "" {
		return &View{Path: ref.source, release: func() {}}, nil
	}
	ref.fill.Lock()
	defer ref.fill.Unlock()
	if s.opts.Mount != nil {
		return s.viewOverlay(ctx, ref)
	}
	f := s.look(ref)
	if f == nil {
		fresh, err := s.unpack(ctx, ref, ref.chain, false)
		if err != nil {
			return nil, err
		}
		f = s.park(ref, fresh)
	}
	return &View{Path: f.path, release: func() { s.release(ref, f) }}, nil
}

// look counts a new view of ref's folder if there is a whole one.
func (s *Store) look(ref *Ref) *folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.parked[ref]
	if f == nil || f.outline {
		return nil
	}
	f.views++
	return f
}

// park keeps f as ref's folder, seen by one view, in place of an outline.
func (s *Store) park(ref *Ref, f *folder) *folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.parked[ref]; old != nil && old.views == 0 {
		_ = os.RemoveAll(old.path)
	}
	f.views = 1
	s.parked[ref] = f
	return f
}

// release ends a view. The folder's index is forgotten: a sandbox may have
// renamed it, which changes its ctime.
func (s *Store) release(_ *Ref, f *folder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.views--
	f.index = nil
}
