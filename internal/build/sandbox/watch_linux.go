package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// watch knows what a process must not change, where it shares our files.
type watch struct {
	files []guarded
	trees []*guardedTree
}

// guardedTree is a folder as it was.
type guardedTree struct {
	name   string
	dir    *os.File
	own    map[string]bool // what changes by our own doing
	before map[string]fingerprint
}

func newWatch(ctx context.Context, opts Options) (w *watch, err error) {
	w = &watch{}
	defer func() {
		if err != nil {
			w.release()
		}
	}()
	if w.files, err = record(opts.Guard); err != nil {
		return nil, err
	}
	for _, name := range opts.GuardTrees {
		dir, openErr := openFolder(name)
		if errors.Is(openErr, fs.ErrNotExist) {
			continue
		}
		if openErr != nil {
			return nil, openErr
		}
		tree := &guardedTree{name: name, dir: dir, own: map[string]bool{}}
		w.trees = append(w.trees, tree)
		if rel, relErr := filepath.Rel(name, opts.StateDir); relErr == nil {
			tree.own[filepath.Join(inroot.ProcPath(dir), rel)] = true
		}
		if tree.before, err = survey(ctx, inroot.ProcPath(dir)+"/.", tree.own); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *watch) release() {
	release(w.files)
	for _, tree := range w.trees {
		_ = tree.dir.Close()
	}
}

// settle lets what happened to the files so far count as our own doing, and
// waits until every later change shows in a file's change time.
func (w *watch) settle(ctx context.Context) error {
	for i := range w.files {
		f := &w.files[i]
		var now unix.Stat_t
		if !f.missing && unix.Lstat(f.path, &now) == nil && now.Ino == f.stat.Ino && now.Dev == f.stat.Dev {
			f.seen = now
		}
	}
	return nextTick(ctx)
}

// nextTick waits until the clock of the filesystems has moved on: a few
// milliseconds. Changes of one tick have the same time.
func nextTick(ctx context.Context) error {
	var begin, now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &begin); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return fmt.Errorf("clock: %w", err)
		}
		if now != begin {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// check undoes what happened to the files, and lists those, and fails when a
// tree has changed. The watch is over then.
func (w *watch) check(ctx context.Context) (restored []string, err error) {
	defer w.release()
	restored, err = restore(w.files)
	errs := []error{err}
	for _, tree := range w.trees {
		after, err := survey(ctx, inroot.ProcPath(tree.dir)+"/.", tree.own)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if name, found := differs(tree.before, after); found {
			errs = append(errs, fmt.Errorf("RUN modified the workspace: %s", filepath.Join(tree.name, name)))
		}
	}
	return restored, errors.Join(errs...)
}

// devices are the entries of the container's /dev. They are shared by all runs,
// so each has to find them as the first one did.
type devices struct {
	known map[string]device
}

type device struct {
	stat unix.Stat_t
	link string
}

// deviceFolders are those whose entries come and go with a run.
func deviceFolders() []string { return []string{"/dev", "/dev/shm", "/dev/mqueue"} }

func readDevices() (*devices, error) {
	d := &devices{known: map[string]device{}}
	for _, dir := range deviceFolders() {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			name := filepath.Join(dir, entry.Name())
			var dev device
			if err = unix.Lstat(name, &dev.stat); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if entry.Type() == os.ModeSymlink {
				if dev.link, err = os.Readlink(name); err != nil {
					return nil, err
				}
			}
			d.known[name] = dev
		}
	}
	return d, nil
}

// restore removes what is new and makes again what is gone or another thing.
func (d *devices) restore() error {
	var errs []error
	now, err := readDevices()
	if err != nil {
		return err
	}
	for name, dev := range now.known {
		before, known := d.known[name]
		if known && before.same(dev) {
			continue
		}
		if dev.stat.Mode&unix.S_IFMT == unix.S_IFDIR && known {
			continue // a mount, or made by somebody who watches over it
		}
		errs = append(errs, os.RemoveAll(name))
	}
	for name, dev := range d.known {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, dev.remake(name))
		}
	}
	return errors.Join(errs...)
}

func (d device) same(other device) bool {
	return d.stat.Mode == other.stat.Mode && d.stat.Rdev == other.stat.Rdev && d.stat.Uid == other.stat.Uid &&
		d.stat.Gid == other.stat.Gid && d.link == other.link
}

func (d device) remake(name string) error {
	var err error
	switch d.stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		err = os.Symlink(d.link, name)
	case unix.S_IFCHR:
		if err = unix.Mknod(name, d.stat.Mode, int(d.stat.Rdev)); err == nil {
			err = errors.Join(unix.Chmod(name, d.stat.Mode&0o7777), unix.Lchown(name, int(d.stat.Uid), int(d.stat.Gid)))
		}
	}
	if err != nil {
		return fmt.Errorf("make %s again: %w", name, err)
	}
	return nil
}
