package child

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Reap waits for the child main, collecting every other child that ends
// meanwhile. Then it kills all processes that are left and waits for them:
// as PID 1 every process there is, otherwise the children of this one.
//
// No other goroutine may wait for children at the same time.
func Reap(main int) (Status, error) {
	status, err := waitMain(main)
	if err != nil {
		return status, err
	}
	return status, killRest()
}

func waitMain(main int) (Status, error) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Status{}, fmt.Errorf("wait for the command: %w", err)
		}
		if pid == main && (ws.Exited() || ws.Signaled()) {
			return toStatus(ws), nil
		}
	}
}

func toStatus(ws unix.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return Status{Code: ws.ExitStatus()}
}

// killRest returns when no process is left to wait for. Killing is repeated
// after each death: a dying process may have made another one.
func killRest() error {
	for {
		if err := killAll(); err != nil {
			return err
		}
		_, err := unix.Wait4(-1, nil, unix.WALL, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for what the command left running: %w", err)
		}
	}
}

func killAll() error {
	if os.Getpid() == 1 {
		err := unix.Kill(-1, unix.SIGKILL)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill what the command left running: %w", err)
		}
		return nil
	}
	pids, err := descendants(os.Getpid())
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}

// descendants lists the processes below top as /proc shows them.
func descendants(top int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, ok := parentOf(pid); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var found []int
	todo := []int{top}
	for len(todo) > 0 {
		next := children[todo[0]]
		found = append(found, next...)
		todo = append(todo[1:], next...)
	}
	return found, nil
}

func parentOf(pid int) (int, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The name in parentheses may hold anything, a parenthesis too: proc(5).
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	return parent, err == nil
}
