package child

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// system mounts what every Linux container has: the list of the OCI runtime
// specification (config-linux.md, "Default Filesystems") as containerd and
// BuildKit fill it in.
func (m *mounter) system() error {
	const safe = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	if err := m.filesystem("proc", "/proc", safe, ""); err != nil {
		return err
	}
	if err := m.sys(); err != nil {
		return err
	}
	if err := m.filesystem("tmpfs", "/dev", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k"); err != nil {
		return err
	}
	// Group 5 is tty; a user namespace may not know it.
	err := m.filesystem("devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
	if errors.Is(err, unix.EINVAL) {
		err = m.filesystem("devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
	}
	if err != nil {
		return err
	}
	if err = m.filesystem("tmpfs", "/dev/shm", safe, "mode=1777,size=65536k"); err != nil {
		return err
	}
	err = m.filesystem("mqueue", "/dev/mqueue", safe, "")
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := m.devices(); err != nil {
		return err
	}
	return m.mask()
}

// sys is a fresh sysfs, or the machine's where the network namespace is not
// ours to look into.
func (m *mounter) sys() error {
	err := m.filesystem("sysfs", "/sys", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV|unix.MS_RDONLY, "")
	if errors.Is(err, unix.EPERM) {
		err = m.bind("/sys", "/sys", true)
	}
	if err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}

func (m *mounter) devices() error {
	at, err := inroot.Make(m.root, "/dev", true)
	if err != nil {
		return err
	}
	defer at.Close() //nolint:errcheck // O_PATH
	dev := inroot.ProcPath(at)
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9, "tty": 0} {
		major := uint32(1)
		if name == "tty" {
			major = 5
		}
		file := path.Join(dev, name)
		err := unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor)))
		if err == nil {
			err = unix.Chmod(file, 0o666)
		}
		if errors.Is(err, unix.EPERM) {
			err = m.bind("/dev/"+name, "/dev/"+name, false)
		}
		if err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "core": "/proc/kcore",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, path.Join(dev, name)); err != nil {
			return fmt.Errorf("device link %s: %w", name, err)
		}
	}
	return nil
}

// mask hides or protects the parts of /proc and /sys that are not of any
// namespace: containerd's defaults (oci/spec.go).
func (m *mounter) mask() error {
	for _, name := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	} {
		if err := m.hide(name); err != nil {
			return fmt.Errorf("hide %s: %w", name, err)
		}
	}
	for _, name := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if err := m.protect(name); err != nil {
			return fmt.Errorf("protect %s: %w", name, err)
		}
	}
	return nil
}

func (m *mounter) hide(name string) error {
	found, err := inroot.Look(m.root, name)
	if err != nil {
		return err
	}
	defer found.Close() //nolint:errcheck // O_PATH
	if !found.Exists() {
		return nil
	}
	info, err := found.File.Stat()
	if err != nil {
		return err
	}
	target := inroot.ProcPath(found.File)
	if info.IsDir() {
		return unix.Mount("tmpfs", target, "tmpfs", unix.MS_RDONLY, "")
	}
	// Its own null, not the machine's: a process may change the mode of this one.
	null, err := inroot.Look(m.root, "/dev/null")
	if err != nil {
		return err
	}
	defer null.Close() //nolint:errcheck // O_PATH
	return unix.Mount(inroot.ProcPath(null.File), target, "", unix.MS_BIND, "")
}

func (m *mounter) protect(name string) error {
	found, err := inroot.Look(m.root, name)
	if err != nil {
		return err
	}
	defer found.Close() //nolint:errcheck // O_PATH
	if !found.Exists() {
		return nil
	}
	return m.bind(inroot.ProcPath(found.File), name, true)
}
