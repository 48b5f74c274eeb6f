package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// guarded is a file as it was.
type guarded struct {
	name string // as Options.Guard has it
	// path leads there by the open folder: a process that moves or hides the
	// folder does not escape.
	path    string
	dir     *os.File
	missing bool
	attributes
	content []byte
	// seen is the file after our own changes to it.
	seen unix.Stat_t
}

func same(a, b unix.Stat_t) bool {
	return a.Ino == b.Ino && a.Dev == b.Dev && a.Ctim == b.Ctim && a.Mode&unix.S_IFMT == b.Mode&unix.S_IFMT
}

// record reads the files. Those that do not exist must not exist later either;
// what is no file, a device for one, cannot be guarded.
func record(names []string) (files []guarded, err error) {
	defer func() {
		if err != nil {
			release(files)
		}
	}()
	for _, name := range names {
		dir, openErr := openFolder(filepath.Dir(name))
		if errors.Is(openErr, fs.ErrNotExist) || errors.Is(openErr, unix.ENOTDIR) {
			continue
		}
		if openErr != nil {
			return files, openErr
		}
		files = append(files, guarded{name: name, dir: dir, path: filepath.Join(inroot.ProcPath(dir), filepath.Base(name))})
		if err = files[len(files)-1].read(); err != nil {
			return files, fmt.Errorf("%s: %w", name, err)
		}
	}
	return files, nil
}

func openFolder(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func release(files []guarded) {
	for i := range files {
		_ = files[i].dir.Close()
	}
}

func (g *guarded) read() error {
	var err error
	g.attributes, err = readAttributes(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		g.missing = true
		return nil
	}
	if err != nil {
		return err
	}
	g.seen = g.stat
	if !g.regular() {
		return nil
	}
	g.content, err = os.ReadFile(g.path)
	return err
}

func (g *guarded) regular() bool { return g.stat.Mode&unix.S_IFMT == unix.S_IFREG }

// restore undoes what happened to the files and lists those that had changed.
func restore(files []guarded) (changed []string, err error) {
	var errs []error
	for i := range files {
		done, err := files[i].restore()
		if err != nil {
			errs = append(errs, fmt.Errorf("restore %s: %w", files[i].name, err))
		}
		if done {
			changed = append(changed, files[i].name)
		}
	}
	return changed, errors.Join(errs...)
}

func (g *guarded) restore() (changed bool, err error) {
	now, err := readAttributes(g.path)
	switch {
	case !g.missing && !g.regular():
		return false, nil
	case errors.Is(err, fs.ErrNotExist):
		if g.missing {
			return false, nil
		}
	case err != nil:
		return false, err
	case g.missing:
		return true, os.RemoveAll(g.path)
	case same(now.stat, g.stat):
		return false, nil
	case same(now.stat, g.seen):
		return false, errors.Join(g.write(), g.apply(g.path))
	case now.stat.Ino != g.stat.Ino || now.stat.Dev != g.stat.Dev || now.stat.Mode&unix.S_IFMT != unix.S_IFREG:
		if err := os.RemoveAll(g.path); err != nil {
			return true, err
		}
	}
	return true, errors.Join(g.write(), g.apply(g.path))
}

// write keeps the inode where there is one: the file may be a mount.
func (g *guarded) write() error {
	f, err := os.OpenFile(g.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(g.path)
	if err == nil && !bytes.Equal(now, g.content) {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(g.content, 0)
		}
	}
	return errors.Join(err, f.Close())
}

// fingerprint tells whether a file was touched, without reading it.
type fingerprint struct {
	dev, ino, nlink, size uint64
	mode, uid, gid        uint32
	mtim, ctim            unix.Timespec
}

// survey takes the fingerprint of everything in the tree at top, but for what
// skip holds. The key is the path relative to top. top itself has no change
// time: it may be renamed.
func survey(ctx context.Context, top string, skip map[string]bool) (map[string]fingerprint, error) {
	seen := map[string]fingerprint{}
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if path == top && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if skip[path] {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		var st unix.Stat_t
		if err = unix.Lstat(path, &st); err != nil {
			return err
		}
		print := fingerprint{
			dev: st.Dev, ino: st.Ino, nlink: uint64(st.Nlink), size: uint64(st.Size), //nolint:unconvert // 32 bits on some architectures
			mode: st.Mode, uid: st.Uid, gid: st.Gid, mtim: st.Mtim, ctim: st.Ctim,
		}
		if path == top {
			print.ctim = unix.Timespec{}
		}
		rel, err := filepath.Rel(top, path)
		seen[rel] = print
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look through %s: %w", top, err)
	}
	return seen, nil
}

// differs names a path that is not the same in both, or reports false.
func differs(before, after map[string]fingerprint) (path string, found bool) {
	for path, print := range after {
		if before[path] != print {
			return path, true
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			return path, true
		}
	}
	return "", false
}
