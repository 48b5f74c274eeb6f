package mounts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/klauspost/compress/zstd"
)

// Limits of what is read, so that a hostile manifest fills no memory.
const (
	maxIndex   = 256 << 20
	maxEntries = 2 << 20
	maxMemory  = 64 << 20
)

// index is what a mount holds.
type index struct {
	Packs   []pack  `json:"packs"`
	Entries []entry `json:"entries"`
}

// pack is a blob of chunks, one after the other.
type pack struct {
	Blob   v1.Hash `json:"blob"`
	Chunks []chunk `json:"chunks"`
}

// chunk is a piece of a file's content.
type chunk struct {
	// Sum is its SHA-256.
	Sum  []byte `json:"s"`
	Size int64  `json:"n"`
}

func (p pack) size() (n int64) {
	for _, c := range p.Chunks {
		n += c.Size
	}
	return n
}

// The kinds of entries.
const (
	kindFolder = "d"
	kindFile   = "f"
	kindLink   = "l"
	// kindHard is one more name of a file that stands before it.
	kindHard = "h"
)

// entry is a path. They stand in the order of a walk: a folder before what is
// in it; the first is the mount's own folder, ".".
type entry struct {
	Path string `json:"p"`
	Kind string `json:"k"`
	// Mode has the 12 bits of chmod(2).
	Mode uint32 `json:"m,omitempty"`
	UID  int    `json:"u,omitempty"`
	GID  int    `json:"g,omitempty"`
	// Time is the modification time in nanoseconds since 1970.
	Time int64 `json:"t,omitempty"`
	Size int64 `json:"n,omitempty"`
	// Link is what a symbolic link says, or the other name's path.
	Link string `json:"l,omitempty"`
	// Chunks are a file's content, counted through all packs.
	Chunks []int `json:"c,omitempty"`
}

// readIndex reads and checks a mount's index.
func (s *Set) readIndex(ctx context.Context, m saved) (*index, error) {
	data, err := s.read(ctx, m.Index, maxIndex)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", m.Index, err)
	}
	x := &index{}
	if err = json.Unmarshal(data, x); err == nil {
		err = x.check()
	}
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", m.Index, err)
	}
	for _, p := range x.Packs {
		if s.layers[p.Blob] == nil {
			return nil, fmt.Errorf("pack %s is not in the manifest", p.Blob)
		}
	}
	return x, nil
}

// read gives the whole content of a blob.
func (s *Set) read(ctx context.Context, digest v1.Hash, limit int64) (data []byte, err error) {
	r, err := s.open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // read only
	if data, err = io.ReadAll(io.LimitReader(r, limit+1)); err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, err
}

// open gives the content of a blob, which the blob's layer has verified.
func (s *Set) open(ctx context.Context, digest v1.Hash) (io.ReadCloser, error) {
	l := s.layers[digest]
	if l == nil {
		return nil, errors.New("it is not in the manifest")
	}
	if s.opts.Fetch != nil {
		if err := s.opts.Fetch(ctx, l); err != nil {
			return nil, err
		}
	}
	packed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	plain, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMemory))
	if err != nil {
		_ = packed.Close()
		return nil, err
	}
	return &unpacked{plain, packed}, nil
}

// unpacked closes a decoder and what it reads.
type unpacked struct {
	*zstd.Decoder
	packed io.Closer
}

// Close implements io.Closer.
func (u *unpacked) Close() error {
	u.Decoder.Close()
	return u.packed.Close()
}

// check refuses an index that leads out of its folder or does not add up. What
// it lets through has every path in a folder that is listed before it, so that
// no link is ever followed.
func (x *index) check() error {
	if len(x.Entries) > maxEntries {
		return fmt.Errorf("it lists %d paths", len(x.Entries))
	}
	if len(x.Entries) == 0 || x.Entries[0].Path != "." || x.Entries[0].Kind != kindFolder {
		return errors.New("it does not begin with the folder itself")
	}
	sizes, err := x.sizes()
	if err != nil {
		return err
	}
	kinds := make(map[string]string, len(x.Entries))
	for i, e := range x.Entries {
		if !fs.ValidPath(e.Path) || i > 0 && e.Path == "." {
			return fmt.Errorf("%q is no path", e.Path)
		}
		if _, twice := kinds[e.Path]; twice {
			return fmt.Errorf("%q is there twice", e.Path)
		}
		if i > 0 && kinds[path.Dir(e.Path)] != kindFolder {
			return fmt.Errorf("%q is in no folder", e.Path)
		}
		if err := e.check(kinds, sizes); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
		kinds[e.Path] = e.Kind
	}
	return nil
}

// sizes are those of all chunks.
func (x *index) sizes() ([]int64, error) {
	var sizes []int64
	for _, p := range x.Packs {
		for _, c := range p.Chunks {
			if c.Size <= 0 || c.Size > maxChunk || len(c.Sum) != len(sum{}) {
				return nil, fmt.Errorf("pack %s has a chunk of %d bytes", p.Blob, c.Size)
			}
			sizes = append(sizes, c.Size)
		}
		if p.size() > packSize+maxChunk {
			return nil, fmt.Errorf("pack %s has %d bytes", p.Blob, p.size())
		}
	}
	return sizes, nil
}

func (e entry) check(kinds map[string]string, sizes []int64) error {
	if e.Kind != kindFile && len(e.Chunks) > 0 {
		return errors.New("it has content, and is no file")
	}
	switch e.Kind {
	case kindFolder:
		return nil
	case kindLink:
		if e.Link == "" {
			return errors.New("the link leads nowhere")
		}
		return nil
	case kindHard:
		if kinds[e.Link] != kindFile {
			return fmt.Errorf("%q is no file before it", e.Link)
		}
		return nil
	case kindFile:
		var size int64
		for _, c := range e.Chunks {
			if c < 0 || c >= len(sizes) {
				return fmt.Errorf("there is no chunk %d", c)
			}
			size += sizes[c]
		}
		if size != e.Size {
			return fmt.Errorf("its chunks have %d bytes, not %d", size, e.Size)
		}
		return nil
	}
	return fmt.Errorf("%q is not a kind", e.Kind)
}

// write makes the index a blob.
func (x *index) write() (v1.Layer, error) {
	raw, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(raw); err != nil {
		return nil, err
	}
	if err = w.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(out.Bytes(), indexType), nil
}
