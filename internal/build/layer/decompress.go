package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// maxZstdWindow bounds the memory that a zstd stream may ask for, in bytes: what
// the zstd command takes without being told otherwise.
const maxZstdWindow = 128 << 20

// gzipAhead is how much is unpacked in one go, in bytes.
const gzipAhead = 256 << 10

// Decompress gives the content of a gzip or zstd stream, told by its first
// bytes, and anything else as it is. Closing it does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		// It unpacks ahead of whoever reads. Most layers are small: its usual 4 MB would
		// be made for each of them.
		gz, err := pgzip.NewReaderN(buffered, gzipAhead, gzipBlocks)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return gz, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		// The second form is a skippable frame, which zstd:chunked may begin with.
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}
