package sandbox

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/child"
	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// inPlace runs a process in Towline's own container, whose root becomes the
// process's root filesystem for that time by renaming.
//
// While a process runs, of our own paths only those below /towline exist, and
// the files of the image are at the root: nothing else of Towline may open a
// file by another name then. Runs are one at a time. Processes of users other
// than root cannot enter /towline, where our own entries wait, with the Docker
// socket and the runner's folders. Root can; Towline's memory it cannot read.
type inPlace struct {
	opts Options
	mu   sync.Mutex
	// next is loaded already for the next process, or nil.
	next *child.Ready
}

// etcMounts are the files that the container runtime mounts into /etc.
func etcMounts() []string { return []string{"hosts", "hostname", "resolv.conf"} }

// stays are the entries of / that are never moved, in the image or out of it.
func stays() []string { return []string{"towline", "dev", "etc", "proc", "sys"} }

func newInPlace(opts Options) (*inPlace, error) {
	if err := ourImage(opts); err != nil {
		return nil, err
	}
	if err := os.Chmod(home, 0o700); err != nil { //nolint:gosec // a folder
		return nil, err
	}
	// Read the roots now: later the files may be an image's.
	if _, err := x509.SystemCertPool(); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	for _, name := range etcMounts() {
		opts.Guard = append(opts.Guard, filepath.Join("/etc", name))
	}
	return &inPlace{opts: opts, next: &child.Ready{}}, nil
}

// Name is "in place".
func (*inPlace) Name() string { return "in place" }

// Run runs p in root with mounts. The hostname cannot be set: it is the
// container's.
func (s *inPlace) Run(ctx context.Context, root string, p Process, mounts []Mount) (result Result, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.prepareNext(p.More && err == nil) }()
	defer deaf()()
	if err = systemFolders(root); err != nil {
		return result, err
	}
	watch, err := newWatch(ctx, s.opts)
	if err != nil {
		return result, err
	}
	defer func() {
		var watchErr error
		result.Restored, watchErr = watch.check(context.WithoutCancel(ctx))
		err = errors.Join(err, watchErr)
	}()
	devices, err := readDevices()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, devices.restore()) }()
	spec, err := prepare(root, p)
	if err != nil {
		return result, err
	}
	spec.NoNetwork = p.Network == NetworkNone
	aside, err := os.MkdirTemp(s.opts.StateDir, "aside-")
	if err != nil {
		return result, fmt.Errorf("aside: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(aside)) }()
	g := &garden{root: root, aside: aside, elsewhere: []string{"/dev"}, refuse: refuse, ready: func() error { return makeFolder(root, spec) }}
	if err = g.grow(ctx, mounts, p.RemoveStubsRecursive); err != nil {
		return result, err
	}
	defer func() {
		touched, clearErr := g.clear(context.WithoutCancel(ctx))
		result.Moved = append(result.Moved, touched...)
		err = errors.Join(err, clearErr)
	}()
	result.Moved, err = s.swapped(root, p.ExtraHosts, func() error {
		if settleErr := watch.settle(ctx); settleErr != nil {
			return settleErr
		}
		return outcome(s.next.Run(ctx, spec, p.Stdout, p.Stderr))
	})
	return result, err
}

// prepareNext gives up what was loaded for the process before, if it did not come to
// run, and loads anew if there will be another one: while its layer is being made.
func (s *inPlace) prepareNext(more bool) {
	s.next.Close()
	s.next = &child.Ready{}
	if !more {
		return
	}
	if ready, err := child.Prepare(); err == nil { // else the next one loads it, and tells why it cannot
		s.next = ready
	}
}

// refuse names the places that a process does not see as the root filesystem has
// them.
func refuse(dest string) error {
	dir, name := path.Split(dest)
	switch {
	case dir == "/etc/" && slices.Contains(etcMounts(), name),
		dir == "/" && slices.Contains(stays(), name),
		strings.HasPrefix(dest, "/proc/"), strings.HasPrefix(dest, "/sys/"), strings.HasPrefix(dest, home+"/"):
		return fmt.Errorf("%s is the container's own, which needs the namespaces sandbox", dest)
	}
	return nil
}

// swap is the exchange of the container's entries for a root filesystem's.
type swap struct {
	root, aside string
	journal     journal
	fromImage   int // where the image's entries begin in the journal
	// ours and ourEtc are what / and /etc are without an image.
	ours, ourEtc attributes
	// in holds the entries as they were when they had been moved.
	in map[string]unix.Stat_t
	// hostname is what the image has in /etc/hostname.
	hostname []byte
}

// swapped calls run while root's entries are in /. Moved lists those that are
// the same afterwards.
func (s *inPlace) swapped(root string, hosts []HostIP, run func() error) (moved []string, err error) {
	w := &swap{root: root, aside: filepath.Join(s.opts.StateDir, "self"), in: map[string]unix.Stat_t{}}
	for _, dir := range []string{w.aside, filepath.Join(w.aside, "etc")} {
		if err = os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, os.Remove(filepath.Join(w.aside, "etc")), os.Remove(w.aside)) }()
	if err = w.enter(); err != nil {
		return nil, errors.Join(err, w.undo())
	}
	if err = appendHosts(hosts); err == nil {
		err = run()
	}
	moved, leaveErr := w.leave()
	return moved, errors.Join(err, leaveErr)
}

