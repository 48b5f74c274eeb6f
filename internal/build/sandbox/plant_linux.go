package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// plant is one mount's stand-in.
type plant struct {
	mount  Mount
	at     string // where it is planted
	inRoot string // the same as the process sees it
	aside  string // where the original waits, or empty
	stub   bool   // the original is a stub of ours
	back   string // where it was renamed from, or empty for a copy
	file   *os.File
	stat   unix.Stat_t
	parent parentTimes
	before map[string]fingerprint // of a read-only one
	kept   bool                   // it was a mount already and stays
	placed bool                   // something may be at its place
}

// parentTimes keeps the planting out of a folder's modification time.
type parentTimes struct {
	path          string
	before, after unix.Stat_t
}

func (t *parentTimes) take(path string) error {
	t.path = path
	return unix.Lstat(path, &t.before)
}

func (t *parentTimes) giveBack() error {
	if err := setTimes(t.path, t.before); err != nil {
		return err
	}
	return unix.Lstat(t.path, &t.after)
}

// untouched says that nothing happened to the folder since giveBack.
func (t *parentTimes) untouched() bool {
	var now unix.Stat_t
	return unix.Lstat(t.path, &now) == nil && now.Ino == t.after.Ino && now.Ctim == t.after.Ctim
}

func (g *garden) plant(p *plant, shared bool, i int) error {
	root := g.rootOf(p.mount.Dest)
	found, err := inroot.Look(root, p.mount.Dest)
	if err != nil {
		return err
	}
	_ = found.Close()
	if !found.Exists() { // below another mount, which has no stubs
		dir, err := inroot.Make(root, path.Dir(found.Path), true)
		if err != nil {
			return err
		}
		_ = dir.Close()
	}
	if g.refuse != nil {
		if err := g.refuse(found.Path); err != nil {
			return err
		}
	}
	p.at, p.inRoot = filepath.Join(root, found.Path), found.Path
	if err := p.parent.take(filepath.Dir(p.at)); err != nil {
		return err
	}
	if found.Exists() {
		if err := g.putAside(p, i); err != nil || p.kept {
			return err
		}
	}
	p.placed = true
	if err := p.place(shared); err != nil {
		return err
	}
	if err := unix.Lstat(p.at, &p.stat); err != nil {
		return err
	}
	return p.parent.giveBack()
}

func (g *garden) putAside(p *plant, i int) error {
	var st unix.Stat_t
	if err := unix.Lstat(p.at, &st); err != nil {
		return err
	}
	if err := p.mount.fits(st); err != nil {
		return err
	}
	p.mount.coverMode(st)
	for _, stubs := range g.stubs {
		p.stub = p.stub || stubs.Made(p.at)
	}
	aside := filepath.Join(g.aside, strconv.Itoa(i))
	err := rename(p.at, aside)
	if errors.Is(err, unix.EXDEV) {
		// On another filesystem than the root's: beside it, under a name of ours.
		aside = filepath.Join(filepath.Dir(p.at), ".towline-"+strconv.Itoa(i))
		err = rename(p.at, aside)
	}
	if errors.Is(err, unix.EBUSY) && p.mount.Tmpfs {
		p.kept = true
		return nil
	}
	if err != nil {
		return err
	}
	p.aside = aside
	return nil
}

// fits refuses what mount(2) would: a folder on something else, and the reverse.
func (m *Mount) fits(place unix.Stat_t) error {
	folder := m.Tmpfs
	if m.Source != "" {
		var source unix.Stat_t
		if err := unix.Stat(m.Source, &source); err != nil {
			return err
		}
		folder = source.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	if is := place.Mode&unix.S_IFMT == unix.S_IFDIR; is != folder {
		return &fs.PathError{Op: "mount", Path: m.Dest, Err: unix.ENOTDIR}
	}
	return nil
}

// coverMode is the mode of a tmpfs that covers a folder: that folder's.
func (m *Mount) coverMode(st unix.Stat_t) {
	if m.Tmpfs && m.Mode == 0 && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		m.Mode = st.Mode & 0o7777
	}
}

func (p *plant) place(shared bool) error {
	m := p.mount
	switch {
	case m.IsSecret:
		return p.placeSecret()
	case m.Tmpfs:
		mode := m.Mode
		if mode == 0 || p.stub {
			mode = 0o1777
		}
		if err := os.Mkdir(p.at, 0o700); err != nil {
			return err
		}
		if err := unix.Chmod(p.at, mode); err != nil {
			return err
		}
		return p.open(unix.O_PATH)
	case shared && !m.ReadOnly:
		return fmt.Errorf("%s is mounted twice, which needs the namespaces sandbox", m.Source)
	}
	err := error(unix.EXDEV)
	if !shared {
		err = rename(m.Source, p.at)
	}
	if err == nil {
		p.back = m.Source
	} else if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
		// On another filesystem, or a mount itself.
		err = copyTree(p.at, m.Source)
	}
	if err != nil {
		return err
	}
	return p.open(unix.O_PATH)
}

