// Package scratch makes folders for temporary files, and removes those that an
// earlier process left because it was killed.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Folder is a folder of this process's own. Its lock tells other processes that it
// is in use; the kernel drops it when the process ends, however it ends.
type Folder struct {
	// Path is the folder's.
	Path string
	lock *os.File
}

// Make makes a folder in os.TempDir, named prefix and something. Folders of
// that prefix that belong to the same user and that nobody holds are removed
// first: what cannot be removed stays.
func Make(prefix string) (*Folder, error) {
	sweep(prefix)
	for range 100 {
		dir, err := os.MkdirTemp("", prefix)
		if err != nil {
			return nil, err
		}
		// Another process may have taken it for an old one.
		lock, err := hold(dir)
		if err == nil {
			return &Folder{Path: dir, lock: lock}, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, errors.Join(err, os.Remove(dir)))
		}
	}
	return nil, fmt.Errorf("folder %s*: taken away again and again", filepath.Join(os.TempDir(), prefix))
}

// Close removes the folder.
func (f *Folder) Close() error {
	return errors.Join(os.RemoveAll(f.Path), f.lock.Close())
}

// hold locks a folder that is still there.
func hold(dir string) (_ *os.File, err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) //nolint:gosec // a folder of our own
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	here, err := f.Stat()
	if err != nil {
		return nil, err
	}
	named, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(here, named) {
		return nil, os.ErrNotExist
	}
	return f, nil
}

// sweep removes what earlier processes left. It is best effort: this process can
// do without.
func sweep(prefix string) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil || len(old) == 0 {
		return
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for _, dir := range old {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || int(st.Uid) != os.Geteuid() {
			continue
		}
		// Whatever is mounted there is not ours to remove.
		if strings.Contains(string(mounts), " "+dir+"/") || strings.Contains(string(mounts), " "+dir+" ") {
			continue
		}
		lock, err := hold(dir)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}
