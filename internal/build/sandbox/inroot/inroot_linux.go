// Package inroot resolves paths inside a root filesystem that strangers wrote.
//
// Symbolic links are followed as a process chrooted into the folder would
// follow them. Each step is taken by descriptor, never by name through a link,
// so that a link which changes meanwhile cannot lead out of the folder.
package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the kernel's own bound on the links followed in one path
// (path_resolution(7)).
const maxLinks = 40

// Found is what a path led to.
type Found struct {
	// File is open with O_PATH on the last part of the path that exists.
	File *os.File
	// Path is where the path leads, absolute in the root and without links.
	Path string
	// Missing holds the names at the end of Path that do not exist.
	Missing []string
}

// Exists says whether the whole path was found.
func (f *Found) Exists() bool { return len(f.Missing) == 0 }

// Close releases File.
func (f *Found) Close() error { return f.File.Close() }

// ProcPath names the open file for system calls that take a path. It needs
// /proc.
func ProcPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// Look follows name in the folder root.
func Look(root, name string) (*Found, error) {
	w := walker{todo: strings.Split(name, "/")}
	defer w.close()
	if err := w.push(unix.AT_FDCWD, root, "", unix.O_DIRECTORY); err != nil {
		return nil, fmt.Errorf("root filesystem %s: %w", root, err)
	}
	missing, err := w.walk()
	if err != nil {
		return nil, &fs.PathError{Op: "look up", Path: name, Err: err}
	}
	last := len(w.files) - 1
	found := &Found{File: w.files[last], Missing: missing}
	found.Path = "/" + path.Join(append(w.names[1:], missing...)...)
	w.files = w.files[:last]
	return found, nil
}

// walker holds the folders from the root to where the walk is.
type walker struct {
	files []*os.File
	names []string
	todo  []string
	links int
}

func (w *walker) close() {
	for _, f := range w.files {
		_ = f.Close()
	}
}

func (w *walker) push(at int, name, as string, flags int) error {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	w.files = append(w.files, os.NewFile(uintptr(fd), name))
	w.names = append(w.names, as)
	return nil
}

func (w *walker) pop() {
	if last := len(w.files) - 1; last > 0 {
		_ = w.files[last].Close()
		w.files, w.names = w.files[:last], w.names[:last]
	}
}

func (w *walker) top() *os.File { return w.files[len(w.files)-1] }

func (w *walker) walk() (missing []string, err error) {
	for len(w.todo) > 0 {
		name := w.todo[0]
		w.todo = w.todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			w.pop()
			continue
		}
		err := w.push(int(w.top().Fd()), name, name, unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return rest(name, w.todo)
		}
		if err != nil {
			return nil, err
		}
		if err := w.follow(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// follow replaces a link at the top of the walk by what it says.
func (w *walker) follow() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(w.top().Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(w.top().Fd()), "", buf)
	if err != nil {
		return err
	}
	target := string(buf[:n])
	w.pop()
	if path.IsAbs(target) {
		for len(w.files) > 1 {
			w.pop()
		}
	}
	w.todo = append(strings.Split(target, "/"), w.todo...)
	return nil
}

func rest(name string, todo []string) ([]string, error) {
	missing := []string{name}
	for _, next := range todo {
		switch next {
		case "", ".":
		case "..":
			return nil, unix.ENOENT
		default:
			missing = append(missing, next)
		}
	}
	return missing, nil
}

// Make opens name in root and makes what is missing of it: folders of mode
// 0755, and at the end of the path an empty file unless dir. It needs no
// clean-up of its own; see Stubs for that.
func Make(root, name string, dir bool) (*os.File, error) {
	return makeMissing(root, name, dir, func(int, string) error { return nil })
}

// MakeFolder is Make for a folder; what is missing of it is given to an owner.
func MakeFolder(root, name string, uid, gid int) (*os.File, error) {
	return makeMissing(root, name, true, func(at int, made string) error {
		return unix.Fchownat(at, made, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func makeMissing(root, name string, dir bool, made func(at int, name string) error) (*os.File, error) {
	found, err := Look(root, name)
	if err != nil {
		return nil, err
	}
	for i, next := range found.Missing {
		at := int(found.File.Fd())
		if dir || i < len(found.Missing)-1 {
			err = unix.Mkdirat(at, next, 0o755)
		} else {
			err = unix.Mknodat(at, next, unix.S_IFREG|0o644, 0)
		}
		if err == nil {
			err = made(at, next)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			_ = found.Close()
			return nil, &fs.PathError{Op: "make", Path: name, Err: err}
		}
		fd, err := unix.Openat(at, next, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = found.Close()
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		found.File = os.NewFile(uintptr(fd), next)
	}
	return found.File, nil
}

// ReadFile reads at most limit bytes of the regular file name in root. A file
// that holds more is an error.
func ReadFile(root, name string, limit int64) ([]byte, error) {
	found, err := Look(root, name)
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // read only
	if !found.Exists() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	info, err := found.File.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s holds more than %d bytes", name, limit)
	}
	return os.ReadFile(filepath.Join(root, found.Path)) //nolint:gosec // found without links
}
