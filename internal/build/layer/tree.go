package layer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxOpen is how many folders a tree keeps open between two entries.
	maxOpen = 256
	// maxLinks is how many symbolic links may be met on the way to one folder.
	maxLinks = 255
	// maxPath is the longest path in bytes that Linux takes, and so a layer's.
	maxPath = unix.PathMax - 1
)

// tree opens folders below a root and never leaves it. It resolves links itself,
// one name at a time with O_NOFOLLOW, as if the root were "/": that needs no
// openat2, which some seccomp profiles refuse. Folders stay open for the next
// entry, which is nearly always in the same one.
type tree struct {
	root *folder
	// open holds the folders by their path without links, names by the path that
	// they were asked for.
	open, names map[string]*folder
	// strict refuses links.
	strict bool
	// enter opens a folder; made makes a missing one, or one in a file's place.
	// Both are nil for a tree that only reads.
	enter func(dirfd int, base, path string) (int, error)
	made  func(parent *folder, base string) error
}

// folder is an open folder.
type folder struct {
	fd int
	// path is relative to the root, without links; "" is the root.
	path string
}

func (f *folder) join(base string) string { return join(f.path, base) }

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

// split parts a relative path into its folder, "" for the root, and last name.
func split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func openTree(root string, strict bool) (*tree, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return &tree{
		root: &folder{fd: fd}, strict: strict,
		open: map[string]*folder{}, names: map[string]*folder{},
	}, nil
}

// forget closes all folders but the root.
func (t *tree) forget() {
	for _, f := range t.open {
		_ = unix.Close(f.fd)
	}
	clear(t.open)
	clear(t.names)
}

// rest bounds the number of open folders. No folder may be in use.
func (t *tree) rest() {
	if len(t.open) > maxOpen || len(t.names) > 4*maxOpen {
		t.forget()
	}
}

func (t *tree) close() {
	t.forget()
	_ = unix.Close(t.root.fd)
}

// find opens the folder at path, which is clean and relative. With create, what
// is missing on the way is made.
func (t *tree) find(path string, create bool) (*folder, error) {
	links := 0
	return t.resolve(path, create, &links)
}

func (t *tree) resolve(path string, create bool, links *int) (*folder, error) {
	if path == "" {
		return t.root, nil
	}
	if f, ok := t.names[path]; ok {
		return f, nil
	}
	dir, base := split(path)
	parent, err := t.resolve(dir, create, links)
	if err != nil {
		return nil, err
	}
	f, err := t.step(parent, base, create, links)
	if err != nil {
		return nil, err
	}
	if f != t.root {
		t.names[path] = f
	}
	return f, nil
}

// step goes from an open folder to the one that base names in it.
func (t *tree) step(parent *folder, base string, create bool, links *int) (*folder, error) {
	switch base {
	case "", ".":
		return parent, nil
	case "..":
		// parent's path has no links, so its last name can just be dropped.
		dir, _ := split(parent.path)
		return t.resolve(dir, create, links)
	}
	path := parent.join(base)
	if f, ok := t.open[path]; ok {
		return f, nil
	}
	fd, err := t.openDir(parent.fd, base, path)
	switch {
	case err == nil:
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		target, linkErr := readlinkAt(parent.fd, base)
		if linkErr == nil {
			return t.follow(parent, path, target, create, links)
		}
		if !create || !errors.Is(linkErr, unix.EINVAL) {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		fallthrough
	case create && errors.Is(err, unix.ENOENT):
		if err = t.made(parent, base); err == nil {
			fd, err = t.openDir(parent.fd, base, path)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := &folder{fd: fd, path: path}
	t.open[path] = f
	return f, nil
}

// follow goes where the link at path, which lies in parent, points.
func (t *tree) follow(parent *folder, path, target string, create bool, links *int) (*folder, error) {
	if *links++; *links > maxLinks || t.strict {
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
	}
	at := parent
	if strings.HasPrefix(target, "/") {
		at = t.root
	}
	for base := range strings.SplitSeq(target, "/") {
		next, err := t.step(at, base, create, links)
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func (t *tree) openDir(dirfd int, base, path string) (int, error) {
	if t.enter != nil {
		return t.enter(dirfd, base, path)
	}
	return openDirAt(dirfd, base)
}

// openDirAt opens a folder, but not through a link.
func openDirAt(dirfd int, base string) (int, error) {
	return openAt(dirfd, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// openAt opens base in dirfd, but not through a link.
func openAt(dirfd int, base string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// statAt describes base in dirfd itself, not what it may link to.
func statAt(dirfd int, base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func readlinkAt(dirfd int, base string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, base, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// namesIn lists a folder from its beginning, sorted.
func namesIn(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	return readNames(fd)
}

// readNames lists a folder that was just opened, sorted.
func readNames(fd int) ([]string, error) {
	buf := make([]byte, 32<<10)
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// removeAll removes base from dirfd with everything below it.
func removeAll(dirfd int, base string) error {
	err := unix.Unlinkat(dirfd, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	fd, err := openDirAt(dirfd, base)
	if errors.Is(err, unix.EACCES) {
		if err = unix.Fchmodat(dirfd, base, 0o700, 0); err == nil {
			fd, err = openDirAt(dirfd, base)
		}
	}
	if err != nil {
		return err
	}
	if unix.Geteuid() != 0 {
		_ = unix.Fchmod(fd, 0o700) // Should that fail and matter, the removal says so.
	}
	err = removeContent(fd)
	_ = unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dirfd, base, unix.AT_REMOVEDIR)
}

func removeContent(fd int) error {
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(fd, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// procPath names base in dirfd for calls that take no descriptor.
func procPath(dirfd int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + base
}

// isType tells the type of a file, such as unix.S_IFDIR.
func isType(mode, typ uint32) bool { return mode&unix.S_IFMT == typ }

// isWhiteout tells overlayfs's own whiteouts.
func isWhiteout(st *unix.Stat_t) bool {
	return isType(st.Mode, unix.S_IFCHR) && st.Rdev == 0
}
