package mounts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	// packSize is how much a pack holds before it is compressed.
	packSize = 16 << 20
	// A pack is kept while liveShare of it is in use. Of packs smaller than
	// smallPack, maxSmall are kept; more are joined.
	liveShare = 0.6
	smallPack = packSize / 4
	maxSmall  = 8
)

// pack makes the blobs of a mount that are new, and gives their bytes.
func (s *Set) pack(ctx context.Context, u used) (saved, int64, error) {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return saved{}, 0, err
	}
	root, err := os.OpenRoot(u.now.dir)
	if err != nil {
		return saved{}, 0, err
	}
	defer root.Close() //nolint:errcheck // read only
	p := &packer{dir: s.opts.Dir, root: root, index: &index{Packs: u.now.keep(u.m.index)}, numbers: map[sum]int{}}
	for i, c := range p.index.chunks() {
		p.numbers[sum(c.Sum)] = i
	}
	p.next = len(p.index.chunks())
	for i, e := range u.now.entries {
		if ctx.Err() != nil {
			return saved{}, 0, context.Cause(ctx)
		}
		if e.Kind == kindFile {
			if e.Chunks, err = p.file(e, u.now.content[i]); err != nil {
				return saved{}, 0, fmt.Errorf("%s: %w", e.Path, err)
			}
		}
		p.index.Entries = append(p.index.Entries, e)
	}
	if err := p.flush(); err != nil {
		return saved{}, 0, err
	}
	return s.adopt(u, p)
}

// adopt makes the new blobs known, and describes the mount.
func (s *Set) adopt(u used, p *packer) (saved, int64, error) {
	blob, err := p.index.write()
	if err != nil {
		return saved{}, 0, err
	}
	digest, err := blob.Digest()
	if err != nil {
		return saved{}, 0, err
	}
	size, err := blob.Size()
	if err != nil {
		return saved{}, 0, err
	}
	s.layers[digest] = blob
	out := saved{Key: u.key, Index: digest, Packs: []v1.Hash{}, Files: u.now.files, Size: u.now.size}
	for _, l := range p.made {
		s.layers[l.digest] = l
		size += l.size
	}
	for _, each := range p.index.Packs {
		out.Packs = append(out.Packs, each.Blob)
	}
	return out, size, nil
}

// keep chooses the packs of x that go on.
func (s *survey) keep(x *index) []pack {
	if x == nil {
		return nil
	}
	live := map[sum]bool{}
	for _, parts := range s.content {
		for _, c := range parts {
			live[sum(c.Sum)] = true
		}
	}
	var good []pack
	small := 0
	for _, p := range x.Packs {
		var use int64
		for _, c := range p.Chunks {
			if live[sum(c.Sum)] {
				use += c.Size
			}
		}
		if float64(use) < liveShare*float64(p.size()) || use == 0 {
			continue
		}
		if p.size() < smallPack {
			small++
		}
		good = append(good, p)
	}
	if small <= maxSmall {
		return good
	}
	var large []pack
	for _, p := range good {
		if p.size() >= smallPack {
			large = append(large, p)
		}
	}
	return large
}

// packer writes chunks that no pack has yet.
type packer struct {
	dir   string
	root  *os.Root
	index *index
	// numbers are those of the chunks that are there, next that of the next one.
	numbers map[sum]int
	next    int
	made    []*blob

	// The pack that is being written.
	out    *os.File
	hash   hash.Hash
	zip    *zstd.Encoder
	chunks []chunk
	full   int64
}

// file gives the numbers of a file's chunks, and packs those that are new.
func (p *packer) file(e entry, parts []chunk) (ids []int, err error) {
	var f *os.File
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	var at int64
	for _, c := range parts {
		id, known := p.numbers[sum(c.Sum)]
		if !known {
			if f == nil {
				if f, err = p.root.OpenFile(e.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
					return nil, err
				}
			}
			if err = p.add(io.NewSectionReader(f, at, c.Size), c); err != nil {
				return nil, err
			}
			id = p.next
			p.numbers[sum(c.Sum)] = id
			p.next++
		}
		ids = append(ids, id)
		at += c.Size
	}
	return ids, nil
}

// add writes a chunk to the pack.
func (p *packer) add(r io.Reader, c chunk) error {
	if p.out != nil && p.full+c.Size > packSize {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if p.out == nil {
		if err := p.begin(); err != nil {
			return err
		}
	}
	check := sha256.New()
	if _, err := io.Copy(io.MultiWriter(p.zip, check), r); err != nil {
		return err
	}
	if !bytes.Equal(check.Sum(nil), c.Sum) {
		return errors.New("it changed while it was read")
	}
	p.chunks = append(p.chunks, c)
	p.full += c.Size
	return nil
}

func (p *packer) begin() (err error) {
	if p.out, err = os.CreateTemp(p.dir, "pack-*"); err != nil {
		return err
	}
	p.hash = sha256.New()
	if p.zip == nil {
		p.zip, err = zstd.NewWriter(nil)
	}
	if err == nil {
		p.zip.Reset(io.MultiWriter(p.out, p.hash))
	}
	return err
}

// flush ends the pack that is being written, if there is one.
func (p *packer) flush() error {
	if p.out == nil {
		return nil
	}
	err := p.zip.Close()
	info, statErr := p.out.Stat()
	if err = errors.Join(err, statErr, p.out.Close()); err != nil {
		return err
	}
	l := &blob{digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(p.hash.Sum(nil))}, size: info.Size()}
	l.path = filepath.Join(p.dir, l.digest.Hex)
	if err := os.Rename(p.out.Name(), l.path); err != nil {
		return err
	}
	p.made = append(p.made, l)
	p.index.Packs = append(p.index.Packs, pack{Blob: l.digest, Chunks: p.chunks})
	p.out, p.chunks, p.full = nil, nil, 0
	return nil
}

// blob is a pack on disk, as a layer that can be pushed.
type blob struct {
	digest v1.Hash
	size   int64
	path   string
}

// Digest implements v1.Layer.
func (b *blob) Digest() (v1.Hash, error) { return b.digest, nil }

// DiffID implements v1.Layer. A pack is in no root filesystem.
func (b *blob) DiffID() (v1.Hash, error) { return b.digest, nil }

// Compressed implements v1.Layer.
func (b *blob) Compressed() (io.ReadCloser, error) { return os.Open(b.path) }

// Uncompressed implements v1.Layer. To others a pack is but bytes.
func (b *blob) Uncompressed() (io.ReadCloser, error) { return os.Open(b.path) }

// Size implements v1.Layer.
func (b *blob) Size() (int64, error) { return b.size, nil }

// MediaType implements v1.Layer.
func (b *blob) MediaType() (types.MediaType, error) { return packType, nil }
