package child

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dockerCaps are the capabilities that Docker gives to a container by default
// (moby oci/caps/defaults.go), which BuildKit's RUN has too.
func dockerCaps() []int {
	return []int{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD,
		unix.CAP_NET_RAW, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP,
		unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
	}
}

// restrict takes away what the process must not have. The filters come first:
// installing them may need capabilities.
func restrict(spec *Spec) error {
	var rules []rule
	if spec.Filter {
		rules = append(rules, denied()...)
	}
	if spec.NoNetwork {
		rules = append(rules, unixSocketsOnly()...)
	}
	if len(rules) > 0 {
		if err := install(rules, spec.NoNetwork); err != nil {
			return fmt.Errorf("system call filter: %w", err)
		}
	}
	if !spec.DockerCaps {
		return nil
	}
	keep := dockerCaps()
	for c := 0; c <= 63; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the last one that the kernel knows
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return noInheritable()
}

// noInheritable empties the inheritable and ambient sets.
func noInheritable() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	return nil
}

// rule refuses a system call with errno, if its first argument has a bit of
// mask, or, with not set, if it is another than not-1.
type rule struct {
	nr    uint32
	errno unix.Errno
	mask  uint32
	not   uint32
}

// denied are calls that Docker's default profile refuses without CAP_SYS_ADMIN,
// or that reach parts of the kernel which are not of any namespace.
func denied() []rule {
	var rules []rule
	for _, nr := range []uint32{
		unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_REQUEST_KEY, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_USERFAULTFD, unix.SYS_QUOTACTL, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_IO_URING_SETUP,
	} {
		rules = append(rules, rule{nr: nr, errno: unix.EPERM})
	}
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
		unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	// The flags of clone3 are in memory, where a filter cannot look; libraries
	// fall back to clone on ENOSYS.
	return append(rules,
		rule{nr: unix.SYS_CLONE, errno: unix.EPERM, mask: namespaces},
		rule{nr: unix.SYS_CLONE3, errno: unix.ENOSYS})
}

func unixSocketsOnly() []rule {
	return []rule{
		{nr: unix.SYS_SOCKET, errno: unix.EAFNOSUPPORT, not: unix.AF_UNIX + 1},
		{nr: unix.SYS_IO_URING_SETUP, errno: unix.ENOSYS},
	}
}

// Offsets in struct seccomp_data (linux/seccomp.h), little-endian.
const (
	offNr   = 0
	offArch = 4
	offArg0 = 16
)

// install puts the rules on the calling thread. Calls of another architecture's
// table are refused as unknown: their numbers mean something else.
func install(rules []rule, noNewPrivs bool) error {
	prog, err := assemble(rules)
	if err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	set := func() error {
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog))) //nolint:gosec // the kernel's interface
		runtime.KeepAlive(prog)
		if errno != 0 {
			return errno
		}
		return nil
	}
	err = set()
	if errors.Is(err, unix.EACCES) && noNewPrivs {
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			err = set()
		}
	}
	return err
}

func assemble(rules []rule) ([]unix.SockFilter, error) {
	arch, x32 := nativeArch()
	if arch == 0 {
		return nil, fmt.Errorf("architecture %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	refuse := func(errno unix.Errno) unix.SockFilter {
		return ret(unix.SECCOMP_RET_ERRNO | uint32(errno))
	}
	prog := []unix.SockFilter{load(offArch), jump(unix.BPF_JEQ, arch, 1, 0), refuse(unix.ENOSYS), load(offNr)}
	if x32 {
		prog = append(prog, jump(unix.BPF_JGE, 0x40000000, 0, 1), refuse(unix.ENOSYS))
	}
	for _, r := range rules {
		switch {
		case r.mask != 0:
			prog = append(prog, jump(unix.BPF_JEQ, r.nr, 0, 4), load(offArg0),
				jump(unix.BPF_JSET, r.mask, 0, 1), refuse(r.errno), load(offNr))
		case r.not != 0:
			prog = append(prog, jump(unix.BPF_JEQ, r.nr, 0, 4), load(offArg0),
				jump(unix.BPF_JEQ, r.not-1, 1, 0), refuse(r.errno), load(offNr))
		default:
			prog = append(prog, jump(unix.BPF_JEQ, r.nr, 0, 1), refuse(r.errno))
		}
	}
	return append(prog, ret(unix.SECCOMP_RET_ALLOW)), nil
}

// nativeArch is the AUDIT_ARCH of this binary, and whether it has the x32 table.
func nativeArch() (arch uint32, x32 bool) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, true
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, false
	default:
		return 0, false
	}
}
