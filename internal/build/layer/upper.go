package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Upper lists the changes that the upper folder of an overlayfs mount holds,
// sorted. lowers are the mount's lower folders, topmost first, or one folder:
// the merged view of them. As with BuildKit, the deleted content of opaque folders
// is listed path by path, a folder's times alone are no change, and a file that
// was copied up but has the same attributes and content is left out, unless it got
// another name: BuildKit makes two files of it. Mounts with redirect_dir or metacopy
// are refused.
func Upper(ctx context.Context, upper string, lowers []string) ([]Change, error) {
	u := upperWalk{}
	fds := make([]int, 0, len(lowers)+1)
	defer func() { closeAll(fds) }()
	for _, dir := range append([]string{upper}, lowers...) {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		fds = append(fds, fd)
	}
	if err := u.dir(ctx, fds[0], "", fds[1:], false); err != nil {
		return nil, fmt.Errorf("overlay changes in %s: %w", upper, err)
	}
	slices.SortFunc(u.changes, func(a, b Change) int { return walkLess(a.Path, b.Path) })
	return u.changes, nil
}

type upperWalk struct {
	changes []Change
	bufs    [2][]byte
}

func (u *upperWalk) add(path string, kind Kind) {
	u.changes = append(u.changes, Change{Path: path, Kind: kind})
}

// dir compares the open folder at path with the lower folders that it is merged
// with. If opaque, they are hidden, and only tell what was deleted.
func (u *upperWalk) dir(ctx context.Context, fd int, path string, lowers []int, opaque bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := namesIn(fd)
	if err != nil {
		return &os.PathError{Op: "list", Path: path, Err: err}
	}
	if opaque {
		if err := u.hidden(path, names, lowers); err != nil {
			return &os.PathError{Op: "list", Path: path, Err: err}
		}
	}
	for _, name := range names {
		if err := u.name(ctx, fd, name, join(path, name), lowers, opaque); err != nil {
			return err
		}
	}
	return nil
}

// hidden lists what an opaque folder with names in it hides.
func (u *upperWalk) hidden(path string, names []string, lowers []int) error {
	done := map[string]bool{}
	for _, lower := range lowers {
		lowerNames, err := namesIn(lower)
		if err != nil {
			return err
		}
		for _, name := range lowerNames {
			if _, here := slices.BinarySearch(names, name); here || done[name] {
				continue
			}
			done[name] = true
			low, err := lookup(lowers, name)
			if err != nil {
				return err
			}
			low.close()
			if low.found {
				u.add(join(path, name), Deleted)
			}
		}
	}
	return nil
}

