package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

// home is the only folder of our own image.
const home = "/towline"

// Choose gives the sandbox that want asks for, and for Auto the best one that
// the kernel lets us have: namespaces, else in place if this is our own image,
// else a chroot. The warning says what the sandbox cannot do; it is empty for
// the first two. The error is a *problem.Error.
//
// The program's main must call Main first: a sandbox executes our own binary.
func Choose(ctx context.Context, want string, opts Options) (Sandbox, string, error) {
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		return nil, "", &problem.Error{Op: "prepare to run commands", Err: err}
	}
	switch want {
	case "", Auto:
		return chooseBest(ctx, opts)
	case Namespaces:
		n, err := newNamespaces(ctx, opts)
		if err != nil {
			return nil, "", refused(want, err, "Run on a machine where they can be had, as root or with user namespaces allowed, or set sandbox to auto.")
		}
		return n, "", nil
	case InPlace:
		s, err := newInPlace(opts)
		if err != nil {
			return nil, "", refused(want, err, "Use Towline's own image, or set sandbox to auto.")
		}
		return s, "", nil
	case Chroot:
		s, err := newChroot(opts)
		if err != nil {
			return nil, "", refused(want, err, "Run as root, or set sandbox to auto.")
		}
		return s, chrootWarning, nil
	default:
		return nil, "", refused(want, errors.New("unknown sandbox"), "Set it to auto, namespaces, in-place or chroot.")
	}
}

func refused(want string, err error, fix string) error {
	return &problem.Error{Op: "prepare to run commands", Input: "sandbox", Value: want, Err: err, Fix: fix}
}

func chooseBest(ctx context.Context, opts Options) (Sandbox, string, error) {
	n, nsErr := newNamespaces(ctx, opts)
	if nsErr == nil {
		return n, "", nil
	}
	if err := ctx.Err(); err != nil {
		return nil, "", context.Cause(ctx)
	}
	s, placeErr := newInPlace(opts)
	if placeErr == nil {
		return s, "", nil
	}
	c, err := newChroot(opts)
	if err == nil {
		return c, chrootWarning, nil
	}
	return nil, "", &problem.Error{
		Op:  "prepare to run commands",
		Err: fmt.Errorf("no sandbox can be had: namespaces: %w; in place: %w; chroot: %w", nsErr, placeErr, err),
		Fix: "Use Towline's own image as GitHub's runner starts it, or run as root, or allow user namespaces.",
	}
}

func newNamespaces(ctx context.Context, opts Options) (*namespaces, error) {
	n := &namespaces{dir: opts.StateDir, filter: true}
	return n, n.probe(ctx)
}

// ourImage is nil when nothing but Towline lives in this root, so that nothing
// can be lost by moving its entries aside.
func ourImage(opts Options) error {
	if pid := os.Getpid(); pid != 1 {
		return fmt.Errorf("it moves everything in / aside, which only the first process of Towline's own container may do; this is process %d", pid)
	}
	if os.Geteuid() != 0 {
		return errors.New("it needs root")
	}
	if filepath.Dir(opts.Executable) != home {
		return fmt.Errorf("it moves everything in / aside, and %s does not come from Towline's own image", opts.Executable)
	}
	if rel, err := filepath.Rel(home, opts.StateDir); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("its state is kept in %s, not in %s", home, opts.StateDir)
	}
	if err := sameFilesystem("/", opts.StateDir); err != nil {
		return err
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	// What Docker and the runner put into every container.
	known := []string{"towline", ".dockerenv", "dev", "etc", "github", "proc", "sys", "var"}
	for _, entry := range entries {
		if !slices.Contains(known, entry.Name()) {
			return fmt.Errorf("it moves everything in / aside, and there is /%s, which is not of Towline's own image", entry.Name())
		}
	}
	return nil
}

func sameFilesystem(a, b string) error {
	var one, other unix.Stat_t
	if err := unix.Stat(a, &one); err != nil {
		return &fs.PathError{Op: "stat", Path: a, Err: err}
	}
	if err := unix.Stat(b, &other); err != nil {
		return &fs.PathError{Op: "stat", Path: b, Err: err}
	}
	if one.Dev != other.Dev {
		return fmt.Errorf("%s and %s are on different filesystems", a, b)
	}
	return nil
}
