package child

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// runInit prepares the place, runs the process and waits for everything.
func runInit(spec *Spec) (report, error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return report{}, fmt.Errorf("not dumpable: %w", err)
	}
	if spec.Namespaces != nil {
		if err := enter(spec.Namespaces); err != nil {
			return report{}, err
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return report{}, fmt.Errorf("become the reaper of orphans: %w", err)
	}
	if spec.Probe {
		return report{}, nil
	}
	next := *spec
	next.Supervised, next.Namespaces = false, nil
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	proc, reports, err := start(&next, false, os.Stdout, os.Stderr)
	if err != nil {
		return report{}, err
	}
	go func() {
		<-terminated
		_ = proc.Kill()
	}()
	_, startErr := readReport(reports)
	if errors.Is(startErr, io.EOF) {
		startErr = nil
	}
	// As PID 1 of a namespace this one's end kills all that is left.
	var status Status
	if spec.Namespaces != nil {
		status, err = waitMain(proc.Pid)
	} else {
		status, err = Reap(proc.Pid)
	}
	if err = errors.Join(startErr, err); err != nil {
		return report{}, err
	}
	return report{Code: status.Code, Signal: int(status.Signal)}, nil
}
