// Package mounts keeps the folders of RUN --mount=type=cache from one build to
// the next.
//
// What is kept is an image manifest (OCI image-spec, manifest.md) whose config
// lists the mounts. Each mount has an index of its files, and packs that hold
// their content in chunks: small files whole, large ones cut where their content
// says so, so that a change in the middle moves few cuts. A chunk is kept once,
// and a pack as long as most of it is in use, so what is uploaded is what is new.
// All blobs are named by their digest, and only a manifest says which belong
// together: whoever writes it last wins, and what anybody reads is whole.
package mounts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The media types of what is kept.
const (
	ConfigType types.MediaType = "application/vnd.towline.mounts.v1+json"
	indexType  types.MediaType = "application/vnd.towline.mount.index.v1+zstd"
	packType   types.MediaType = "application/vnd.towline.mount.pack.v1+zstd"
)

// Saved is what builds left of their cache mounts.
type Saved struct {
	// Config is of media type ConfigType.
	Config []byte
	// Layers are the blobs that it names, in any order.
	Layers []v1.Layer
}

// config is what Saved.Config holds.
type config struct {
	Mounts []saved `json:"mounts"`
}

// saved is one mount.
type saved struct {
	// Key tells it from others: its id, and where its first content comes from.
	Key   string    `json:"key"`
	Index v1.Hash   `json:"index"`
	Packs []v1.Hash `json:"packs"`
	Files int       `json:"files"`
	// Size is that of the files in bytes.
	Size int64 `json:"size"`
	// Used is when a build last ran with it, to the day.
	Used time.Time `json:"used"`
}

// Name is how people know a mount: the id of its key, which is its path unless
// the Dockerfile names it.
func Name(key string) string {
	id, _, _ := strings.Cut(key, ":")
	if id = strings.TrimLeft(id, "/"); strings.HasPrefix(key, "//") {
		id = "/" + id
	}
	return id
}

// Options says how mounts are kept.
type Options struct {
	// From gives what earlier builds left; the zero Saved, or a nil From, is nothing.
	From func(context.Context) (Saved, error)
	// Dir is where new blobs are put until they are uploaded. It is made when missing. Required.
	Dir string
	// MaxSize bounds the files of all mounts together, in bytes. Default: 4 GiB.
	MaxSize int64
	// IgnoreOwner leaves every owner as it is: for a user namespace with one user.
	IgnoreOwner bool
	// Fetch downloads a blob ahead of its use, if it is still in a registry; it may be nil.
	Fetch func(ctx context.Context, layers ...v1.Layer) error
	// Now tells the time. Default: time.Now.
	Now func() time.Time
}

// defaultMaxSize is Options.MaxSize if nobody says otherwise.
const defaultMaxSize = 4 << 30

// Set is the cache mounts of a build.
type Set struct {
	opts   Options
	layers map[v1.Hash]v1.Layer

	mu     sync.Mutex
	opened bool
	mounts map[string]*mount
}

// mount is one cache mount.
type mount struct {
	saved *saved
	// index is what was restored, and at what each of its files was then.
	index *index
	at    *footprint
	// folder is where it is, if the build has used it.
	folder string
}

// New makes a Set. It asks nobody.
func New(opts Options) *Set {
	opts.MaxSize = cmp.Or(opts.MaxSize, defaultMaxSize)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Set{opts: opts, layers: map[v1.Hash]v1.Layer{}, mounts: map[string]*mount{}}
}

// Open asks Options.From, at the first call and no more. After an error nothing
// can be restored; all else works.
func (s *Set) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened || s.opts.From == nil {
		return nil
	}
	s.opened = true
	from, err := s.opts.From(ctx)
	if err != nil || from.Config == nil {
		return err
	}
	for _, l := range from.Layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		s.layers[digest] = l
	}
	var c config
	if err := json.Unmarshal(from.Config, &c); err != nil {
		return err
	}
	for _, each := range c.Mounts {
		if missing := s.missing(each); missing != nil {
			return fmt.Errorf("%s: %w", Name(each.Key), missing)
		}
	}
	for _, each := range c.Mounts {
		s.mounts[each.Key] = &mount{saved: &each}
	}
	return nil
}

// missing says which blob of a mount is not there.
func (s *Set) missing(m saved) error {
	for _, digest := range append([]v1.Hash{m.Index}, m.Packs...) {
		if s.layers[digest] == nil {
			return fmt.Errorf("blob %s is not in the manifest", digest)
		}
	}
	return nil
}

// Has says whether there is something to restore under key, once the set is open.
func (s *Set) Has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mounts[key]
	return m != nil && m.saved != nil && m.folder == ""
}

// Use says that the folder dir is the mount from now on. It must stay until Save.
func (s *Set) Use(key, dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mounts[key]
	if m == nil {
		m = &mount{}
		s.mounts[key] = m
	}
	if m.folder == "" {
		m.folder = dir
	}
}

// Restored says what was put on disk.
type Restored struct {
	Files int
	Size  int64
}

