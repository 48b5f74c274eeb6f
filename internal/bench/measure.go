package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// usage is what one build took.
type usage struct {
	wall, cpu time.Duration
	// idle is what the same start takes with a program that does nothing, and is not
	// the builder's affair.
	idle time.Duration
	// peak is the largest amount of memory that the builder had in RAM, in bytes,
	// without the processes of RUN steps.
	peak int64
	// in and out are the bytes that the registry received and sent.
	in, out int64
}

// tick is how long the kernel's unit of processes' times is (USER_HZ).
const tick = 10 * time.Millisecond

// look is how often a process's memory is looked at. The kernel keeps the peak: only
// what grows within the last look is missed.
const look = 5 * time.Millisecond

// process is what the kernel tells of a process and the children it has waited for.
type process struct {
	cpu  time.Duration
	peak int64
}

func readProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// Its name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return process{}, fmt.Errorf("process %d: %d fields", pid, len(fields))
	}
	var p process
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		ticks, parseErr := strconv.ParseInt(field, 10, 64)
		if parseErr != nil {
			return p, parseErr
		}
		p.cpu += time.Duration(ticks) * tick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return p, err
	}
	if kilobytes := statusField(status, "VmHWM:"); len(kilobytes) > 0 {
		n, err := strconv.ParseInt(kilobytes[0], 10, 64)
		if err != nil {
			return p, err
		}
		p.peak = n << 10
	}
	return p, nil
}

func statusField(status []byte, name string) []string {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Fields(rest)
		}
	}
	return nil
}

// forgetPeak makes the kernel begin anew with a process's largest size (proc(5)).
func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
}

// runCommand runs a program to its end and looks at the process that pid finds,
// at first perhaps none.
func runCommand(cmd *exec.Cmd, pid func() int) (wall time.Duration, last process, err error) {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	begin := time.Now()
	if err = cmd.Start(); err != nil {
		return 0, last, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	found := 0
	for {
		select {
		case err = <-done:
			wall = time.Since(begin)
			if err != nil {
				err = fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, output.String())
			}
			return wall, last, err
		case <-ticker.C:
			if found == 0 {
				found = pid()
			}
			if found == 0 {
				continue
			}
			if p, readErr := readProcess(found); readErr == nil && p.peak > 0 {
				last = p
			}
		}
	}
}

// containerProcess finds the first process of the container whose ID is in a file.
func containerProcess(cidfile string) int {
	id, err := os.ReadFile(cidfile) //nolint:gosec // of our own
	if err != nil || len(id) == 0 {
		return 0
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range slices.Backward(entries) {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		if ids := statusField(status, "NSpid:"); len(ids) < 2 || ids[len(ids)-1] != "1" {
			continue
		}
		// Before it is the container's own program it is runc.
		if name := statusField(status, "Name:"); len(name) == 0 || strings.HasPrefix(name[0], "runc") {
			continue
		}
		cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err == nil && bytes.Contains(cgroup, bytes.TrimSpace(id)) {
			return pid
		}
	}
	return 0
}

// output runs a program and gives what it wrote to its standard output.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the callers name them
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// gateway is the host's address on Docker's default network, which containers reach.
func gateway(ctx context.Context) (string, error) {
	text, err := output(ctx, "", "docker", "network", "inspect", "bridge", "--format", "{{range .IPAM.Config}}{{.Gateway}}{{end}}")
	if err == nil && text == "" {
		err = errors.New("docker's default network has no gateway")
	}
	return text, err
}
