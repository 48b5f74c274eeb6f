package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	digest "github.com/opencontainers/go-digest"

	"github.com/towline/towline/internal/build/layer"
)

// lower is the topmost layer of a chain, as a lower folder of overlays.
type lower struct {
	once sync.Once
	path string
	err  error
}

// overlay is a mounted overlay: dir holds upper, work and merged.
type overlay struct {
	store  *Store
	dir    string
	lowers []string
}

// unpackLowers gives the lower folders of chain, topmost first, unpacking those
// that are not there yet. A folder belongs to a whole chain: what its layer does
// may depend on the links and files below it.
func (s *Store) unpackLowers(ctx context.Context, chain []v1.Layer) ([]string, error) {
	var lowers []string
	id := ""
	for _, l := range chain {
		next, err := chainID(id, l)
		if err != nil {
			return nil, err
		}
		id = next
		s.mu.Lock()
		low := s.lowers[id]
		if low == nil {
			low = &lower{}
			s.lowers[id] = low
		}
		s.mu.Unlock()
		low.once.Do(func() { low.path, low.err = s.unpackLower(ctx, l, lowers) })
		if low.err != nil {
			return nil, low.err
		}
		lowers = slices.Insert(lowers, 0, low.path)
	}
	return lowers, nil
}

// chainID names a chain by its layers, as the OCI image-spec's config.md has it.
func chainID(parent string, l v1.Layer) (string, error) {
	diffID, err := l.DiffID()
	if err != nil {
		return "", fmt.Errorf("layer: %w", err)
	}
	if parent == "" {
		return diffID.String(), nil
	}
	return digest.FromString(parent + " " + diffID.String()).String(), nil
}

// unpackLower unpacks a layer into a folder of its own. Over other layers it is
// applied to an overlay of them, so that whiteouts, hard links and linked parents
// mean what they would in a whole tree.
func (s *Store) unpackLower(ctx context.Context, l v1.Layer, below []string) (string, error) {
	opts := layer.ApplyOptions{IgnoreOwner: s.opts.IgnoreOwner}
	if len(below) == 0 {
		dir, err := s.Dir("lower")
		if err != nil {
			return "", err
		}
		_, err = s.apply(ctx, dir, l, opts)
		return dir, err
	}
	o, err := s.mountOver(below, true)
	if err != nil {
		return "", err
	}
	if _, err = s.apply(ctx, o.merged(), l, opts); err != nil {
		return "", err
	}
	if err := s.opts.Unmount(o.merged()); err != nil {
		return "", fmt.Errorf("overlay %s: %w", o.merged(), err)
	}
	return filepath.Join(o.dir, "upper"), nil
}

// mount mounts ref, with an upper folder unless it is only to be read.
func (s *Store) mount(ctx context.Context, ref *Ref, writable bool) (*overlay, error) {
	if ref != nil && ref.lowers != nil {
		return s.mountOver(ref.lowers, writable)
	}
	chain, err := s.Layers(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err = s.fetch(ctx, chain); err != nil {
		return nil, err
	}
	lowers, err := s.unpackLowers(ctx, chain)
	if err != nil {
		return nil, err
	}
	return s.mountOver(lowers, writable)
}

// mountOver mounts an overlay over lowers, topmost first.
func (s *Store) mountOver(lowers []string, writable bool) (*overlay, error) {
	dir, err := s.Dir("overlay")
	if err != nil {
		return nil, err
	}
	o := &overlay{store: s, dir: dir, lowers: lowers}
	for _, sub := range []string{"upper", "work", "merged", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil { //nolint:gosec // a root filesystem's mode
			return nil, fmt.Errorf("overlay: %w", err)
		}
	}
	if len(o.lowers) == 0 {
		o.lowers = []string{filepath.Join(dir, "empty")}
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if !writable {
		upper, work = "", ""
	}
	if err := s.opts.Mount(o.merged(), upper, work, o.lowers); err != nil {
		return nil, fmt.Errorf("overlay %s: %w", o.merged(), err)
	}
	return o, nil
}

func (o *overlay) merged() string { return filepath.Join(o.dir, "merged") }

func (o *overlay) remove() error {
	err := o.store.opts.Unmount(o.merged())
	if err != nil {
		return fmt.Errorf("overlay %s: %w", o.merged(), err)
	}
	if err := os.RemoveAll(o.dir); err != nil {
		return fmt.Errorf("overlay %s: %w", o.merged(), err)
	}
	return nil
}

func (s *Store) changeOverlay(ctx context.Context, parent *Ref) (*Tree, error) {
	o, err := s.mount(ctx, parent, true)
	if err != nil {
		return nil, err
	}
	return &Tree{Path: o.merged(), store: s, parent: parent, overlay: o}, nil
}

// commitOverlay ends the mount, and makes its folders those of a new state. The
// layer is packed when somebody asks for it: that of a stage which others only copy
// from, or run on, never is.
func (t *Tree) commitOverlay(name string) (*Ref, error) {
	if err := t.store.opts.Unmount(t.Path); err != nil {
		return nil, fmt.Errorf("overlay %s: %w", t.Path, err)
	}
	upper := filepath.Join(t.overlay.dir, "upper")
	ref := &Ref{name: name, lowers: append([]string{upper}, t.overlay.lowers...)}
	ref.pack = func(ctx context.Context) ([]v1.Layer, error) { return t.packOverlay(ctx, ref) }
	return ref, nil
}

// packOverlay packs the upper folder, which then serves as the layer's lower folder too.
func (t *Tree) packOverlay(ctx context.Context, ref *Ref) ([]v1.Layer, error) {
	upper := ref.lowers[0]
	changes, err := layer.Upper(ctx, upper, ref.lowers[1:])
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", t.Path, err)
	}
	view, err := t.store.mountOver(ref.lowers, false)
	if err != nil {
		return nil, err
	}
	chain, err := t.add(ctx, ref.name, view.merged(), changes)
	if err = errors.Join(err, view.remove()); err != nil {
		return nil, err
	}
	id := ""
	for _, l := range chain {
		if id, err = chainID(id, l); err != nil {
			return nil, err
		}
	}
	low := &lower{path: upper}
	low.once.Do(func() {})
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if t.store.lowers[id] == nil {
		t.store.lowers[id] = low
	}
	return chain, nil
}

func (s *Store) viewOverlay(ctx context.Context, ref *Ref) (*View, error) {
	o, err := s.mount(ctx, ref, false)
	if err != nil {
		return nil, err
	}
	return &View{Path: o.merged(), release: func() {
		if err := o.remove(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return // it goes away with the mount namespace
		}
	}}, nil
}
