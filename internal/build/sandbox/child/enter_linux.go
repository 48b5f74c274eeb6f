package child

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// enter arranges the new namespaces and makes ns.Root the root.
func enter(ns *Namespaces) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte(ns.Hostname)); err != nil {
		return fmt.Errorf("hostname %s: %w", ns.Hostname, err)
	}
	if ns.NoNetwork {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	if err := unix.Mount(ns.Root, ns.Root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("root filesystem %s: %w", ns.Root, err)
	}
	if err := unix.Mount("scratch", ns.Scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("scratch %s: %w", ns.Scratch, err)
	}
	m := mounter{root: ns.Root, scratch: ns.Scratch}
	if err := m.system(); err != nil {
		return err
	}
	// A mount below another one has to come after it.
	slices.SortStableFunc(ns.Mounts, func(a, b Mount) int {
		return strings.Count(path.Clean(a.Dest), "/") - strings.Count(path.Clean(b.Dest), "/")
	})
	for i, mount := range ns.Mounts {
		if err := m.add(i, mount); err != nil {
			return fmt.Errorf("mount %s: %w", mount.Dest, err)
		}
	}
	return pivot(ns.Root)
}

// pivot makes root the root of the mount namespace and lets go of the old one
// (pivot_root(2), "pivot_root(".", ".")").
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return os.Chdir("/")
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(uint16(net.FlagUp | net.FlagRunning))
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// mounter puts mounts on paths of root.
type mounter struct{ root, scratch string }

// on makes dest if need be and calls mount with a name for it that no link in
// root can redirect.
func (m *mounter) on(dest string, dir bool, mount func(target string) error) error {
	f, err := inroot.Make(m.root, dest, dir)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // O_PATH
	return mount(inroot.ProcPath(f))
}

func (m *mounter) filesystem(fstype, dest string, flags uintptr, data string) error {
	err := m.on(dest, true, func(target string) error {
		return unix.Mount(fstype, target, fstype, flags, data)
	})
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, dest, err)
	}
	return nil
}

// bind puts source on dest, with everything mounted below it.
func (m *mounter) bind(source, dest string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	err = m.on(dest, info.IsDir(), func(target string) error {
		return unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
	})
	if err != nil || !readOnly {
		return err
	}
	return m.readOnly(dest)
}

// readOnly makes what is mounted on dest, and all below it, read-only.
func (m *mounter) readOnly(dest string) error {
	return m.on(dest, true, func(target string) error {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr)
		if !errors.Is(err, unix.ENOSYS) {
			return err
		}
		// Before Linux 5.12. In a user namespace the flags that are there must stay.
		var st unix.Statfs_t
		if err := unix.Statfs(target, &st); err != nil {
			return err
		}
		keep := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
		return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|keep, "")
	})
}

func (m *mounter) add(i int, mount Mount) error {
	switch {
	case mount.File:
		return m.file(i, mount)
	case mount.Tmpfs:
		return m.tmpfs(mount)
	default:
		return m.bind(mount.Source, mount.Dest, mount.ReadOnly)
	}
}

// file binds a file that exists nowhere but on a tmpfs of this namespace.
func (m *mounter) file(i int, mount Mount) error {
	source := path.Join(m.scratch, strconv.Itoa(i))
	if err := os.WriteFile(source, mount.Data, 0o600); err != nil {
		return err
	}
	if err := os.Lchown(source, int(mount.UID), int(mount.GID)); err != nil {
		return err
	}
	if err := unix.Chmod(source, mount.Mode); err != nil {
		return err
	}
	return m.bind(source, mount.Dest, mount.ReadOnly)
}

// tmpfs has the mode of the folder that it covers, as runc does it, and
// otherwise the kernel's default, 1777.
func (m *mounter) tmpfs(mount Mount) error {
	found, err := inroot.Look(m.root, mount.Dest)
	if err != nil {
		return err
	}
	info, err := found.File.Stat()
	_ = found.Close()
	if err != nil {
		return err
	}
	var data []string
	if found.Exists() && info.IsDir() {
		var st unix.Stat_t
		if err := unix.Stat(path.Join(m.root, found.Path), &st); err != nil {
			return err
		}
		data = append(data, fmt.Sprintf("mode=%04o", st.Mode&0o7777))
	}
	if mount.Size > 0 {
		data = append(data, fmt.Sprintf("size=%d", mount.Size))
	}
	if mount.Mode != 0 {
		data = append(data, fmt.Sprintf("mode=%04o", mount.Mode&0o7777))
	}
	return m.filesystem("tmpfs", mount.Dest, unix.MS_NOSUID|unix.MS_NODEV, strings.Join(data, ","))
}
