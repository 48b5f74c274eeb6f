package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/problem"
)

// The forms that a result can be exported in, named as docker build names them.
const (
	// ExportOCI is an OCI layout (OCI image-spec, image-layout.md), in a tar.
	ExportOCI = "oci"
	// ExportDocker is what docker load reads. It holds one platform.
	ExportDocker = "docker"
	// ExportTar is the root filesystem in a tar, owners included.
	ExportTar = "tar"
	// ExportLocal is the root filesystem as a folder. All files belong to the
	// owner of the folder that it is put into.
	ExportLocal = "local"
)

// Export is a place outside of registries that a result is written to.
type Export struct {
	// Type is one of the Export constants.
	Type string
	// Dest is the path of the file, or of the folder. Required.
	Dest string
	// Folder makes ExportOCI a folder instead of a tar.
	Folder bool
	// Names are the image's references. Default: it has no name.
	Names []string
	// Manifests says how manifests are written.
	Manifests ManifestOptions
}

// Export writes the result to one more place. Files appear whole or not at all,
// and so do folders that are new or empty; a folder that holds something keeps
// what is not replaced. What is made belongs to the owner of the folder that was
// there before.
func (r *Result) Export(ctx context.Context, e Export) error {
	err := r.export(ctx, e)
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = layer.Full(err, filepath.Dir(e.Dest))
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	return &problem.Error{
		Op: "export " + e.Type, Input: "outputs", Value: e.Dest, Err: err,
		Fix: "Write dest=PATH with a place in the workspace that can be written, on a disk with room for it.",
	}
}

func (r *Result) export(ctx context.Context, e Export) error {
	if e.Type == ExportLocal {
		return r.exportFolder(ctx, e.Dest, func(dir string, owner owner) error { return r.writeLocal(ctx, dir, owner) })
	}
	if e.Type == ExportTar {
		return r.exportFile(ctx, e.Dest, func(w io.Writer) error { return r.writeTar(ctx, w) })
	}
	content, err := r.Content(e.Manifests)
	if err != nil {
		return err
	}
	switch {
	case e.Type == ExportDocker:
		return r.exportFile(ctx, e.Dest, func(w io.Writer) error { return writeDocker(content, e.Names, w) })
	case e.Type == ExportOCI && e.Folder:
		return r.exportFolder(ctx, e.Dest, func(dir string, owner owner) error {
			return writeLayout(content, e.Names, &layoutFolder{ctx: ctx, dir: dir, owner: owner})
		})
	case e.Type == ExportOCI:
		return r.exportFile(ctx, e.Dest, func(w io.Writer) error { return writeLayoutTar(content, e.Names, w) })
	}
	return fmt.Errorf("%q is not a form to export in", e.Type)
}

// writeDocker writes what docker load reads.
func writeDocker(content *Content, names []string, w io.Writer) error {
	if content.Index != nil {
		return &problem.Error{
			Op: "export docker", Input: "outputs", Err: errors.New("docker load reads one platform only, and there are several"),
			Fix: "Write type=oci, or set \"platforms\" to one.",
		}
	}
	image := content.Images[0]
	refs := map[name.Reference]v1.Image{}
	for _, text := range names {
		tag, err := name.NewTag(text)
		if err != nil {
			return fmt.Errorf("name %s: %w", text, err)
		}
		refs[tag] = image
	}
	if len(refs) == 0 {
		// Without a tag the archive has no name in it; this one is not written.
		digest, err := name.NewDigest("image@" + content.Descriptor.Digest.String())
		if err != nil {
			return err
		}
		refs[digest] = image
	}
	return tarball.MultiRefWrite(refs, w)
}

// owner is to whom the files of an export belong; the zero value leaves them to
// the user that we run as.
type owner struct {
	set      bool
	uid, gid int
}

func (o owner) chown(path string) error {
	if !o.set {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

// makeParents makes the folders above dest, and gives the owner of the one that
// was there before.
func makeParents(dest string) (owner, error) {
	parent := filepath.Dir(dest)
	var missing []string
	info, err := os.Stat(parent)
	for errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent) {
		missing, parent = append(missing, parent), filepath.Dir(parent)
		info, err = os.Stat(parent)
	}
	if err != nil {
		return owner{}, err
	}
	o := ownerOf(info)
	for _, dir := range slices.Backward(missing) {
		if err = os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // for other steps to read
			return o, err
		}
		if err = o.chown(dir); err != nil {
			return o, err
		}
	}
	return o, nil
}

// ownerOf is the owner of a file, if we may give files away at all.
func ownerOf(info fs.FileInfo) owner {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || singleOwner() {
		return owner{}
	}
	return owner{set: true, uid: int(stat.Uid), gid: int(stat.Gid)}
}

// exportFile lets write fill a file that takes its name when it is whole.
func (r *Result) exportFile(ctx context.Context, dest string, write func(io.Writer) error) (err error) {
	above, err := makeParents(dest)
	if err != nil {
		return err
	}
	if info, statErr := os.Stat(dest); statErr == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder", filepath.Base(dest))
	}
	f, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = write(&endingWriter{ctx: ctx, w: f}); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = above.chown(f.Name()); err != nil {
		return err
	}
	return os.Rename(f.Name(), dest)
}

// exportFolder lets write fill a folder. A folder that is new, or empty, takes
// its name when it is whole; else it is written where it is.
func (r *Result) exportFolder(_ context.Context, dest string, write func(dir string, owner owner) error) (err error) {
	above, err := makeParents(dest)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dest)
	if err == nil && len(entries) > 0 {
		info, statErr := os.Stat(dest)
		if statErr != nil {
			return statErr
		}
		return write(dest, ownerOf(info))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(dest), "."+strings.TrimPrefix(filepath.Base(dest), ".")+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	if err = write(dir, above); err != nil {
		return err
	}
	if err = os.Chmod(dir, 0o755); err != nil { //nolint:gosec // for other steps to read
		return err
	}
	if err = above.chown(dir); err != nil {
		return err
	}
	return os.Rename(dir, dest)
}

// endingWriter fails when its context has ended: what fills it may know none.
type endingWriter struct {
	ctx context.Context //nolint:containedctx // the writer lives within one call
	w   io.Writer
}

// Write implements io.Writer.
func (e *endingWriter) Write(p []byte) (int, error) {
	if e.ctx.Err() != nil {
		return 0, context.Cause(e.ctx)
	}
	return e.w.Write(p)
}
