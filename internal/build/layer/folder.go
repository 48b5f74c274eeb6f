package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// folderState is what a folder shall be like at the end.
type folderState struct {
	// dirty says that the folder differs from this now.
	dirty bool
	// listed says that owner and attributes come from the tar or a lower layer.
	listed, opaque bool
	uid, gid       int
	mode           uint32
	times          [2]unix.Timespec
	xattrs         xattrs
}

func stateOf(st *unix.Stat_t) *folderState {
	return &folderState{
		uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o7777,
		times: [2]unix.Timespec{st.Atim, st.Mtim},
	}
}

// inherit takes over what the folder at path is like in a lower layer.
func (s *folderState) inherit(lower *tree, path string) (bool, error) {
	lower.rest()
	f, err := lower.find(path, false)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return true, nil //nolint:nilerr // a file or a link hides what is further down
	}
	var st unix.Stat_t
	if err = unix.Fstat(f.fd, &st); err != nil {
		return false, err
	}
	s.uid, s.gid, s.mode = int(st.Uid), int(st.Gid), st.Mode&0o7777
	s.times = [2]unix.Timespec{st.Atim, st.Mtim}
	s.xattrs, err = xattrsOfFD(f.fd).carried()
	return true, err
}

// finish gives the folders their attributes: those within others first, since
// the outer ones may then forbid to enter.
func (a *applier) finish() error {
	a.tree.forget()
	a.tree.strict, a.tree.enter = true, nil
	for _, path := range slices.SortedFunc(maps.Keys(a.states), func(x, y string) int { return walkLess(y, x) }) {
		state := a.states[path]
		if !state.dirty {
			continue
		}
		a.tree.rest()
		f, err := a.tree.find(path, false)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // A later entry replaced it.
		}
		if err == nil {
			err = a.settle(f, state)
		}
		if err != nil {
			return fmt.Errorf("layer folder %q: %w", path, err)
		}
	}
	return nil
}

// settle gives one folder its attributes.
func (a *applier) settle(f *folder, state *folderState) error {
	if state.listed && !a.opts.IgnoreOwner {
		if err := unix.Fchown(f.fd, state.uid, state.gid); err != nil {
			return fmt.Errorf("owner %d:%d: %w", state.uid, state.gid, err)
		}
	}
	if state.listed {
		if err := dropXattrs(f.fd, state.xattrs); err != nil {
			return err
		}
	}
	set := func(name string, value []byte) error { return unix.Fsetxattr(f.fd, name, value, 0) }
	if err := a.setXattrs(f.path, state.xattrs, set); err != nil {
		return err
	}
	if state.opaque {
		if err := set(a.opaqueAttr, []byte("y")); err != nil {
			return fmt.Errorf("attribute %s: %w", a.opaqueAttr, err)
		}
	}
	if err := setTimes(f.fd, ".", state.times); err != nil {
		return err
	}
	return unix.Fchmod(f.fd, state.mode)
}

// dropXattrs removes what a layer carries from an open folder, but for keep.
func dropXattrs(fd int, keep xattrs) error {
	old, err := xattrsOfFD(fd).carried()
	if err != nil {
		return err
	}
	for name := range old {
		if _, ok := keep[name]; ok {
			continue
		}
		if err = unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// setXattrs sets extended attributes. Those that the filesystem or missing
// privileges do not take are noted in the result, if a layer of ours would have them.
func (a *applier) setXattrs(path string, attrs xattrs, set func(name string, value []byte) error) error {
	if len(attrs) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		err := set(name, []byte(attrs[name]))
		switch {
		case err == nil:
		case !untaken(err):
			return fmt.Errorf("attribute %s: %w", name, err)
		case carried(name) && len(a.res.Lost) < maxLost:
			a.res.Lost = append(a.res.Lost, path+": "+name)
		}
	}
	return nil
}

// headerXattrs reads an entry's extended attributes. What overlayfs notes for
// itself is left out: it would change what a mount shows.
func headerXattrs(hdr *tar.Header) xattrs {
	var attrs xattrs
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || name == "" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if attrs == nil {
			attrs = xattrs{}
		}
		attrs[name] = value
	}
	return attrs
}

func modeOf(hdr *tar.Header) uint32 { return uint32(hdr.Mode) & 0o7777 }

// headerTimes gives the access and the modification time: both are the latter,
// so that the result does not depend on what the tar happens to record.
func headerTimes(hdr *tar.Header) [2]unix.Timespec {
	t := timespec(hdr.ModTime)
	return [2]unix.Timespec{t, t}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

func setTimes(dirfd int, base string, times [2]unix.Timespec) error {
	if err := unix.UtimesNanoAt(dirfd, base, times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("utimensat", err)
	}
	return nil
}