// open keeps a hold on the plant, wherever the process moves it.
func (p *plant) open(flags int) error {
	fd, err := unix.Open(p.at, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.file = os.NewFile(uintptr(fd), p.at)
	return nil
}

func (p *plant) placeSecret() error {
	f, err := os.OpenFile(p.at, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	p.file = f
	if _, err := f.Write(p.mount.Secret); err != nil {
		return err
	}
	if err := f.Chown(int(p.mount.UID), int(p.mount.GID)); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), p.mount.Mode)
}

func (p *plant) verify(ctx context.Context, skip map[string]bool) error {
	now, _ := p.where()
	if now == "" {
		return fmt.Errorf("mount %s is read-only, and the command removed it", p.mount.Dest)
	}
	after, err := survey(ctx, now, skip)
	if err != nil {
		return fmt.Errorf("mount %s: %w", p.mount.Dest, err)
	}
	if name, found := differs(p.before, after); found {
		return fmt.Errorf("mount %s is read-only, and the command changed %s", p.mount.Dest, path.Join(p.mount.Dest, name))
	}
	return nil
}

// where finds the plant: at its place, or where the process moved it. It is
// empty when the process removed it. No link that the process left is followed.
func (p *plant) where() (at string, moved bool) {
	if p.file == nil {
		return "", false
	}
	at, err := os.Readlink(inroot.ProcPath(p.file))
	var st unix.Stat_t
	if err != nil || unix.Lstat(at, &st) != nil || st.Ino != p.stat.Ino || st.Dev != p.stat.Dev {
		return "", false
	}
	return at, at != p.at
}

// pull takes p out and puts back what it covered.
func (g *garden) pull(p *plant) error {
	if p.kept || p.at == "" {
		return nil
	}
	var errs []error
	now, moved := p.where()
	if p.mount.IsSecret && p.file != nil {
		errs = append(errs, p.wipe())
	}
	dir, name := filepath.Split(now)
	if now == "" {
		// Where it was, if that path still leads there without a link.
		if parent := g.parent(p); parent != nil {
			defer parent.Close() //nolint:errcheck // O_PATH
			dir, name = inroot.ProcPath(parent)+"/.", filepath.Base(p.at)
		}
	}
	var times parentTimes
	if dir != "" {
		errs = append(errs, times.take(dir))
	}
	errs = append(errs, p.takeOut(now))
	if p.file != nil {
		errs = append(errs, p.file.Close())
	}
	if now == "" && dir != "" && p.placed {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	switch {
	case p.aside == "":
	case p.stub && moved:
		errs = append(errs, os.Remove(p.aside))
	case dir == "" || rename(p.aside, filepath.Join(dir, name)) != nil:
		// Its folder is gone: the process removed it with all that it held.
		errs = append(errs, os.RemoveAll(p.aside))
	}
	if times.before.Ino != 0 {
		errs = append(errs, times.giveBack())
	}
	return errors.Join(errs...)
}

// parent opens the folder that p was planted in, or gives nil when the process
// removed it or put a link in its way.
func (g *garden) parent(p *plant) *os.File {
	dir := path.Dir(p.inRoot)
	found, err := inroot.Look(g.rootOf(p.mount.Dest), dir)
	if err != nil {
		return nil
	}
	if !found.Exists() || found.Path != dir {
		_ = found.Close()
		return nil
	}
	return found.File
}

func (p *plant) takeOut(now string) error {
	switch {
	case now == "" && p.back == "": // a file of ours, or a copy
		return nil
	case now == "":
		if p.mount.ReadOnly || p.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("the command removed it: %w", fs.ErrNotExist)
		}
		// A mount cannot be removed, only emptied.
		return errors.Join(os.Mkdir(p.back, 0o700), (&attributes{stat: p.stat}).apply(p.back))
	case p.back != "":
		return rename(now, p.back)
	default:
		return os.RemoveAll(now)
	}
}

// wipe empties the secret wherever it is, and however many names it has by now.
func (p *plant) wipe() error {
	_, err := p.file.WriteAt(make([]byte, len(p.mount.Secret)), 0)
	return errors.Join(err, p.file.Truncate(0))
}
