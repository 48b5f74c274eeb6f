// Package unpack unpacks the archives that ADD is given, within bounds.
//
// What an archive means is moby/go-archive's decision, as it is with BuildKit;
// its files stay in their folder by os.Root, so no chroot is needed. The
// decompressors are our own: the library's run programs of the machine, which an
// image without any does not have, and take as much memory as an archive asks for.
package unpack

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	archive "github.com/moby/go-archive"
	"github.com/moby/go-archive/compression"
	"github.com/therootcompany/xz"

	"github.com/towline/towline/internal/build/layer"
)

const (
	// maxZstdWindow bounds the memory of a zstd stream, in bytes: what the zstd
	// command takes without being told otherwise.
	maxZstdWindow = 128 << 20
	// maxXzDictionary bounds that of an xz stream: what "xz -9" makes.
	maxXzDictionary = xz.DefaultDictMax
)

// Owner owns every file in place of those that the archive names.
type Owner struct{ UID, GID int }

// IsArchive reports whether ADD would unpack a file: a tar, compressed or not.
// Anything else is a file to be copied.
func IsArchive(path string) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false, nil // As with BuildKit, whoever copies it says what is wrong.
	}
	f, err := os.Open(path) //nolint:gosec // the caller resolved it
	if err != nil {
		return false, fmt.Errorf("archive: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	plain, err := decompress(f)
	if err != nil {
		return false, nil // It only begins like an archive.
	}
	defer plain.Close() //nolint:errcheck // only read from
	_, err = tar.NewReader(plain).Next()
	return err == nil || errors.Is(err, tar.ErrInsecurePath), nil
}

// Archive unpacks the archive r into the folder dir, and nothing outside it,
// whatever its names and links say: links are resolved as if dir were "/", and a
// name that leads out is an error. So is a file that the disk has no room for.
// Owner may be nil.
func Archive(ctx context.Context, dir string, r io.Reader, owner *Owner) error {
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close() //nolint:errcheck // only read from
	options := &archive.TarOptions{BestEffortXattrs: true}
	if owner != nil {
		options.ChownOpts = &archive.ChownOpts{UID: owner.UID, GID: owner.GID}
	}
	guarded := newGuard(ctx, plain, layer.NewRoom(dir))
	defer guarded.close()
	err = archive.UntarUncompressed(guarded, dir, options)
	if guarded.err != nil {
		err = guarded.err // Of more use than what became of it on its way.
	}
	return layer.Full(err, dir)
}

// decompress gives the content of a stream, told by its first bytes. Closing it
// does not close r.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch compression.Detect(magic) {
	case compression.Gzip:
		return gzip.NewReader(buffered)
	case compression.Bzip2:
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	case compression.Xz:
		x, err := xz.NewReader(buffered, maxXzDictionary)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case compression.Zstd:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case compression.None:
	}
	return io.NopCloser(buffered), nil
}
