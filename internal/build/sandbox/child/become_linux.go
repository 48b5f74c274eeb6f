package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// become turns the calling process into spec's. It returns only on failure.
func become(spec *Spec) error {
	// Capabilities and filters are of the thread, and so is what execve takes over.
	runtime.LockOSThread()
	unix.Umask(0o022)
	if spec.Chroot != "" {
		if err := unix.Chroot(spec.Chroot); err != nil {
			return fmt.Errorf("change root: %w", err)
		}
	}
	if err := emptyInput(); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	if err := enterFolder(spec.Cwd); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	for _, limit := range spec.Limits {
		err := syscall.Setrlimit(limit.Resource, &syscall.Rlimit{Cur: limit.Soft, Max: limit.Hard})
		if err != nil {
			return fmt.Errorf("ulimit %d=%d:%d: %w", limit.Resource, limit.Soft, limit.Hard, err)
		}
	}
	if err := giveOutput(spec.UID); err != nil {
		return err
	}
	if err := restrict(spec); err != nil {
		return err
	}
	if err := takeIdentity(spec); err != nil {
		return err
	}
	file, err := find(spec.Args[0], spec.Env)
	if err != nil {
		return err
	}
	if err := closeAllOnExec(); err != nil {
		return err
	}
	if err := syscall.Exec(file, spec.Args, spec.Env); err != nil { //nolint:gosec // running commands is the purpose
		return fmt.Errorf("start %s: %w", file, err)
	}
	return nil
}

// enterFolder goes to the working directory. It is there, unless a mount hides it:
// then it is made in the mount, as runc does.
func enterFolder(dir string) error {
	err := os.Chdir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as runc makes it
		return err
	}
	return os.Chdir(dir)
}

// emptyInput takes /dev/null of the root that the process sees, if it has one.
func emptyInput() error {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(unix.Dup3(fd, 0, 0), unix.Close(fd))
}

// giveOutput makes the user own the pipes, so that it can open /dev/stdout.
func giveOutput(uid uint32) error {
	for _, fd := range []int{1, 2} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("output %d: %w", fd, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Uid == uid {
			continue
		}
		err := unix.Fchown(fd, int(uid), int(st.Gid))
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("output %d: %w", fd, err)
		}
	}
	return nil
}

func takeIdentity(spec *Spec) error {
	groups := make([]int, 0, len(spec.Groups))
	for _, g := range spec.Groups {
		groups = append(groups, int(g))
	}
	// A user namespace made without privileges refuses setgroups for good
	// (user_namespaces(7)).
	if err := syscall.Setgroups(groups); err != nil && !setgroupsDenied() {
		return fmt.Errorf("groups %v: %w", groups, err)
	}
	if err := syscall.Setgid(int(spec.GID)); err != nil {
		return fmt.Errorf("group %d: %w", spec.GID, unmapped(err))
	}
	if err := syscall.Setuid(int(spec.UID)); err != nil {
		return fmt.Errorf("user %d: %w", spec.UID, unmapped(err))
	}
	return nil
}

// unmapped explains why a number is invalid.
func unmapped(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: started by a user who is not root, Towline has only one user to give to commands", err)
	}
	return err
}

func setgroupsDenied() bool {
	said, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(said)) == "deny"
}

// find looks name up as execvp does, in PATH of env.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := ""
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			search = value
		}
	}
	for dir := range strings.SplitSeq(search, ":") {
		file := path.Join(dir, name)
		if dir == "" {
			file = "./" + name
		}
		var st unix.Stat_t
		if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("start %s: %w in PATH %q", name, fs.ErrNotExist, search)
}

func closeOnExec(fd int) { unix.CloseOnExec(fd) }

// closeAllOnExec marks everything but the standard streams, whoever opened it.
func closeAllOnExec() error {
	err := unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, fs.ErrNotExist) {
		entries, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("open files: %w", err)
	}
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscanf(entry.Name(), "%d", &fd); err == nil && fd > 2 {
			closeOnExec(fd)
		}
	}
	return nil
}