// name compares one name of an upper folder.
func (u *upperWalk) name(ctx context.Context, dirfd int, base, path string, lowers []int, opaque bool) error {
	wrap := func(err error) error { return &os.PathError{Op: "compare", Path: path, Err: err} }
	st, err := statAt(dirfd, base)
	if err != nil {
		return wrap(err)
	}
	low, err := lookup(lowers, base)
	if err != nil {
		return wrap(err)
	}
	defer low.close()
	if isWhiteout(&st) || isType(st.Mode, unix.S_IFSOCK) {
		if low.found {
			u.add(path, Deleted)
		}
		return nil
	}
	if !isType(st.Mode, unix.S_IFDIR) {
		kind, fileErr := u.file(dirfd, base, &st, &low)
		if fileErr != nil {
			return wrap(fileErr)
		}
		if kind != 0 {
			u.add(path, kind)
		}
		return nil
	}
	fd, err := openDirAt(dirfd, base)
	if err != nil {
		return wrap(err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	attrs := xattrsOfFD(fd)
	if attrs.has("overlay.redirect") {
		return wrap(errors.New("the mount has redirect_dir on"))
	}
	kind, err := low.folderKind(&st, attrs)
	if err != nil {
		return wrap(err)
	}
	if kind != 0 {
		u.add(path, kind)
	}
	return u.dir(ctx, fd, path, low.dirs, opaque || attrs.is("overlay.opaque"))
}

// folderKind gives what happened to a folder of the upper folder; 0 for nothing.
func (f *lowerFile) folderKind(st *unix.Stat_t, attrs xattrSource) (Kind, error) {
	switch {
	case !f.found:
		return Added, nil
	case len(f.dirs) == 0:
		return Modified, nil
	}
	same, err := sameAttributes(st, &f.st, attrs, xattrsOfFD(f.dirs[0]))
	if same || err != nil {
		return 0, err
	}
	return Modified, nil
}

// file gives what happened to a file of the upper folder; 0 for nothing.
func (u *upperWalk) file(dirfd int, base string, st *unix.Stat_t, low *lowerFile) (Kind, error) {
	attrs := xattrsOfPath(procPath(dirfd, base))
	if isType(st.Mode, unix.S_IFREG) && attrs.has("overlay.metacopy") {
		return 0, errors.New("the mount has metacopy on")
	}
	if !low.found {
		return Added, nil
	}
	if st.Nlink > 1 {
		return Modified, nil // It has a new name. Only in one layer are both the same file.
	}
	if st.Size != low.st.Size || st.Mtim != low.st.Mtim || st.Rdev != low.st.Rdev && !isType(st.Mode, unix.S_IFREG) {
		return Modified, nil
	}
	same, err := sameAttributes(st, &low.st, attrs, xattrsOfPath(procPath(low.at, base)))
	if err != nil {
		return 0, err
	}
	if same {
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			same, err = sameLink(dirfd, low.at, base)
		case unix.S_IFREG:
			same, err = u.sameContent(dirfd, low.at, base)
		}
	}
	if same || err != nil {
		return 0, err
	}
	return Modified, nil
}

// sameAttributes compares type, mode, owner and extended attributes.
func sameAttributes(a, b *unix.Stat_t, ofA, ofB xattrSource) (bool, error) {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid {
		return false, nil
	}
	attrsA, err := ofA.carried()
	if err != nil {
		return false, err
	}
	attrsB, err := ofB.carried()
	return attrsA.key() == attrsB.key(), err
}

func sameLink(dirA, dirB int, base string) (bool, error) {
	a, err := readlinkAt(dirA, base)
	if err != nil {
		return false, err
	}
	b, err := readlinkAt(dirB, base)
	return a == b, err
}

// sameContent compares two files of the same size.
func (u *upperWalk) sameContent(dirA, dirB int, base string) (bool, error) {
	var files [2]*os.File
	for i, dirfd := range []int{dirA, dirB} {
		fd, err := openAt(dirfd, base, unix.O_RDONLY, 0)
		if err != nil {
			return false, err
		}
		files[i] = os.NewFile(uintptr(fd), base)
		defer files[i].Close() //nolint:errcheck // only read from
		if u.bufs[i] == nil {
			u.bufs[i] = make([]byte, 128<<10)
		}
	}
	for {
		n, errA := io.ReadFull(files[0], u.bufs[0])
		m, errB := io.ReadFull(files[1], u.bufs[1])
		if !bytes.Equal(u.bufs[0][:n], u.bufs[1][:m]) {
			return false, nil
		}
		ended := errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF)
		switch {
		case errA != nil && !ended:
			return false, errA
		case errB != nil && !errors.Is(errB, io.EOF) && !errors.Is(errB, io.ErrUnexpectedEOF):
			return false, errB
		case ended:
			return true, nil
		}
	}
}

// lowerFile is what the lower folders together show under one name.
type lowerFile struct {
	found bool
	st    unix.Stat_t
	// at is the lower folder that the file is in. dirs are the open folders that
	// are merged, if it is a folder.
	at   int
	dirs []int
}

func (f *lowerFile) close() { closeAll(f.dirs) }

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// lookup finds base in lowers as overlayfs would.
func lookup(lowers []int, base string) (low lowerFile, err error) {
	for _, dirfd := range lowers {
		st, err := statAt(dirfd, base)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			low.close()
			return lowerFile{}, err
		}
		if isWhiteout(&st) {
			break
		}
		folder := isType(st.Mode, unix.S_IFDIR)
		if low.found && !folder {
			break
		}
		if !low.found {
			low.found, low.st, low.at = true, st, dirfd
		}
		if !folder {
			break
		}
		fd, err := openDirAt(dirfd, base)
		if err != nil {
			low.close()
			return lowerFile{}, err
		}
		low.dirs = append(low.dirs, fd)
		if xattrsOfFD(fd).is("overlay.opaque") {
			break
		}
	}
	return low, nil
}

// has reports whether overlayfs noted name, which it does in one of two
// namespaces.
func (s xattrSource) has(name string) bool {
	for _, space := range []string{"trusted.", "user."} {
		if n, err := s.get(space+name, nil); err == nil && n > 0 || errors.Is(err, unix.ERANGE) {
			return true
		}
	}
	return false
}

// is reports whether overlayfs set the flag name.
func (s xattrSource) is(name string) bool {
	var value [1]byte
	for _, space := range []string{"trusted.", "user."} {
		if n, err := s.get(space+name, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}
