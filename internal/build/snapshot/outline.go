package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/build/progress"
)

// outline is that of one layer, once it is known.
type outline struct {
	mu    sync.Mutex
	layer v1.Layer
	// given says that an earlier build noted it.
	given bool
}

// smallLayer is the size of a layer, in bytes, up to which its outline is not worth
// a blob of its own.
const smallLayer = 64 << 10

// sketch puts an outline of a chain of layers into a new folder. An earlier build's
// outlines do for it; where there is none, the layer is read, and its outline noted.
func (s *Store) sketch(ctx context.Context, chain []v1.Layer) (*folder, error) {
	keep := map[string]bool{"etc/passwd": true, "etc/group": true}
	for {
		dir, err := s.Dir("tree")
		if err != nil {
			return nil, err
		}
		hollow, err := s.sketchAll(ctx, dir, chain, keep)
		if err != nil {
			_ = os.RemoveAll(dir)
			if ctx.Err() != nil || !s.forgetOutlines(chain) {
				return nil, err
			}
			s.opts.Progress.Emit(progress.Warning{
				Message: "what the build cache notes of a base cannot be used, so its layers are read", Detail: err.Error(),
			})
			continue
		}
		if len(hollow) == 0 {
			return &folder{path: dir, outline: len(chain) > 0}, nil
		}
		// An account file is a hard link of one that was left empty: once more.
		for _, path := range hollow {
			keep[path] = true
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("tree %s: %w", dir, err)
		}
		s.forgetOutlines(chain)
	}
}

// sketchAll applies the outlines of a chain to dir. Hollow lists files that they
// have to keep, too, for the sake of keep.
func (s *Store) sketchAll(ctx context.Context, dir string, chain []v1.Layer, keep map[string]bool) (hollow []string, err error) {
	unknown, known := s.toRead(chain)
	if err := s.fetch(ctx, unknown); err != nil {
		return nil, err
	}
	_ = s.fetch(ctx, known) // should that fail, the one that is read says why
	opts := layer.ApplyOptions{IgnoreOwner: s.opts.IgnoreOwner, Outline: true, Keep: func(path string) bool { return keep[path] }}
	for _, l := range chain {
		digest, err := l.Digest()
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		tar, err := s.outlineOf(ctx, digest, l, opts.Keep)
		if err != nil {
			return nil, err
		}
		result, err := s.applyTar(ctx, dir, digest, tar, opts)
		if err != nil {
			return nil, err
		}
		hollow = append(hollow, result.Hollow...)
	}
	return hollow, nil
}

// toRead gives the layers of a chain that have to be read for its outline, and the
// outlines of the others.
func (s *Store) toRead(chain []v1.Layer) (unknown, known []v1.Layer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range chain {
		digest, err := l.Digest()
		if o := s.outlines[digest]; err == nil && o != nil && o.layer != nil {
			known = append(known, o.layer)
		} else {
			unknown = append(unknown, l)
		}
	}
	return unknown, known
}

// outlineOf gives the tar of a layer's outline, or of a small layer itself.
func (s *Store) outlineOf(ctx context.Context, digest v1.Hash, l v1.Layer, keep func(string) bool) (io.ReadCloser, error) {
	s.mu.Lock()
	o := s.outlines[digest]
	if o == nil {
		o = &outline{}
		s.outlines[digest] = o
	}
	s.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.layer != nil {
		return readOutline(o.layer)
	}
	tar, err := l.Uncompressed()
	if err != nil {
		return nil, s.noteUnreadable(fmt.Errorf("layer %s: %w", digest, err), l)
	}
	size, err := l.Size()
	if err != nil || size <= smallLayer {
		return tar, nil // without a size there is nothing to note
	}
	defer tar.Close() //nolint:errcheck // read only
	blob, err := layer.Outline(ctx, filepath.Join(s.opts.Dir, "layers"), tar, keep)
	if err != nil {
		return nil, s.noteUnreadable(fmt.Errorf("layer %s: %w", digest, err), l)
	}
	s.mu.Lock()
	o.layer = blob.Layer()
	s.mu.Unlock()
	return readOutline(o.layer)
}

func readOutline(l v1.Layer) (io.ReadCloser, error) {
	packed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return layer.ReadOutline(packed)
}

// forgetOutlines drops the outlines of a chain, and says whether one of them came
// from an earlier build.
func (s *Store) forgetOutlines(chain []v1.Layer) (given bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range chain {
		digest, err := l.Digest()
		if o := s.outlines[digest]; err == nil && o != nil {
			given = given || o.given
			delete(s.outlines, digest)
		}
	}
	return given
}

// Outlines gives what is known of layers, by their digests, for Options.Outlines of
// a later build.
func (s *Store) Outlines() map[v1.Hash]v1.Layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[v1.Hash]v1.Layer{}
	for of, o := range s.outlines {
		if o.layer != nil {
			all[of] = o.layer
		}
	}
	return all
}
