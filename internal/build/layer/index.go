package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ScanOptions says how a folder is read. The zero value works.
type ScanOptions struct {
	// Jobs bounds how many folders are read at once. Default: the number of CPUs.
	Jobs int
	// Before is what an earlier scan of the same folder found. Of a file whose inode
	// and change time are still the same, link target and attributes are taken from
	// there. Settle has to come between that scan and the first change after it.
	Before *Index
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
	s := scanner{root: root, dev: st.Dev, before: opts.Before.byPath()}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	first := &stretch{}
	s.spawn(ctx, group, fd, "", first)
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("scan %s: %w", root, err)
	}
	x := &Index{entries: first.join()}
	for i := range x.entries {
		if c := x.entries[i].ctime; later(c, x.latest) {
			x.latest = c
		}
	}
	return x, nil
}

// byPath finds the entries by their paths.
func (x *Index) byPath() map[string]*entry {
	if x == nil {
		return nil
	}
	all := make(map[string]*entry, len(x.entries))
	for i := range x.entries {
		all[x.entries[i].path] = &x.entries[i]
	}
	return all
}

// stretch holds entries that follow each other in the order of walkLess. One
// goroutine adds to it; next goes on where another one's folder lies between.
type stretch struct {
	entries []entry
	next    *stretch
}

// split makes place for a folder that another goroutine reads: its stretch, and
// the one that goes on after it.
func (s *stretch) split() (folder, rest *stretch) {
	rest = &stretch{next: s.next}
	folder = &stretch{next: rest}
	s.next = folder
	return folder, rest
}

// unsplit takes back a split whose folder nobody reads.
func (s *stretch) unsplit(rest *stretch) { s.next = rest.next }

// join gives all entries from s on.
func (s *stretch) join() []entry {
	n := 0
	for at := s; at != nil; at = at.next {
		n += len(at.entries)
	}
	all := make([]entry, 0, n)
	for at := s; at != nil; at = at.next {
		all = append(all, at.entries...)
	}
	return all
}

// scanner reads one tree in several goroutines.
type scanner struct {
	root   string
	dev    uint64
	before map[string]*entry
}

// spawn reads the open folder at path in a goroutine of its own, if group has
// one left, and closes it.
func (s *scanner) spawn(ctx context.Context, group *errgroup.Group, fd int, path string, into *stretch) bool {
	return group.TryGo(func() error {
		_, err := s.dir(ctx, group, fd, path, into)
		return err
	})
}

// dir reads the open folder at path and closes it. It gives the stretch that what
// follows the folder belongs to.
func (s *scanner) dir(ctx context.Context, group *errgroup.Group, fd int, path string, into *stretch) (*stretch, error) {
	defer unix.Close(fd) //nolint:errcheck // only read from
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	names, err := readNames(fd)
	if err != nil {
		return nil, &os.PathError{Op: "list", Path: path, Err: err}
	}
	for _, name := range names {
		child := join(path, name)
		sub, err := s.file(fd, name, child, into)
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: child, Err: err}
		}
		if sub < 0 {
			continue
		}
		folder, rest := into.split()
		if s.spawn(ctx, group, sub, child, folder) {
			into = rest
			continue
		}
		into.unsplit(rest)
		if into, err = s.dir(ctx, group, sub, child, into); err != nil {
			return nil, err
		}
	}
	return into, nil
}

// file reads base in dirfd, and opens it if it is a folder to be entered; -1
// if not.
func (s *scanner) file(dirfd int, base, path string, into *stretch) (sub int, err error) {
	st, err := statAt(dirfd, base)
	if err != nil || isType(st.Mode, unix.S_IFSOCK) {
		return -1, err
	}
	folder := isType(st.Mode, unix.S_IFDIR)
	sub = -1
	if folder {
		if sub, err = openDirAt(dirfd, base); err != nil {
			return -1, err
		}
	}
	if old := s.before[path]; old != nil && old.ino == st.Ino && old.ctime == st.Ctim && st.Dev == s.dev {
		into.entries = append(into.entries, *old)
		return sub, nil
	}
	e := entry{
		path: path, mode: st.Mode, uid: st.Uid, gid: st.Gid,
		ino: st.Ino, nlink: uint64(st.Nlink), size: st.Size, mtime: st.Mtim, ctime: st.Ctim, //nolint:unconvert // 32 bits on arm64
	}
	if !folder {
		e.rdev = st.Rdev
	}
	if err = s.describe(&e, dirfd, base, sub); err != nil {
		err = errors.Join(err, closeIf(sub))
		return -1, err
	}
	into.entries = append(into.entries, e)
	if st.Dev != s.dev {
		return -1, closeIf(sub)
	}
	return sub, nil
}

// describe reads what stat does not tell: a link's target, attributes.
func (s *scanner) describe(e *entry, dirfd int, base string, sub int) (err error) {
	var attrs xattrs
	switch {
	case isType(e.mode, unix.S_IFLNK):
		e.link, err = readlinkAt(dirfd, base)
	case sub >= 0:
		attrs, err = xattrsOfFD(sub).carried()
	default:
		attrs, err = s.xattrs(dirfd, base, e.path)
	}
	e.xattrs = attrs.key()
	return err
}

func closeIf(fd int) error {
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
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
