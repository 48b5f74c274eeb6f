package layer

import (
	"archive/tar"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// applier unpacks one layer.
type applier struct {
	tree  *tree
	lower []*tree
	opts  ApplyOptions
	res   ApplyResult
	room  *Room
	buf   []byte
	// zeroes is what a buf without content is like.
	zeroes []byte
	// seen holds the paths that this layer made, and the folders above them:
	// its whiteouts hide only what the layers below brought.
	seen map[string]struct{}
	// states holds what the folders that were opened or made shall be like at the
	// end, when nothing more is put into them.
	states map[string]*folderState
	// pruned holds the folders without anything from below.
	pruned map[string]struct{}
	// hollows names the files of this layer without their content, by inode.
	hollows map[uint64]string
	// opaqueAttr is the attribute that makes an overlayfs folder opaque.
	opaqueAttr string
	unowned    bool
	// named is the memory that seen takes.
	named int
}

func newApplier(root string, opts ApplyOptions) (*applier, error) {
	t, err := openTree(root, false)
	if err != nil {
		return nil, err
	}
	a := &applier{
		tree: t, opts: opts, room: NewRoom(root), buf: make([]byte, 256<<10), zeroes: make([]byte, 256<<10), opaqueAttr: "trusted.overlay.opaque",
		seen: map[string]struct{}{"": {}}, states: map[string]*folderState{}, hollows: map[uint64]string{}, pruned: map[string]struct{}{},
		unowned: unix.Geteuid() != 0,
	}
	if opts.UserXattr {
		a.opaqueAttr = "user.overlay.opaque"
	}
	t.enter, t.made = a.enter, a.imply
	for _, dir := range opts.Lower {
		lower, lowerErr := openTree(dir, true)
		if lowerErr != nil {
			a.close()
			return nil, lowerErr
		}
		a.lower = append(a.lower, lower)
	}
	if err = a.remember(t.root.fd, ""); err != nil {
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
		a.named += len(path) + 64
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
	if err = removeAll(p.fd, base); err != nil {
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
			if _, err = a.tree.find(p.join(base), false); err != nil {
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
		if err = unix.Fchmodat(dirfd, base, 0o700, 0); err != nil {
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
