package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// OutlineType is the media type of a layer's outline: a layer tar packed with zstd
// in which regular files have no content, but for a few.
const OutlineType types.MediaType = "application/vnd.towline.outline.v1.tar+zstd"

// hollowOwner is the owner's name of a file in an outline whose content was left
// out. Nobody reads the names of owners in a layer.
const hollowOwner = "towline:hollow"

// maxKept bounds a file whose content is in an outline, in bytes.
const maxKept = 10 << 20

// Outline writes the outline of the uncompressed layer tar r into a file in dir. To
// apply it with ApplyOptions.Outline gives what the layer itself gives. keep is asked
// as ApplyOptions.Keep is. Equal layers have equal outlines.
func Outline(ctx context.Context, dir string, r io.Reader, keep func(path string) bool) (*Blob, error) {
	blob, err := packTar(dir, Compression{Zstd: true}, func(w io.Writer) (int, error) {
		buffered := bufio.NewWriterSize(w, 256<<10)
		o := &outliner{from: tar.NewReader(bufio.NewReaderSize(r, 256<<10)), to: tar.NewWriter(buffered), keep: keep}
		if err := o.all(ctx); err != nil {
			return o.files, err
		}
		// What follows the tar's end is read too, so that a digest of the stream is right.
		if _, err := io.Copy(io.Discard, r); err != nil {
			return o.files, fmt.Errorf("layer tar: %w", err)
		}
		return o.files, errors.Join(o.to.Close(), buffered.Flush())
	})
	if err == nil {
		blob.MediaType = OutlineType
	}
	return blob, err
}

type outliner struct {
	from  *tar.Reader
	to    *tar.Writer
	keep  func(path string) bool
	files int
}

func (o *outliner) all(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		hdr, err := o.from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("layer tar: %w", err)
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := o.entry(hdr); err != nil {
			return fmt.Errorf("layer entry %q: %w", hdr.Name, err)
		}
		o.files++
	}
}

func (o *outliner) entry(hdr *tar.Header) error {
	out := &tar.Header{
		Typeflag: hdr.Typeflag, Name: hdr.Name, Linkname: hdr.Linkname, Mode: hdr.Mode, Uid: hdr.Uid, Gid: hdr.Gid,
		ModTime: hdr.ModTime, Devmajor: hdr.Devmajor, Devminor: hdr.Devminor,
	}
	for name, value := range hdr.PAXRecords {
		if strings.HasPrefix(name, xattrPrefix) {
			if out.PAXRecords == nil {
				out.PAXRecords = map[string]string{}
			}
			out.PAXRecords[name] = value
		}
	}
	// The seconds alone would be rounded.
	if out.ModTime.Nanosecond() != 0 || out.PAXRecords != nil {
		out.Format = tar.FormatPAX
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		out.Typeflag = tar.TypeReg
	default:
		return o.to.WriteHeader(out)
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if hdr.Size == 0 || hdr.Size <= maxKept && o.keep != nil && o.keep(name) {
		out.Size = hdr.Size
		if err := o.to.WriteHeader(out); err != nil {
			return err
		}
		_, err := io.Copy(o.to, o.from)
		return err
	}
	out.Uname = hollowOwner
	return o.to.WriteHeader(out)
}

// ReadOutline gives the tar of an outline; closing it closes packed.
func ReadOutline(packed io.ReadCloser) (io.ReadCloser, error) {
	r, err := Decompress(packed)
	if err != nil {
		_ = packed.Close()
		return nil, fmt.Errorf("outline: %w", err)
	}
	return bothCloser{ReadCloser: r, file: packed}, nil
}
