package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/build/layer"
)

// platformFolder is where a platform's root filesystem goes when there are
// several: linux_arm_v7, as BuildKit calls it.
func platformFolder(image *Image) string {
	return strings.ReplaceAll(platformID(image.Platform), "/", "_")
}

// writeTar writes the root filesystems as a tar, each below its platform's
// folder if there are several.
func (r *Result) writeTar(ctx context.Context, w io.Writer) error {
	out := tar.NewWriter(w)
	for _, image := range sortedImages(r.Images) {
		prefix := ""
		if len(r.Images) > 1 {
			prefix = platformFolder(image) + "/"
			if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: prefix, Mode: 0o755, Format: tar.FormatPAX}); err != nil {
				return err
			}
		}
		err := r.rootfs(ctx, image, out, func(h *tar.Header) {
			h.Name = prefix + h.Name
			if h.Typeflag == tar.TypeLink {
				h.Linkname = prefix + h.Linkname
			}
		})
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// writeLocal unpacks the root filesystems into dir.
func (r *Result) writeLocal(ctx context.Context, dir string, owner owner) error {
	for _, image := range r.Images {
		into := dir
		if len(r.Images) > 1 {
			into = filepath.Join(dir, platformFolder(image))
			if err := os.Mkdir(into, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // for other steps to read
				return err
			}
			if err := owner.chown(into); err != nil {
				return err
			}
		}
		if err := r.unpack(ctx, image, into, owner); err != nil {
			return err
		}
	}
	return nil
}

// unpack puts one root filesystem into dir. It goes as a tar, so that links and
// attributes come along and nothing that lies in dir leads out of it.
func (r *Result) unpack(ctx context.Context, image *Image, dir string, owner owner) error {
	in, out := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		w := tar.NewWriter(out)
		err := r.rootfs(ctx, image, w, func(h *tar.Header) { h.Uid, h.Gid = owner.uid, owner.gid })
		if err == nil {
			err = w.Close()
		}
		_ = out.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		_, err := layer.Apply(ctx, dir, in, layer.ApplyOptions{IgnoreOwner: !owner.set})
		if err == nil {
			_, err = io.Copy(io.Discard, in) // the padding behind the last entry
		}
		_ = in.CloseWithError(err)
		return err
	})
	return group.Wait()
}

// rootfs writes an image's root filesystem to out, each header after edit.
func (r *Result) rootfs(ctx context.Context, image *Image, out *tar.Writer, edit func(*tar.Header)) error {
	view, err := image.view(ctx)
	if err != nil {
		return err
	}
	defer view.Release()
	index, err := layer.Scan(ctx, view.Path, layer.ScanOptions{})
	if err != nil {
		return err
	}
	in, pipe := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := layer.Write(ctx, pipe, view.Path, layer.Compare(&layer.Index{}, index, nil), r.store.WriteOptions())
		_ = pipe.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		err := copyTar(out, in, edit)
		_ = in.CloseWithError(err)
		return err
	})
	return group.Wait()
}

// copyTar copies the entries of a tar, without its end.
func copyTar(out *tar.Writer, in io.Reader, edit func(*tar.Header)) error {
	entries := tar.NewReader(in)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, in) // the padding behind the last entry
			return err
		}
		if err != nil {
			return err
		}
		edit(h)
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, entries); err != nil { //nolint:gosec // a tree of our own
			return err
		}
	}
}
