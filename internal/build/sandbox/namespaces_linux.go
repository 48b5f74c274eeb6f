package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/child"
	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// namespaces runs each process in its own mount, PID, IPC and UTS namespaces.
// Several may run at once, in different roots.
type namespaces struct {
	// dir is where empty folders are made to put private mounts on.
	dir string
	// filter is whether system call filters can be installed without
	// no_new_privs.
	filter bool
}

// Name is "namespaces".
func (*namespaces) Name() string { return "namespaces" }

// Run runs p in root with mounts.
func (n *namespaces) Run(ctx context.Context, root string, p Process, mounts []Mount) (result Result, err error) {
	places := []inroot.Stub{{Path: "/etc/resolv.conf"}, {Path: "/etc/hosts"}}
	for _, m := range mounts {
		stub, stubErr := m.stub()
		if stubErr != nil {
			return result, stubErr
		}
		places = append(places, stub)
	}
	if err = systemFolders(root); err != nil {
		return result, err
	}
	stubs, err := inroot.MakeStubs(root, places, p.RemoveStubsRecursive)
	if err != nil {
		return result, err
	}
	defer func() {
		for _, dir := range stubs.Touched() {
			result.Moved = append(result.Moved, relative(dir))
		}
		err = errors.Join(err, stubs.Remove())
	}()
	spec, err := prepare(root, p)
	if err != nil {
		return result, err
	}
	if err = makeFolder(root, spec); err != nil {
		return result, err
	}
	scratch, err := os.MkdirTemp(n.dir, "run-")
	if err != nil {
		return result, fmt.Errorf("scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(scratch)) }()
	spec.DockerCaps, spec.Filter = true, n.filter
	if spec.Namespaces, err = n.spec(root, scratch, p, mounts); err != nil {
		return result, err
	}
	if err := newTmpfs(root, spec.Namespaces.Mounts, stubs); err != nil {
		return result, err
	}
	return result, outcome(child.Run(ctx, spec, p.Stdout, p.Stderr))
}

func (n *namespaces) spec(root, scratch string, p Process, mounts []Mount) (*child.Namespaces, error) {
	ns := &child.Namespaces{Root: root, Scratch: scratch, Hostname: p.Hostname, NoNetwork: p.Network == NetworkNone}
	if ns.Hostname == "" {
		ns.Hostname = defaultHostname
	}
	dns, err := resolvConf()
	if err != nil {
		return nil, err
	}
	ns.Mounts = []child.Mount{
		{Dest: "/etc/resolv.conf", File: true, Data: dns, Mode: 0o644, ReadOnly: true},
		{Dest: "/etc/hosts", File: true, Data: hostsFile(ns.Hostname, p.ExtraHosts), Mode: 0o644, ReadOnly: true},
	}
	for _, m := range mounts {
		ns.Mounts = append(ns.Mounts, child.Mount{
			Dest: path.Join("/", m.Dest), Source: m.Source, ReadOnly: m.ReadOnly || m.IsSecret, Tmpfs: m.Tmpfs, Size: m.Size,
			File: m.IsSecret, Data: m.Secret, Mode: m.Mode, UID: m.UID, GID: m.GID,
		})
	}
	return ns, nil
}

// newTmpfs gives every tmpfs that covers nothing but a stub of ours the mode that
// it has where there is nothing to cover.
func newTmpfs(root string, mounts []child.Mount, stubs *inroot.Stubs) error {
	for i := range mounts {
		if !mounts[i].Tmpfs || mounts[i].Mode != 0 {
			continue
		}
		found, err := inroot.Look(root, mounts[i].Dest)
		if err != nil {
			return err
		}
		_ = found.Close()
		if stubs.Made(filepath.Join(root, found.Path)) {
			mounts[i].Mode = 0o1777
		}
	}
	return nil
}

// stub is what m needs at its Dest.
func (m *Mount) stub() (inroot.Stub, error) {
	if path.Join("/", m.Dest) == "/" {
		return inroot.Stub{}, errors.New("a mount on the root of the root filesystem")
	}
	stub := inroot.Stub{Path: m.Dest, Dir: m.Tmpfs}
	if m.Tmpfs || m.IsSecret {
		return stub, nil
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return stub, fmt.Errorf("mount %s: %w", m.Dest, err)
	}
	stub.Dir = info.IsDir()
	return stub, nil
}

// probe goes through everything that a run needs, in an empty root filesystem.
func (n *namespaces) probe(ctx context.Context) (err error) {
	tmp, err := os.MkdirTemp(n.dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	ns := &child.Namespaces{Root: path.Join(tmp, "root"), Scratch: path.Join(tmp, "scratch"), Hostname: defaultHostname}
	for _, dir := range []string{ns.Root, ns.Scratch} {
		if err = os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	_, err = child.Run(ctx, &child.Spec{Probe: true, Namespaces: ns}, nil, nil)
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("the kernel or the container runtime refuses them: %w", err)
	}
	return err
}
