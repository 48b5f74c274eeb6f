// Package snapshot holds the states of a root filesystem during a build.
//
// A state is a chain of layers, and it is on disk only when something needs it.
// A stage that only copies files works on an outline of its base (folders,
// links and empty files), so its base is never unpacked. A RUN needs the whole
// tree: plain folders, which the last user takes over instead of copying, or
// overlayfs where the kernel lets us mount it.
package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/build/progress"
)

// Options configures a Store.
type Options struct {
	// Dir is where trees and layers are kept. It is made when missing. In the
	// in-place sandbox it must be on the container's own filesystem.
	Dir string
	// Mount mounts an overlay at merged and Unmount ends it; nil works with
	// plain folders.
	Mount   func(merged, upper, work string, lowers []string) error
	Unmount func(merged string) error
	// IgnoreOwner leaves every owner as it is: for a user namespace with one user.
	IgnoreOwner bool
	// SourceDateEpoch clamps the times in layers. Default: times as they are.
	SourceDateEpoch *time.Time
	// Compression is how layers are packed.
	Compression layer.Compression
	// Fetch downloads the layers among a chain that are still in a registry, side
	// by side, before they are read one after the other; it may be nil.
	Fetch func(ctx context.Context, layers ...v1.Layer) error
	// Outlines are what earlier builds noted of layers, by the layers' digests: see
	// layer.Outline. Where an outline will do, those layers are not read.
	Outlines map[v1.Hash]v1.Layer
	// Progress receives events; it may be nil.
	Progress progress.Func
}

// Store keeps the snapshots of one build.
type Store struct {
	opts Options
	next atomic.Int64

	mu     sync.Mutex
	parked map[*Ref]*folder
	// lowers holds unpacked layers by the ID of the chain that they complete.
	lowers map[string]*lower
	// outlines are those of layers, from Options or made here.
	outlines map[v1.Hash]*outline
	// unreadable: see Unreadable.
	unreadable []v1.Hash
}

// New makes a Store in opts.Dir.
func New(opts Options) (*Store, error) {
	for _, sub := range []string{"trees", "layers"} {
		if err := os.MkdirAll(filepath.Join(opts.Dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("snapshot store: %w", err)
		}
	}
	s := &Store{opts: opts, parked: map[*Ref]*folder{}, lowers: map[string]*lower{}, outlines: map[v1.Hash]*outline{}}
	for of, l := range opts.Outlines {
		s.outlines[of] = &outline{layer: l, given: true}
	}
	return s, nil
}

// Dir is a new empty folder in the store, for the caller's own use.
func (s *Store) Dir(name string) (string, error) {
	dir := filepath.Join(s.opts.Dir, "trees", name+"-"+strconv.FormatInt(s.next.Add(1), 10))
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // a root filesystem's mode
		return "", fmt.Errorf("snapshot store: %w", err)
	}
	return dir, nil
}

// Full explains an error that came from a full disk: see layer.Full.
func (s *Store) Full(err error) error { return layer.Full(err, s.opts.Dir) }

// Ref is an immutable state of a root filesystem.
type Ref struct {
	name  string
	chain []v1.Layer

	// source is set for a state that is a plain folder, such as a build context.
	source string
	// pack is set for a state whose layers are made when somebody asks for them.
	pack func(context.Context) ([]v1.Layer, error)
	once sync.Once
	err  error

	// lowers are the folders that an overlay of the state has, topmost first, if it was
	// made in one. They hold what no layer tells: the times of folders, and sockets.
	lowers []string

	// fill lets one goroutine at a time put the state on disk.
	fill sync.Mutex
}

// Image is the state that an image's layers make.
func (s *Store) Image(name string, layers []v1.Layer) *Ref {
	return &Ref{name: name, chain: layers}
}

// Folder is the state that is the folder dir, which must not change any more.
func (s *Store) Folder(name, dir string) *Ref {
	ref := &Ref{name: name, source: dir}
	ref.pack = func(ctx context.Context) ([]v1.Layer, error) { return s.packFolder(ctx, ref) }
	return ref
}

// IsFolder says whether ref is a plain folder, which has no layer unless
// somebody asks for one.
func (r *Ref) IsFolder() bool { return r.source != "" }

// Merge is the state that the layers of refs make, one over the other. Nothing
// is unpacked for it.
func (s *Store) Merge(ctx context.Context, name string, refs []*Ref) (*Ref, error) {
	merged := &Ref{name: name}
	for _, ref := range refs {
		layers, err := s.Layers(ctx, ref)
		if err != nil {
			return nil, err
		}
		merged.chain = append(merged.chain, layers...)
	}
	return merged, nil
}

// Layers lists the layers of ref, lowest first.
func (s *Store) Layers(ctx context.Context, ref *Ref) ([]v1.Layer, error) {
	if ref == nil {
		return nil, nil
	}
	if ref.pack != nil {
		ref.once.Do(func() { ref.chain, ref.err = ref.pack(ctx) })
	}
	return ref.chain, ref.err
}

func (s *Store) packFolder(ctx context.Context, ref *Ref) ([]v1.Layer, error) {
	index, err := layer.Scan(ctx, ref.source, layer.ScanOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref.name, err)
	}
	blob, err := s.pack(ctx, ref.source, layer.Compare(&layer.Index{}, index, nil))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref.name, err)
	}
	return []v1.Layer{blob.Layer()}, nil
}

// Clamp makes epoch the latest time of a file in the layers from now on, for a
// build that learns its SOURCE_DATE_EPOCH only from its context.
func (s *Store) Clamp(epoch time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.SourceDateEpoch = &epoch
}

// WriteOptions says how the layers are written.
func (s *Store) WriteOptions() layer.WriteOptions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return layer.WriteOptions{SourceDateEpoch: s.opts.SourceDateEpoch, Compression: s.opts.Compression}
}

func (s *Store) pack(ctx context.Context, root string, changes []layer.Change) (*layer.Blob, error) {
	return layer.Pack(ctx, filepath.Join(s.opts.Dir, "layers"), root, changes, s.WriteOptions())
}

// Forget drops what the store keeps on disk for ref. Its layers stay.
func (s *Store) Forget(ref *Ref) error {
	s.mu.Lock()
	f := s.parked[ref]
	if f == nil || f.views > 0 {
		s.mu.Unlock()
		return nil
	}
	delete(s.parked, ref)
	s.mu.Unlock()
	if err := os.RemoveAll(f.path); err != nil {
		return fmt.Errorf("%s: %w", ref.name, err)
	}
	return nil
}

// Close ends what is mounted and removes everything that the store holds.
func (s *Store) Close() error {
	if s.opts.Unmount != nil {
		mounted, err := filepath.Glob(filepath.Join(s.opts.Dir, "trees", "*", "merged"))
		if err != nil {
			return fmt.Errorf("snapshot store: %w", err)
		}
		for _, dir := range mounted {
			// Most are no longer mounted; what still is goes away with the mount namespace.
			_ = s.opts.Unmount(dir)
		}
	}
	if err := os.RemoveAll(s.opts.Dir); err != nil {
		return fmt.Errorf("snapshot store: %w", err)
	}
	return nil
}