// Restore fills the empty folder dir with the mount under key. After an error
// the folder is of no use, and the mount is as good as never kept.
func (s *Set) Restore(ctx context.Context, key, dir string) (Restored, error) {
	s.mu.Lock()
	m := s.mounts[key]
	s.mu.Unlock()
	if m == nil || m.saved == nil {
		return Restored{}, errors.New("nothing is kept")
	}
	x, err := s.readIndex(ctx, *m.saved)
	var at *footprint
	if err == nil {
		at, err = s.fill(ctx, x, dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		m.saved = nil
		return Restored{}, err
	}
	m.index, m.at = x, at
	return Restored{Files: m.saved.Files, Size: m.saved.Size}, nil
}

// Kept says what Save found.
type Kept struct {
	// Changed is false if what is kept already need not be written again.
	Changed bool
	// Mounts is how many are kept, and New the bytes of new blobs.
	Mounts int
	New    int64
	// Dropped names the mounts that are not kept for want of room, with their size.
	Dropped map[string]int64
	// MaxSize is what the mounts may have.
	MaxSize int64
}

// used is what a mount that a build ran with is like now.
type used struct {
	key string
	m   *mount
	now *survey
}

// Used says whether the build has run with any of the mounts.
func (s *Set) Used() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mounts {
		if m.folder != "" {
			return true
		}
	}
	return false
}

// Save gives what the next build may start from: the mounts that this one used
// as they are now, and the others as they were. Where that is more than MaxSize,
// mounts are left out whole, the one that no build has used for longest first;
// part of a folder could be worse than none to the program that it belongs to.
func (s *Set) Save(ctx context.Context) (Saved, Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	today := s.opts.Now().UTC().Truncate(24 * time.Hour)
	kept := Kept{MaxSize: s.opts.MaxSize}
	var all []used
	for _, key := range slices.Sorted(maps.Keys(s.mounts)) {
		u := used{key: key, m: s.mounts[key]}
		if u.m.folder == "" && u.m.saved == nil {
			continue
		}
		if u.m.folder != "" {
			var err error
			if u.now, err = surveyFolder(ctx, u.m.folder, u.m.at, u.m.index); err != nil {
				return Saved{}, kept, fmt.Errorf("cache mount %s: %w", Name(key), err)
			}
		}
		all = append(all, u)
	}
	all, kept.Dropped = s.fitting(all)
	kept.Changed, kept.Mounts = len(kept.Dropped) > 0, len(all)
	var c config
	for _, u := range all {
		entry, err := s.keep(ctx, u, today, &kept)
		if err != nil {
			return Saved{}, kept, fmt.Errorf("cache mount %s: %w", Name(u.key), err)
		}
		c.Mounts = append(c.Mounts, entry)
	}
	out, err := s.saved(c)
	return out, kept, err
}

// keep packs a mount, if it is not as it was.
func (s *Set) keep(ctx context.Context, u used, today time.Time, kept *Kept) (saved, error) {
	if u.now == nil {
		return *u.m.saved, nil
	}
	if u.m.saved != nil && u.now.same(u.m.index) {
		entry := *u.m.saved
		kept.Changed = kept.Changed || entry.Used.Before(today)
		entry.Used = today
		return entry, nil
	}
	entry, size, err := s.pack(ctx, u)
	if err != nil {
		return saved{}, err
	}
	entry.Used = today
	kept.Changed, kept.New = true, kept.New+size
	return entry, nil
}

// fitting leaves out what has no room, by the files' size and the last use.
func (s *Set) fitting(all []used) ([]used, map[string]int64) {
	slices.SortStableFunc(all, func(a, b used) int {
		return cmp.Or(b.when().Compare(a.when()), cmp.Compare(a.size(), b.size()))
	})
	dropped := map[string]int64{}
	left := s.opts.MaxSize
	var fit []used
	for _, u := range all {
		if size := u.size(); size <= left {
			left -= size
			fit = append(fit, u)
		} else {
			dropped[Name(u.key)] = size
		}
	}
	slices.SortFunc(fit, func(a, b used) int { return cmp.Compare(a.key, b.key) })
	return fit, dropped
}

func (u used) size() int64 {
	if u.now != nil {
		return u.now.size
	}
	return u.m.saved.Size
}

// when a mount was last used; one of this build is newer than all others.
func (u used) when() time.Time {
	if u.now != nil {
		return time.Unix(1<<40, 0)
	}
	return u.m.saved.Used
}

// saved lists the blobs of c, each once.
func (s *Set) saved(c config) (Saved, error) {
	var out Saved
	seen := map[v1.Hash]bool{}
	for _, m := range c.Mounts {
		for _, digest := range append([]v1.Hash{m.Index}, m.Packs...) {
			if !seen[digest] {
				seen[digest] = true
				out.Layers = append(out.Layers, s.layers[digest])
			}
		}
	}
	var err error
	if out.Config, err = json.Marshal(c); err != nil {
		return Saved{}, fmt.Errorf("cache mounts: %w", err)
	}
	return out, nil
}
