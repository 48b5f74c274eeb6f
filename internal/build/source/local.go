package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/towline/towline/internal/problem"
)

// Stats says how much was copied.
type Stats struct {
	// Files counts regular files; a further hard link counts as none.
	Files int
	// Bytes is their content's size.
	Bytes int64
}

// Local copies the part of dir that f wants into dest, which is made if it is
// missing and must be empty: modes, times in nanoseconds, links of both kinds
// and extended attributes are kept (except Apple's), every file belongs to
// root, or to the caller where the caller is not root. As with BuildKit the
// folder's own mode and time are not copied: dest has mode 0755; a directory
// on the way to a wanted file is copied without its other content; a socket
// becomes an empty file. Content is never read from outside dir.
//
// A dir that is not a folder, or a pattern that cannot be read, is a
// *problem.Error.
func Local(ctx context.Context, dir, dest string, f Filter) (Stats, error) {
	tree, err := open(dir, dest, f)
	if err != nil {
		return Stats{}, err
	}
	defer func() { _ = tree.root.Close() }()
	if err = os.MkdirAll(dest, 0o755); err != nil { //nolint:gosec // it is a layer's root
		return Stats{}, err
	}
	if err = os.Chmod(dest, 0o755); err != nil { //nolint:gosec // whatever the umask
		return Stats{}, err
	}
	var stats Stats
	writer, err := fsutil.NewDiskWriter(ctx, dest, fsutil.DiskWriterOpt{
		SyncDataCb: func(ctx context.Context, path string, w io.WriteCloser) error {
			n, copyErr := tree.copy(ctx, path, w)
			stats.Files++
			stats.Bytes += n
			return copyErr
		},
	})
	if err != nil {
		return Stats{}, err
	}
	err = fsutil.WithHardlinkReset(tree.view).Walk(ctx, "/", func(path string, entry gofs.DirEntry, walkErr error) error {
		if walkErr != nil {
			return walkErr
		}
		info, infoErr := entry.Info()
		if infoErr != nil {
			return infoErr
		}
		return writer.HandleChange(fsutil.ChangeKindAdd, path, info, nil)
	})
	if err == nil {
		err = writer.Wait(ctx)
	}
	if err != nil {
		return stats, fmt.Errorf("folder %s: %w", dir, err)
	}
	return stats, nil
}

// tree is a folder and the filtered view of it.
type tree struct {
	root *os.Root
	view fsutil.FS
}

// open makes the view in two steps, as BuildKit does: the client hides owners,
// and the filter is laid over that. What is being written below dir is hidden.
func open(dir, dest string, f Filter) (*tree, error) {
	base, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, notAFolder(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, notAFolder(dir, err)
	}
	uid, gid := uint32(0), uint32(0)
	if os.Geteuid() != 0 {
		uid, gid = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	hidden := within(dir, dest)
	owned, err := fsutil.NewFilterFS(base, &fsutil.FilterOpt{Map: func(path string, stat *fstypes.Stat) fsutil.MapResult {
		if hidden != "" && path == hidden {
			return fsutil.MapResultSkipDir
		}
		stat.Uid, stat.Gid = uid, gid
		return fsutil.MapResultKeep
	}})
	if err == nil {
		owned, err = fsutil.NewFilterFS(owned, &fsutil.FilterOpt{
			IncludePatterns: f.Include, ExcludePatterns: f.Exclude, FollowPaths: f.Follow,
		})
	}
	if err != nil {
		_ = root.Close()
		return nil, &problem.Error{Op: "read folder " + dir, Err: err, Fix: "Correct the pattern in .dockerignore."}
	}
	return &tree{root: root, view: owned}, nil
}

// notAFolder explains why dir cannot be a build context.
func notAFolder(dir string, err error) error {
	fix := "Set context to a folder of the workspace; is the repository checked out (actions/checkout)?"
	if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
		err = errors.New("it is not a folder")
		fix = "Set context to the folder that holds the files to copy, and file to the Dockerfile."
	} else if errors.Is(err, os.ErrNotExist) {
		err = errors.New("there is no such folder")
	}
	return &problem.Error{Op: "read the build context", Input: "context", Value: dir, Err: err, Fix: fix}
}

// within is dest as seen from dir, or empty when it is not inside.
func within(dir, dest string) string {
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return ""
	}
	// dest need not exist yet, but the folder that it will be in does.
	realDest, err := filepath.EvalSymlinks(filepath.Dir(dest))
	if err != nil {
		return ""
	}
	if realDir, err = filepath.Abs(realDir); err != nil {
		return ""
	}
	if realDest, err = filepath.Abs(realDest); err != nil {
		return ""
	}
	rel, err := filepath.Rel(realDir, filepath.Join(realDest, filepath.Base(dest)))
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		return ""
	}
	return rel
}

// copy writes the content of path to w. Go copies from file to file inside the
// kernel; the pieces are for ctx to be looked at between them.
func (t *tree) copy(ctx context.Context, path string, w io.WriteCloser) (written int64, err error) {
	// What the walk saw as a regular file might be a pipe by now.
	file, err := t.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENXIO) {
		return 0, nil // a socket
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s changed while it was read: it is not a regular file any more", path)
	}
	for {
		n, copyErr := io.CopyN(w, file, 64<<20)
		written += n
		if errors.Is(copyErr, io.EOF) {
			return written, nil
		}
		if copyErr != nil {
			return written, fmt.Errorf("%s: %w", path, copyErr)
		}
		if ctx.Err() != nil {
			return written, context.Cause(ctx)
		}
	}
}
