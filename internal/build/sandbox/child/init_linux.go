package child

import (
	"errors"
	"fmt"
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
	if spec.Namespaces == nil {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return report{}, fmt.Errorf("become the reaper of orphans: %w", err)
		}
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	// The starter's binary, and what it is linked with, is not in the new root;
	// the root of a process that is already there changes with ours.
	s, err := start(false, nil, os.Stdout, os.Stderr)
	if err != nil {
		return report{}, err
	}
	defer s.close()
	go func() {
		<-terminated
		_ = s.proc.Kill()
	}()
	if spec.Namespaces != nil {
		if err = s.loaded(); err != nil {
			return report{}, err
		}
		if err = enter(spec.Namespaces); err != nil || spec.Probe {
			return report{}, err
		}
	}
	next := *spec
	next.Supervised, next.Namespaces = false, nil
	s.send(&next)
	startErr := s.outcome()
	// As PID 1 of a namespace this one's end kills all that is left.
	var status Status
	if spec.Namespaces != nil {
		status, err = waitMain(s.proc.Pid)
	} else {
		status, err = Reap(s.proc.Pid)
	}
	if err = errors.Join(startErr, err); err != nil {
		return report{}, err
	}
	return report{Code: status.Code, Signal: int(status.Signal)}, nil
}
