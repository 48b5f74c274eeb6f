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

// applier unpacks one layer.
type applier struct {
	tree  *tree
	lower []*tree
	opts  ApplyOptions
	res   ApplyResult
	buf   []byte
	// seen holds the paths that this layer made, and the folders above them:
	// its whiteouts hide only what the layers below brought.
	seen map[string]struct{}
	// states holds what the folders that were opened or made shall be like at the
	// end, when nothing more is put into them.
	states map[string]*folderState
	// hollows names the files of this layer without their content, by inode.
	hollows map[uint64]string
	// opaqueAttr is the attribute that makes an overlayfs folder opaque.
	opaqueAttr string
	unowned    bool
}

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

func newApplier(root string, opts ApplyOptions) (*applier, error) {
	t, err := openTree(root, false)
	if err != nil {
		return nil, err
	}
	a := &applier{
		tree: t, opts: opts, buf: make([]byte, 256<<10), opaqueAttr: "trusted.overlay.opaque",
		seen: map[string]struct{}{"": {}}, states: map[string]*folderState{}, hollows: map[uint64]string{},
		unowned: unix.Geteuid() != 0,
	}
	if opts.UserXattr {
		a.opaqueAttr = "user.overlay.opaque"
	}
	t.enter, t.made = a.enter, a.imply
	for _, dir := range opts.Lower {
		lower, err := openTree(dir, true)
		if err != nil {
			a.close()
			return nil, err
		}
		a.lower = append(a.lower, lower)
	}
	if err := a.remember(t.root.fd, ""); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *applier) close() {
	a.tree.close()
	for _, t := range a.lower {
		t.close()
	}
}

// put makes something new at base in the folder dir, in the place of whatever
// is there.
func (a *applier) put(dir, base string, create func(p *folder) error) (*folder, error) {
	p, err := a.tree.find(dir, true)
	if err != nil {
		return nil, err
	}
	err = create(p)
	if errors.Is(err, unix.EEXIST) {
		if p, err = a.vacate(p, base); err == nil {
			err = create(p)
		}
	}
	if err != nil {
		return nil, err
	}
	a.note(p, base)
	return p, nil
}

// note marks what this layer made at base in p.
func (a *applier) note(p *folder, base string) {
	a.states[p.path].dirty = true
	for path := p.join(base); ; path, _ = split(path) {
		if _, ok := a.seen[path]; ok {
			return
		}
		a.seen[path] = struct{}{}
	}
}

// vacate removes base from p, and gives p anew: when a folder or a link goes, the
// open folders may no longer be what their names say.
func (a *applier) vacate(p *folder, base string) (*folder, error) {
	st, err := statAt(p.fd, base)
	if errors.Is(err, unix.ENOENT) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	a.states[p.path].dirty = true
	if err := removeAll(p.fd, base); err != nil {
		return nil, fmt.Errorf("replace: %w", err)
	}
	if !isType(st.Mode, unix.S_IFDIR) && !isType(st.Mode, unix.S_IFLNK) {
		return p, nil
	}
	path := p.path
	a.tree.forget()
	return a.tree.find(path, false)
}

// directory makes a folder, or gives one that is there new attributes.
func (a *applier) directory(dir, base string, hdr *tar.Header) error {
	p, err := a.tree.find(dir, true)
	if err != nil {
		return err
	}
	state := &folderState{
		dirty: true, listed: true, uid: hdr.Uid, gid: hdr.Gid, mode: modeOf(hdr),
		times: headerTimes(hdr), xattrs: headerXattrs(hdr),
	}
	err = unix.Mkdirat(p.fd, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		st, statErr := statAt(p.fd, base)
		if statErr != nil {
			return statErr
		}
		if isType(st.Mode, unix.S_IFDIR) {
			if _, err := a.tree.find(p.join(base), false); err != nil {
				return err
			}
			state.opaque = a.states[p.join(base)].opaque
			a.states[p.join(base)] = state
			a.note(p, base)
			return nil
		}
		state.opaque = a.opts.Overlay // The file hid what the layers below had here.
		if p, err = a.vacate(p, base); err == nil {
			err = unix.Mkdirat(p.fd, base, 0o700)
		}
	}
	if err != nil {
		return err
	}
	a.states[p.join(base)] = state
	a.note(p, base)
	return nil
}

// imply makes a folder that the tar has no entry for.
func (a *applier) imply(parent *folder, base string) error {
	path := parent.join(base)
	state := &folderState{dirty: true, listed: true, mode: 0o755}
	if st, err := statAt(parent.fd, base); err == nil {
		if _, ok := a.seen[path]; ok && !isWhiteout(&st) {
			return errors.New("used as a folder, but the layer has a file there")
		}
		if err := unix.Unlinkat(parent.fd, base, 0); err != nil {
			return err
		}
		state.opaque = a.opts.Overlay
	}
	if err := unix.Mkdirat(parent.fd, base, 0o700); err != nil {
		return err
	}
	for _, lower := range a.lower {
		found, err := state.inherit(lower, path)
		if err != nil {
			return err
		}
		if found {
			break
		}
	}
	a.states[path] = state
	a.note(parent, base)
	return nil
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
	if err := unix.Fstat(f.fd, &st); err != nil {
		return false, err
	}
	s.uid, s.gid, s.mode = int(st.Uid), int(st.Gid), st.Mode&0o7777
	s.times = [2]unix.Timespec{st.Atim, st.Mtim}
	s.xattrs, err = xattrsOfFD(f.fd).carried()
	return true, err
}

