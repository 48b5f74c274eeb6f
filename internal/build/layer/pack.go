package layer

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// gzipBlock is the amount of input that one block of the gzip stream is made
// of. The bytes depend on it, but not on how many blocks are packed at once.
const gzipBlock = 1 << 20

// gzipBlocks is how many blocks are in the works at least, and maxGzipBlocks bounds it,
// and so the memory, which is about 4 MB a block.
const gzipBlocks, maxGzipBlocks = 4, 16

// Blob is a packed layer in a file.
type Blob struct {
	// Path is the file with the compressed layer.
	Path string
	// DiffID is the digest of the tar, Digest that of the file.
	DiffID, Digest v1.Hash
	// Size is the file's size in bytes.
	Size int64
	// Files counts the tar's entries.
	Files int
	// MediaType is what Layer says. Default: the OCI layer type for gzip.
	MediaType types.MediaType
}

// Compression says how layers are packed. The zero value is gzip at its default level.
type Compression struct {
	// Zstd packs with zstd (RFC 8878) instead of gzip.
	Zstd bool
	// Level is 1 to 9 for gzip and 1 to 22 for zstd, of which four are told apart:
	// 1 and 2, 3 to 5, 6 to 9, and above. 0 is the default: 6 for gzip, 3 for zstd.
	Level int
}

// writer packs what is written to it into w.
func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	if c.Zstd {
		// One block after the other: the bytes must not depend on the machine.
		opts := []zstd.EOption{zstd.WithEncoderConcurrency(1)}
		if c.Level != 0 {
			opts = append(opts, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(c.Level)))
		}
		return zstd.NewWriter(w, opts...)
	}
	level := c.Level
	if level == 0 {
		level = gzip.DefaultCompression
	}
	gz, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	return gz, gz.SetConcurrency(gzipBlock, min(max(gzipBlocks, runtime.GOMAXPROCS(0)), maxGzipBlocks))
}

// form is the extension of a packed layer's file, and its media type.
func (c Compression) form() (string, types.MediaType) {
	if c.Zstd {
		return ".tar.zst", types.OCILayerZStd
	}
	return ".tar.gz", types.OCILayer
}

// Pack writes the changes of the folder root as a compressed layer into a file in
// dir, named by its digest, in bounded memory. Without changes it is the empty
// layer.
func Pack(ctx context.Context, dir, root string, changes []Change, opts WriteOptions) (*Blob, error) {
	return packTar(dir, opts.Compression, func(w io.Writer) (int, error) { return Write(ctx, w, root, changes, opts) })
}

// packTar packs what write writes, and counts, into a file in dir.
func packTar(dir string, how Compression, write func(io.Writer) (files int, err error)) (_ *Blob, err error) {
	f, err := os.CreateTemp(dir, "layer-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("layer file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	tarSum, fileSum := sha256.New(), sha256.New()
	packer, err := how.writer(io.MultiWriter(f, fileSum))
	if err != nil {
		return nil, fmt.Errorf("layer file: %w", err)
	}
	files, err := write(io.MultiWriter(packer, tarSum))
	if err = errors.Join(err, packer.Close()); err != nil {
		return nil, Full(err, dir)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("layer file: %w", err)
	}
	if err = f.Close(); err != nil {
		return nil, fmt.Errorf("layer file: %w", err)
	}
	extension, mediaType := how.form()
	b := &Blob{DiffID: sumOf(tarSum), Digest: sumOf(fileSum), Size: info.Size(), Files: files, MediaType: mediaType}
	b.Path = filepath.Join(dir, b.Digest.Hex+extension)
	if err = os.Rename(f.Name(), b.Path); err != nil {
		return nil, fmt.Errorf("layer file: %w", err)
	}
	return b, nil
}

func sumOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// Layer gives the blob as a layer of an image. It reads the file anew each time
// and computes nothing.
func (b *Blob) Layer() v1.Layer { return fileLayer{*b} }

// fileLayer is a v1.Layer whose digests are known.
type fileLayer struct{ blob Blob }

// Digest is the digest of the compressed layer.
func (l fileLayer) Digest() (v1.Hash, error) { return l.blob.Digest, nil }

// DiffID is the digest of the tar.
func (l fileLayer) DiffID() (v1.Hash, error) { return l.blob.DiffID, nil }

// Size is the size of the compressed layer.
func (l fileLayer) Size() (int64, error) { return l.blob.Size, nil }

// MediaType is the blob's, by default OCI's for gzip.
func (l fileLayer) MediaType() (types.MediaType, error) {
	if l.blob.MediaType == "" {
		return types.OCILayer, nil
	}
	return l.blob.MediaType, nil
}

// Compressed reads the file.
func (l fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.blob.Path) }

// Uncompressed reads the tar.
func (l fileLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.blob.Path)
	if err != nil {
		return nil, err
	}
	r, err := Decompress(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("layer %s: %w", l.blob.Digest, err)
	}
	return bothCloser{ReadCloser: r, file: f}, nil
}

// bothCloser closes a decompressor, then the file below it.
type bothCloser struct {
	io.ReadCloser
	file io.Closer
}

// Close closes both.
func (c bothCloser) Close() error { return errors.Join(c.ReadCloser.Close(), c.file.Close()) }
