package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/child"
)

// magic begins the memory file that carries the environment from the first
// stage of Enter to the second.
const magic = "towline environment\n"

// Entry is what Enter found.
type Entry struct {
	// Environ is the environment, NAME=value. The kernel's copy, which other
	// processes may be shown, is empty unless Warning says otherwise.
	Environ []string
	// Executable is the file that this program was started from; the running
	// one may be a copy of it in memory.
	Executable string
	// Warning says what protection could not be had, or is empty.
	Warning string
	// Exit says that all is done and main has to exit with Code: another process
	// did the work.
	Exit bool
	Code int
}

// Main runs the hidden commands by which this package executes our own binary
// again. It reports false when args are not one of them, and otherwise the code
// to exit with. Call it before anything else.
func Main(args []string) (code int, ok bool) { return child.Main(args) }

// Enter makes the process fit to run strangers' code. Call it right after Main,
// before any secret is read.
//
// It executes a sealed copy of our own binary in memory, with an empty
// environment, which nobody can read or write through /proc: not its memory, its
// environment, or its open files. With the right to it, the process gets its own
// mount namespace, so that no mount outlives it. Without any rights but with user
// namespaces allowed, the work is done by a child that is root in one: Enter
// passes signals on to it and returns with Exit when it ends.
//
// The variables come back as Environ: giving them to os.Setenv does not change
// what other processes see. Where something is refused, Enter goes on without it.
func Enter(args, environ []string) Entry {
	// File operations give the modes that they are asked for, as in BuildKit's
	// daemon. A RUN has a mask of its own.
	unix.Umask(0)
	if entry, ok := secondStage(); ok {
		return entry
	}
	entry := Entry{Environ: environ}
	entry.Executable, _ = os.Readlink("/proc/self/exe")
	if err := firstStage(args, &entry); err != nil {
		entry.Warning = fmt.Sprintf("Towline's memory and environment are less protected from RUN steps: %v.", err)
	}
	if err := harden(); err != nil {
		entry.Warning = fmt.Sprintf("Towline's memory and environment are not protected from RUN steps: %v.", err)
	}
	return entry
}

// harden keeps other processes out of this one's memory and /proc folder, dumps
// of it off the disk and its files out of its children.
func harden() error {
	// The hard limit stays: it is the processes' of a build too.
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return fmt.Errorf("core dumps: %w", err)
	}
	core.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return fmt.Errorf("core dumps stay on: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("the process stays dumpable: %w", err)
	}
	_ = unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
	return nil
}

// firstStage does not return when it succeeds, but in the parent of a user
// namespace.
func firstStage(args []string, entry *Entry) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	exe, err := sealedCopy()
	if err != nil {
		return err
	}
	defer exe.Close() //nolint:errcheck // memory
	vars, err := memory(entry)
	if err != nil {
		return err
	}
	defer vars.Close() //nolint:errcheck // memory
	file := fmt.Sprintf("/proc/self/fd/%d", exe.Fd())
	if os.Geteuid() != 0 {
		if done := inUserNamespace(file, args, vars, entry); done {
			return nil
		}
	} else {
		// Of this thread, which the process takes over when it executes. Refused
		// in an unprivileged container, where there is nothing to mount either.
		if unix.Unshare(unix.CLONE_NEWNS) == nil {
			_ = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
	}
	if _, err := unix.FcntlInt(vars.Fd(), unix.F_SETFD, 0); err != nil {
		return err
	}
	return fmt.Errorf("execute a copy in memory: %w", syscall.Exec(file, args, nil)) //nolint:gosec // our own binary
}

// Entered says whether Enter has executed the copy in memory already, and this
// process is it: its environment is Enter's to give.
func Entered() bool {
	_, ok := environmentFile()
	return ok
}

// environmentFile finds the memory file that the first stage left open.
func environmentFile() (fd int, ok bool) {
	for fd := 3; fd < 64; fd++ {
		// Only a memory file has seals.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil {
			continue
		}
		begin := make([]byte, len(magic))
		if n, err := unix.Pread(fd, begin, 0); err == nil && n == len(begin) && string(begin) == magic {
			return fd, true
		}
	}
	return 0, false
}

// secondStage takes the environment from the first.
func secondStage() (Entry, bool) {
	fd, ok := environmentFile()
	if !ok {
		return Entry{}, false
	}
	err := harden()
	f := os.NewFile(uintptr(fd), "environment")
	entry, readErr := recall(f)
	if err = errors.Join(err, readErr, f.Close()); err != nil {
		entry.Warning = fmt.Sprintf("Towline's memory and environment are not protected from RUN steps: %v.", err)
	}
	return entry, true
}

func memory(entry *Entry) (*os.File, error) {
	fd, err := unix.MemfdCreate("environment", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "environment")
	// No variable and no path can hold a NUL.
	content := magic + strings.Join(append([]string{entry.Executable}, entry.Environ...), "\x00")
	if _, err := f.WriteString(content); err != nil {
		return nil, errors.Join(fmt.Errorf("memory file: %w", err), f.Close())
	}
	return f, nil
}

// recall is the other half of memory.
func recall(f *os.File) (Entry, error) {
	if _, err := f.Seek(int64(len(magic)), io.SeekStart); err != nil {
		return Entry{}, err
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return Entry{}, err
	}
	fields := strings.Split(string(content), "\x00")
	return Entry{Executable: fields[0], Environ: fields[1:]}, nil
}

// sealedCopy is our own binary as a memory file that can no longer be changed,
// whatever a process does to /proc/PID/exe (CVE-2019-5736).
func sealedCopy() (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer self.Close() //nolint:errcheck // read only
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("towline", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("towline", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "towline")
	if _, err = io.Copy(f, self); err != nil {
		return nil, errors.Join(fmt.Errorf("copy to memory: %w", err), f.Close())
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Join(fmt.Errorf("seal memory: %w", err), f.Close())
	}
	// Executing needs a descriptor that is not open for writing.
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return ro, errors.Join(err, f.Close())
}

// inUserNamespace runs the rest as a child that is root in its own user
// namespace. It reports false when none can be had.
func inUserNamespace(file string, args []string, vars *os.File, entry *Entry) bool {
	proc, err := os.StartProcess(file, args, &os.ProcAttr{ //nolint:gosec // our own binary
		Env:   []string{},
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, vars},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
			Pdeathsig:   syscall.SIGKILL,
			Setpgid:     true, // a terminal's ^C reaches it once, through us
		},
	})
	if err != nil {
		return false
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	_ = harden()
	ended := make(chan *os.ProcessState, 1)
	go func() {
		state, _ := proc.Wait()
		ended <- state
	}()
	for {
		select {
		case s := <-signals:
			_ = proc.Signal(s)
		case state := <-ended:
			entry.Exit, entry.Code = true, 1
			if state != nil && state.ExitCode() >= 0 {
				entry.Code = state.ExitCode()
			} else if ws, ok := sysStatus(state); ok && ws.Signaled() {
				entry.Code = 128 + int(ws.Signal())
			}
			return true
		}
	}
}

func sysStatus(state *os.ProcessState) (syscall.WaitStatus, bool) {
	if state == nil {
		return 0, false
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	return ws, ok
}