// enter opens a folder to put something into it, and remembers what it is like.
func (a *applier) enter(dirfd int, base, path string) (int, error) {
	fd, err := openDirAt(dirfd, base)
	if errors.Is(err, unix.EACCES) && a.unowned {
		st, statErr := statAt(dirfd, base)
		if statErr != nil || !isType(st.Mode, unix.S_IFDIR) {
			return -1, err
		}
		if _, ok := a.states[path]; !ok {
			a.states[path] = stateOf(&st)
			a.states[path].dirty = true
		}
		if err := unix.Fchmodat(dirfd, base, 0o700, 0); err != nil {
			return -1, err
		}
		fd, err = openDirAt(dirfd, base)
	}
	if err != nil {
		return -1, err
	}
	if err := a.remember(fd, path); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func stateOf(st *unix.Stat_t) *folderState {
	return &folderState{
		uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o7777,
		times: [2]unix.Timespec{st.Atim, st.Mtim},
	}
}

// remember notes what the open folder at path is like, and takes away what
// would be in the way of filling it: missing permissions, and the default ACL
// that new files would inherit.
func (a *applier) remember(fd int, path string) error {
	if _, ok := a.states[path]; ok {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	state := stateOf(&st)
	if a.unowned && st.Mode&0o700 != 0o700 {
		if err := unix.Fchmod(fd, st.Mode&0o7777|0o700); err != nil {
			return err
		}
		state.dirty = true
	}
	const acl = "system.posix_acl_default"
	value, err := grow(func(dest []byte) (int, error) { return unix.Fgetxattr(fd, acl, dest) })
	if err != nil && !errors.Is(err, unix.ENODATA) {
		return err
	}
	if value != "" {
		if err := unix.Fremovexattr(fd, acl); err != nil {
			return err
		}
		state.dirty, state.xattrs = true, xattrs{acl: value}
	}
	a.states[path] = state
	return nil
}

// whiteout hides what the layers below have.
func (a *applier) whiteout(dir, base string) error {
	if base != opaqueName {
		switch base = base[len(whiteoutPrefix):]; base {
		case "", ".", "..":
			return errors.New("whiteout without a name")
		}
	}
	p, err := a.tree.find(dir, a.opts.Overlay || base == opaqueName)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // Nothing is there to be hidden.
	}
	if err != nil {
		return err
	}
	if base == opaqueName {
		if a.opts.Overlay {
			a.states[p.path].dirty, a.states[p.path].opaque = true, true
			return nil
		}
		err = a.prune(p.fd, p.path)
		a.tree.forget()
		return err
	}
	if a.opts.Overlay {
		return a.overlayWhiteout(p, base)
	}
	path := p.join(base)
	if _, ok := a.seen[path]; !ok {
		_, err = a.vacate(p, base)
		return err
	}
	// The layer itself has something there: only what came from below goes.
	fd, err := a.enter(p.fd, base, path)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	err = a.prune(fd, path)
	_ = unix.Close(fd)
	a.tree.forget()
	return err
}

// prune removes from a folder what this layer did not put there.
func (a *applier) prune(fd int, path string) error {
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		child := join(path, name)
		if _, ok := a.seen[child]; !ok {
			a.states[path].dirty = true
			if err := removeAll(fd, name); err != nil {
				return fmt.Errorf("remove %s: %w", child, err)
			}
			continue
		}
		sub, err := a.enter(fd, name, child)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return err
		}
		err = a.prune(sub, child)
		_ = unix.Close(sub)
		if err != nil {
			return err
		}
	}
	return nil
}

// overlayWhiteout writes overlayfs's own whiteout at base in p.
func (a *applier) overlayWhiteout(p *folder, base string) error {
	st, err := statAt(p.fd, base)
	switch {
	case errors.Is(err, unix.ENOENT):
		a.states[p.path].dirty = true
		return unix.Mknodat(p.fd, base, unix.S_IFCHR, 0)
	case err != nil:
		return err
	case isType(st.Mode, unix.S_IFDIR):
		// The layer has a folder there: it starts empty.
		fd, err := a.enter(p.fd, base, p.join(base))
		if err != nil {
			return err
		}
		_ = unix.Close(fd)
		a.states[p.join(base)].dirty, a.states[p.join(base)].opaque = true, true
	}
	return nil
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

func (a *applier) settle(f *folder, state *folderState) error {
	if state.listed && !a.opts.IgnoreOwner {
		if err := unix.Fchown(f.fd, state.uid, state.gid); err != nil {
			return fmt.Errorf("owner %d:%d: %w", state.uid, state.gid, err)
		}
	}
	if state.listed {
		old, err := xattrsOfFD(f.fd).carried()
		if err != nil {
			return err
		}
		for name := range old {
			if _, ok := state.xattrs[name]; ok {
				continue
			}
			if err := unix.Fremovexattr(f.fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
				return fmt.Errorf("attribute %s: %w", name, err)
			}
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
