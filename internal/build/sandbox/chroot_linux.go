package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/child"
)

const chrootWarning = "Neither namespaces nor Towline's own image: commands run in a chroot without /proc and /sys, " +
	"which keeps them apart from this machine's files but not from its processes and network."

// chroot runs a process with a changed root and nothing else of its own. Runs
// are one at a time.
type chroot struct {
	opts Options
	mu   sync.Mutex
}

func newChroot(opts Options) (*chroot, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root")
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	for _, need := range []struct {
		name string
		bit  int
	}{{"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT}, {"CAP_MKNOD", unix.CAP_MKNOD}, {"CAP_SETUID", unix.CAP_SETUID}} {
		if data[0].Effective&(1<<need.bit) == 0 {
			return nil, fmt.Errorf("it needs %s", need.name)
		}
	}
	for _, name := range etcMounts() {
		opts.Guard = append(opts.Guard, filepath.Join("/etc", name))
	}
	return &chroot{opts: opts}, nil
}

// Name is "chroot".
func (*chroot) Name() string { return "chroot" }

// Run runs p in root with mounts. The hostname is the machine's.
func (c *chroot) Run(ctx context.Context, root string, p Process, mounts []Mount) (result Result, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer deaf()()
	if err = systemFolders(root); err != nil {
		return result, err
	}
	watch, err := newWatch(ctx, c.opts)
	if err != nil {
		return result, err
	}
	defer func() {
		var watchErr error
		result.Restored, watchErr = watch.check(context.WithoutCancel(ctx))
		err = errors.Join(err, watchErr)
	}()
	spec, err := prepare(root, p)
	if err != nil {
		return result, err
	}
	spec.Chroot, spec.NoNetwork = root, p.Network == NetworkNone
	spec.DockerCaps, spec.Supervised = true, os.Getpid() != 1
	aside, err := os.MkdirTemp(c.opts.StateDir, "aside-")
	if err != nil {
		return result, fmt.Errorf("aside: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	etc, err := etcFiles(aside, p)
	if err != nil {
		return result, err
	}
	dev, err := devFolder(aside)
	if err != nil {
		return result, err
	}
	g := &garden{root: root, aside: aside, ready: func() error { return makeFolder(root, spec) }}
	all := append([]Mount{{Dest: "/dev", Source: dev}}, etc...)
	if err = g.grow(ctx, append(all, mounts...), p.RemoveStubsRecursive); err != nil {
		return result, err
	}
	defer func() {
		touched, clearErr := g.clear(context.WithoutCancel(ctx))
		result.Moved = append(result.Moved, touched...)
		err = errors.Join(err, clearErr)
	}()
	if err = watch.settle(ctx); err != nil {
		return result, err
	}
	return result, outcome(child.Run(ctx, spec, p.Stdout, p.Stderr))
}

// etcFiles are the machine's /etc/resolv.conf and a hosts file, made in dir.
func etcFiles(dir string, p Process) ([]Mount, error) {
	dns, err := resolvConf()
	if err != nil {
		return nil, err
	}
	name := p.Hostname
	if name == "" {
		name = defaultHostname
	}
	var mounts []Mount
	for file, content := range map[string][]byte{"resolv.conf": dns, "hosts": hostsFile(name, p.ExtraHosts)} {
		source := filepath.Join(dir, file)
		if err := os.WriteFile(source, content, 0o644); err != nil { //nolint:gosec // for everybody to read
			return nil, err
		}
		mounts = append(mounts, Mount{Dest: "/etc/" + file, Source: source})
	}
	return mounts, nil
}

// devFolder makes a /dev with what can be made without mounts.
func devFolder(dir string) (string, error) {
	dev := filepath.Join(dir, "dev")
	for folder, mode := range map[string]uint32{dev: 0o755, filepath.Join(dev, "shm"): 0o1777} {
		if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // for everybody
			return "", err
		}
		if err := unix.Chmod(folder, mode); err != nil {
			return "", err
		}
	}
	for name, rdev := range map[string]uint64{
		"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "full": unix.Mkdev(1, 7),
		"random": unix.Mkdev(1, 8), "urandom": unix.Mkdev(1, 9), "tty": unix.Mkdev(5, 0),
	} {
		file := filepath.Join(dev, name)
		if err := unix.Mknod(file, unix.S_IFCHR|0o666, int(rdev)); err != nil {
			return "", fmt.Errorf("device %s: %w", name, err)
		}
		if err := unix.Chmod(file, 0o666); err != nil {
			return "", err
		}
	}
	return dev, nil
}
