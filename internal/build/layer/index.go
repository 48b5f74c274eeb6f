package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ScanOptions says how a folder is read. The zero value works.
type ScanOptions struct {
	// Jobs bounds how many folders are read at once. Default: the number of CPUs.
	Jobs int
}

// Index is what a folder held at one time.
type Index struct {
	// entries are sorted as walkLess does.
	entries []entry
	latest  unix.Timespec
}

// entry is one path of an Index.
type entry struct {
	path             string
	mode             uint32
	uid, gid         uint32
	ino, nlink, rdev uint64
	size             int64
	mtime, ctime     unix.Timespec
	// link is a symbolic link's target, xattrs the key of the attributes.
	link, xattrs string
}

// Scan reads what root holds, without the content of files. It does not enter
// folders on other devices than root's, and leaves out sockets, which no layer
// can hold.
func Scan(ctx context.Context, root string, opts ScanOptions) (*Index, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "scan", Path: root, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "scan", Path: root, Err: err}
	}
	jobs := opts.Jobs
	if jobs <= 0 {
		jobs = runtime.NumCPU()
	}
	s := scanner{root: root, dev: st.Dev}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	s.spawn(ctx, group, fd, "")
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("scan %s: %w", root, err)
	}
	x := &Index{entries: s.entries}
	slices.SortFunc(x.entries, func(a, b entry) int { return walkLess(a.path, b.path) })
	for i := range x.entries {
		if c := x.entries[i].ctime; later(c, x.latest) {
			x.latest = c
		}
	}
	return x, nil
}

// scanner reads one tree in several goroutines.
type scanner struct {
	root string
	dev  uint64

	mu      sync.Mutex
	entries []entry
}

// spawn reads the open folder at path in a goroutine of its own, if group has
// one left, and closes it.
func (s *scanner) spawn(ctx context.Context, group *errgroup.Group, fd int, path string) bool {
	return group.TryGo(func() error {
		var found []entry
		err := s.dir(ctx, group, fd, path, &found)
		s.mu.Lock()
		s.entries = append(s.entries, found...)
		s.mu.Unlock()
		return err
	})
}

// dir reads the open folder at path and closes it.
func (s *scanner) dir(ctx context.Context, group *errgroup.Group, fd int, path string, found *[]entry) error {
	defer unix.Close(fd) //nolint:errcheck // only read from
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := namesIn(fd)
	if err != nil {
		return &os.PathError{Op: "list", Path: path, Err: err}
	}
	for _, name := range names {
		child := join(path, name)
		sub, err := s.file(fd, name, child, found)
		if err != nil {
			return &os.PathError{Op: "read", Path: child, Err: err}
		}
		if sub < 0 || s.spawn(ctx, group, sub, child) {
			continue
		}
		if err := s.dir(ctx, group, sub, child, found); err != nil {
			return err
		}
	}
	return nil
}

// file reads base in dirfd, and opens it if it is a folder to be entered; -1
// if not.
func (s *scanner) file(dirfd int, base, path string, found *[]entry) (int, error) {
	st, err := statAt(dirfd, base)
	if err != nil || isType(st.Mode, unix.S_IFSOCK) {
		return -1, err
	}
	e := entry{
		path: path, mode: st.Mode, uid: st.Uid, gid: st.Gid,
		ino: st.Ino, nlink: uint64(st.Nlink), size: st.Size, mtime: st.Mtim, ctime: st.Ctim, //nolint:unconvert // 32 bits on arm64
	}
	sub := -1
	var attrs xattrs
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		e.link, err = readlinkAt(dirfd, base)
	case unix.S_IFDIR:
		if sub, err = openDirAt(dirfd, base); err != nil {
			return -1, err
		}
		attrs, err = xattrsOfFD(sub).carried()
		if st.Dev != s.dev {
			_ = unix.Close(sub)
			sub = -1
		}
	default:
		e.rdev = st.Rdev
		attrs, err = s.xattrs(dirfd, base, path)
	}
	if err != nil {
		if sub >= 0 {
			_ = unix.Close(sub)
		}
		return -1, err
	}
	e.xattrs = attrs.key()
	*found = append(*found, e)
	return sub, nil
}

// xattrs reads the attributes by the whole path, which takes half the time of
// /proc, unless it is too long.
func (s *scanner) xattrs(dirfd int, base, path string) (xattrs, error) {
	attrs, err := xattrsOfPath(s.root + "/" + path).carried()
	if errors.Is(err, unix.ENAMETOOLONG) {
		return xattrsOfPath(procPath(dirfd, base)).carried()
	}
	return attrs, err
}

// Len is the number of paths below the folder.
func (x *Index) Len() int { return len(x.entries) }

// Latest is the newest change time (ctime) of them; zero when there are none.
func (x *Index) Latest() time.Time {
	if x.latest == (unix.Timespec{}) {
		return time.Time{}
	}
	return time.Unix(x.latest.Unix())
}

func later(a, b unix.Timespec) bool {
	return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec
}

// maxTick bounds how far a change time may lie ahead of the clock for Settle to
// wait for it. Clocks tick every 10 ms at most; more means that the clock was
// set back, and then a change shows by a time that is different.
const maxTick = time.Second

// Settle waits until the clock of the filesystem that dir is on has ticked past
// x's newest change time, so that every later change in the scanned folder
// shows. It takes a few milliseconds at most. It makes and removes a file in dir,
// which must not be in the scanned folder.
func Settle(ctx context.Context, dir string, x *Index) error {
	probe, err := os.CreateTemp(dir, ".tick-*")
	if err != nil {
		return fmt.Errorf("clock of %s: %w", dir, err)
	}
	defer os.Remove(probe.Name()) //nolint:errcheck // a name in a folder of ours
	defer probe.Close()           //nolint:errcheck // its content is of no interest
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		var st unix.Stat_t
		err := unix.Fchmod(int(probe.Fd()), 0o600)
		if err == nil {
			err = unix.Fstat(int(probe.Fd()), &st)
		}
		if err != nil {
			return fmt.Errorf("clock of %s: %w", dir, err)
		}
		now := time.Unix(st.Ctim.Unix())
		if now.After(x.Latest()) || x.Latest().Sub(now) > maxTick {
			return nil
		}
		timer.Reset(time.Millisecond)
	}
}
