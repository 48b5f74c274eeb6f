package source

import (
	"errors"
	"io"
	gofs "io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	fstypes "github.com/tonistiigi/fsutil/types"
)

// errNotRegular is the error for reading anything but a file.
var errNotRegular = errors.New("not a regular file")

// ReadFile reads length bytes of a file in dir from offset on, fewer at its
// end; length 0 reads to the end. Symbolic links are followed as if dir were
// the root of the file system. Errors are *fs.PathErrors that bear name, not
// the path on this machine.
func ReadFile(dir, name string, offset, length int) ([]byte, error) {
	root, at, err := locate(dir, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, renamed("open", name, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, renamed("stat", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &gofs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	if offset < 0 || length < 0 {
		return nil, &gofs.PathError{Op: "read", Path: name, Err: syscall.EINVAL}
	}
	size := info.Size() - int64(offset)
	if length > 0 {
		size = int64(length)
	}
	data, err := io.ReadAll(io.NewSectionReader(file, int64(offset), max(size, 0)))
	if err != nil {
		return nil, renamed("read", name, err)
	}
	return data, nil
}

// Stat describes a file in dir, after following symbolic links as ReadFile
// does. Owners are hidden as in Local.
func Stat(dir, name string) (*fstypes.Stat, error) {
	root, at, err := locate(dir, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Lstat(at)
	if err != nil {
		return nil, renamed("stat", name, err)
	}
	stat := &fstypes.Stat{
		Path:    path.Base(at),
		Mode:    uint32(info.Mode() &^ os.ModeSocket),
		ModTime: info.ModTime().UnixNano(),
	}
	if !info.IsDir() {
		stat.Size = info.Size()
	}
	return stat, nil
}

// locate finds what name is in dir when dir is taken for the root: absolute
// links start at it and ".." ends at it. The root that is given back does not
// let anyone out, should a link change meanwhile.
func locate(dir, name string) (*os.Root, string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", notAFolder(dir, err)
	}
	at, err := resolve(root, name)
	if err != nil {
		_ = root.Close()
		return nil, "", renamed("open", name, err)
	}
	return root, at, nil
}

func resolve(root *os.Root, name string) (string, error) {
	at, todo := ".", split(name)
	for links := 0; len(todo) > 0; {
		step := todo[0]
		todo = todo[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // of "." it is "."
			continue
		}
		next := path.Join(at, step)
		info, err := root.Lstat(next)
		if errors.Is(err, os.ErrNotExist) && len(todo) == 0 {
			return next, nil // the caller's open says it
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > 255 {
			return "", syscall.ELOOP
		}
		target, err := root.Readlink(next)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			at = "."
		}
		todo = slices.Concat(split(target), todo)
	}
	return at, nil
}

func split(name string) []string { return strings.Split(name, "/") }

// renamed puts the name that was asked for into an error.
func renamed(op, name string, err error) error {
	if inner, ok := errors.AsType[*gofs.PathError](err); ok {
		err = inner.Err
	}
	return &gofs.PathError{Op: op, Path: name, Err: err}
}