func (w *swap) enter() error {
	var err error
	if w.ours, err = readAttributes("/"); err != nil {
		return err
	}
	if w.ourEtc, err = readAttributes("/etc"); err != nil {
		return err
	}
	if err = w.moveAll("/", w.aside, stays()); err != nil {
		return err
	}
	if err = w.moveAll("/etc", filepath.Join(w.aside, "etc"), etcMounts()); err != nil {
		return err
	}
	w.fromImage = len(w.journal.done)
	if err = w.moveAll(w.root, "/", stays()); err != nil {
		return err
	}
	rootAttrs, err := readAttributes(w.root)
	if err != nil {
		return err
	}
	if isFolder(filepath.Join(w.root, "etc")) {
		if err = w.enterEtc(); err != nil {
			return err
		}
	}
	if err = w.enterHostname(); err != nil {
		return err
	}
	if err := rootAttrs.apply("/"); err != nil {
		return err
	}
	for _, m := range w.journal.done {
		var st unix.Stat_t
		if err := unix.Lstat(m.to, &st); err != nil {
			return fmt.Errorf("%s: %w", m.to, err)
		}
		w.in[m.to] = st
	}
	return nil
}

// comeBack brings our own entries back, and nothing else that a process that is
// root may have put beside them.
func (w *swap) comeBack() error {
	mine := w.journal.done[:w.fromImage]
	errs := []error{(&journal{done: mine}).undo()}
	for _, m := range mine {
		var now unix.Stat_t
		if err := unix.Lstat(m.from, &now); err != nil || now.Ino != w.in[m.to].Ino || now.Dev != w.in[m.to].Dev {
			errs = append(errs, fmt.Errorf("the command replaced %s of Towline's own", m.from))
		}
	}
	return errors.Join(errs...)
}

func (w *swap) enterEtc() error {
	etc := filepath.Join(w.root, "etc")
	attrs, err := readAttributes(etc)
	if err != nil {
		return err
	}
	if err := w.moveAll(etc, "/etc", etcMounts()); err != nil {
		return err
	}
	// The emptied folder keeps its own time, for the case that this is undone.
	return errors.Join(attrs.apply("/etc"), attrs.apply(etc))
}

// enterHostname shows the image's /etc/hostname, a file that BuildKit leaves to
// the process, in the container's, which is a mount. The guard restores that.
func (w *swap) enterHostname() error {
	var err error
	w.hostname, err = inroot.ReadFile(w.root, "/etc/hostname", 1<<16)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		err = nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile("/etc/hostname", w.hostname, 0o600)
}

// leaveHostname gives the image what the process wrote.
func (w *swap) leaveHostname() error {
	written, err := os.ReadFile("/etc/hostname")
	if err != nil || bytes.Equal(written, w.hostname) {
		return err
	}
	f, err := inroot.Make(w.root, "/etc/hostname", false)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // O_PATH
	if info, statErr := f.Stat(); statErr != nil || !info.Mode().IsRegular() {
		return statErr
	}
	return os.WriteFile(inroot.ProcPath(f), written, 0o600) //nolint:gosec // a regular file, open already
}

func isFolder(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

func (w *swap) moveAll(from, to string, except []string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if slices.Contains(except, entry.Name()) {
			continue
		}
		if err := w.journal.rename(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (w *swap) undo() error {
	return errors.Join(w.journal.undo(), w.ours.applyIfRead("/"), w.ourEtc.applyIfRead("/etc"))
}

func (a *attributes) applyIfRead(path string) error {
	if a.xattrs == nil {
		return nil
	}
	return a.apply(path)
}

// leave moves everything that is in / now into the root filesystem, and our own
// entries back. It goes on after an error.
func (w *swap) leave() (moved []string, err error) {
	var errs []error
	for _, m := range w.journal.done[w.fromImage:] {
		at, before := m.to, w.in[m.to]
		var now unix.Stat_t
		if unix.Lstat(at, &now) == nil && now.Ino == before.Ino && now.Dev == before.Dev && now.Ctim == before.Ctim {
			moved = append(moved, relative(at))
		}
	}
	slices.Sort(moved)
	rootAttrs, err := readAttributes("/")
	errs = append(errs, err, w.leaveEtc())
	out := &swap{root: w.root}
	errs = append(errs, out.moveRest("/", w.root, stays()))
	if err == nil {
		errs = append(errs, rootAttrs.apply(w.root))
	}
	errs = append(errs, w.comeBack(), w.ourEtc.apply("/etc"), w.ours.apply("/"))
	return moved, errors.Join(errs...)
}

func (w *swap) leaveEtc() error {
	attrs, err := readAttributes("/etc")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir("/etc")
	if err = errors.Join(err, w.leaveHostname()); err != nil {
		return err
	}
	etc := filepath.Join(w.root, "etc")
	had := isFolder(etc)
	news := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !slices.Contains(etcMounts(), e.Name()) })
	if !had && !news {
		return nil
	}
	if !had {
		if err := os.Mkdir(etc, 0o755); err != nil { //nolint:gosec // a folder of an image
			return err
		}
	}
	return errors.Join((&swap{}).moveRest("/etc", etc, etcMounts()), attrs.apply(etc))
}

// moveRest is moveAll that goes on after an error.
func (w *swap) moveRest(from, to string, except []string) error {
	entries, err := os.ReadDir(from)
	errs := []error{err}
	for _, entry := range entries {
		if !slices.Contains(except, entry.Name()) {
			errs = append(errs, w.journal.rename(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

// appendHosts adds lines to the container's /etc/hosts, which is restored with
// the guarded files.
func appendHosts(hosts []HostIP) error {
	if len(hosts) == 0 {
		return nil
	}
	f, err := os.OpenFile("/etc/hosts", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if _, err = fmt.Fprintf(f, "%s\t%s\n", h.IP, h.Host); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}
