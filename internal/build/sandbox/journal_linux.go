package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// journal remembers what was renamed, so that all of it can be undone.
type journal struct{ done []move }

type move struct{ from, to string }

// rename moves from to to, where nothing may be.
func (j *journal) rename(from, to string) error {
	if err := rename(from, to); err != nil {
		return err
	}
	j.done = append(j.done, move{from, to})
	return nil
}

// undo moves everything back, the last one first. It goes on after an error.
func (j *journal) undo() error {
	var errs []error
	for _, m := range slices.Backward(j.done) {
		errs = append(errs, rename(m.to, m.from))
	}
	j.done = nil
	return errors.Join(errs...)
}

// rename never replaces anything.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, statErr := os.Lstat(to); statErr == nil {
			err = unix.EEXIST
		} else {
			err = unix.Rename(from, to)
		}
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	return nil
}

// attributes are what a folder has beside its entries.
type attributes struct {
	stat   unix.Stat_t
	xattrs map[string][]byte
}

func readAttributes(path string) (attributes, error) {
	a := attributes{xattrs: map[string][]byte{}}
	if err := unix.Lstat(path, &a.stat); err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	names, err := listXattrs(path)
	if err != nil {
		return a, fmt.Errorf("%s: extended attributes: %w", path, err)
	}
	for _, name := range names {
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			continue // not ours to read
		}
		a.xattrs[name] = value[:n]
	}
	return a, nil
}

// apply gives them to path, its modification time last.
func (a *attributes) apply(path string) error {
	if err := unix.Lchown(path, int(a.stat.Uid), int(a.stat.Gid)); err != nil {
		return fmt.Errorf("%s: owner: %w", path, err)
	}
	if err := unix.Chmod(path, a.stat.Mode&0o7777); err != nil {
		return fmt.Errorf("%s: mode: %w", path, err)
	}
	names, err := listXattrs(path)
	if err != nil {
		return fmt.Errorf("%s: extended attributes: %w", path, err)
	}
	for _, name := range names {
		if _, keep := a.xattrs[name]; !keep {
			if err := unix.Lremovexattr(path, name); err != nil && !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("%s: extended attribute %s: %w", path, name, err)
			}
		}
	}
	for name, value := range a.xattrs {
		if err := unix.Lsetxattr(path, name, value, 0); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("%s: extended attribute %s: %w", path, name, err)
		}
	}
	return setTimes(path, a.stat)
}

func listXattrs(path string) ([]string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

func setTimes(path string, st unix.Stat_t) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("%s: times: %w", path, err)
	}
	return nil
}
