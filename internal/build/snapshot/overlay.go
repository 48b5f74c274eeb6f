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

	"github.com/towline/towline/internal/build/layer"
)

// lower is one layer unpacked as a lower folder of overlays.
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

// lowerKey names a lower folder. A layer that a chain holds several times, such
// as the empty one, has a folder for each time: overlayfs refuses one folder twice.
type lowerKey struct {
	diffID v1.Hash
	copy   int
}

func (s *Store) lower(ctx context.Context, key lowerKey, l v1.Layer) (string, error) {
	s.mu.Lock()
	low := s.lowers[key]
	if low == nil {
		low = &lower{}
		s.lowers[key] = low
	}
	s.mu.Unlock()
	low.once.Do(func() {
		if low.path, low.err = s.Dir("lower"); low.err != nil {
			return
		}
		_, low.err = apply(ctx, low.path, l, layer.ApplyOptions{
			Overlay: true, UserXattr: s.opts.UserXattr, IgnoreOwner: s.opts.IgnoreOwner,
		})
	})
	return low.path, low.err
}

// mount mounts chain, with an upper folder unless it is only to be read.
func (s *Store) mount(ctx context.Context, chain []v1.Layer, writable bool) (*overlay, error) {
	o := &overlay{store: s}
	if err := s.fetch(ctx, chain); err != nil {
		return nil, err
	}
	copies := map[v1.Hash]int{}
	for _, l := range slices.Backward(chain) {
		diffID, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		dir, err := s.lower(ctx, lowerKey{diffID, copies[diffID]}, l)
		copies[diffID]++
		if err != nil {
			return nil, err
		}
		o.lowers = append(o.lowers, dir)
	}
	dir, err := s.Dir("overlay")
	if err != nil {
		return nil, err
	}
	o.dir = dir
	for _, sub := range []string{"upper", "work", "merged", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
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

func (s *Store) changeOverlay(ctx context.Context, parent *Ref, chain []v1.Layer) (*Tree, error) {
	o, err := s.mount(ctx, chain, true)
	if err != nil {
		return nil, err
	}
	return &Tree{Path: o.merged(), store: s, parent: parent, overlay: o}, nil
}

// commitOverlay packs the upper folder, which then serves as the new layer's lower folder.
func (t *Tree) commitOverlay(ctx context.Context, id string) (*Ref, error) {
	upper := filepath.Join(t.overlay.dir, "upper")
	changes, err := layer.Upper(ctx, upper, t.overlay.lowers)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", t.Path, err)
	}
	ref, err := t.add(ctx, id, t.Path, changes)
	if err != nil {
		return nil, err
	}
	if err := t.store.opts.Unmount(t.Path); err != nil {
		return nil, fmt.Errorf("overlay %s: %w", t.Path, err)
	}
	diffID, err := ref.chain[len(ref.chain)-1].DiffID()
	if err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	low := &lower{path: upper}
	low.once.Do(func() {})
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if key := (lowerKey{diffID: diffID}); t.store.lowers[key] == nil {
		t.store.lowers[key] = low
	}
	return ref, nil
}

func (s *Store) viewOverlay(ctx context.Context, ref *Ref) (*View, error) {
	o, err := s.mount(ctx, ref.chain, false)
	if err != nil {
		return nil, err
	}
	return &View{Path: o.merged(), release: func() {
		if err := o.remove(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return // it goes away with the mount namespace
		}
	}}, nil
}
