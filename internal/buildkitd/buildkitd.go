// Package buildkitd runs a BuildKit daemon for tests: of the very version whose
// frontend Towline uses, built from its module.
package buildkitd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// module is what the throw-away module builds buildkitd and buildctl from. Its
// version is go.mod's.
const module = "github.com/moby/buildkit"

// Options says how to run a daemon.
type Options struct {
	// Bin is the folder of the programs: what Programs gives. Required.
	Bin string
	// Registry is host:port of a registry that speaks HTTP and stands in for
	// Docker Hub. Required.
	Registry string
	// Target is host:port of another registry that speaks HTTP. Default: none.
	Target string
}

// Daemon is a BuildKit daemon that runs. Stop it.
type Daemon struct {
	bin  string
	dir  string
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

// Start runs a daemon and waits until it answers. It wants root and runc.
func Start(ctx context.Context, opts Options) (*Daemon, error) {
	// A short path: a socket's may have 107 bytes.
	dir, err := os.MkdirTemp("", "bk")
	if err != nil {
		return nil, err
	}
	d := &Daemon{bin: opts.Bin, dir: dir, done: make(chan error, 1)}
	config := filepath.Join(dir, "buildkitd.toml")
	text := fmt.Sprintf("[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%q]\n  http = true\n", opts.Registry, opts.Registry)
	if opts.Target != "" {
		text += fmt.Sprintf("[registry.%q]\n  http = true\n", opts.Target)
	}
	if err = os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// The daemon gets a context of its own: a test's ends before its clean-up, and
	// would kill the daemon while it still has something mounted.
	d.cmd = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(opts.Bin, "buildkitd"), //nolint:gosec // a test's own program
		"--config", config, "--addr", d.address(), "--root", filepath.Join(dir, "state"),
		"--oci-worker=true", "--oci-worker-snapshotter=overlayfs", "--oci-worker-net=host", "--containerd-worker=false",
		"--allow-insecure-entitlement=network.host")
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err = d.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { d.done <- d.cmd.Wait() }()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("buildkitd not ready after 1 minute"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err = d.Control(ctx, "debug", "workers"); err == nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			log, stopErr := d.Stop()
			return nil, errors.Join(context.Cause(ctx), stopErr, errors.New(log))
		case <-tick.C:
		}
	}
}

func (d *Daemon) address() string { return "unix://" + filepath.Join(d.dir, "buildkitd.sock") }

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Command is buildctl with its arguments, not yet run.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"--addr", d.address()}, args...)
	return exec.CommandContext(ctx, filepath.Join(d.bin, "buildctl"), args...) //nolint:gosec // a test's own program
}

// Control runs buildctl and gives its standard output. An error holds its
// standard error.
func (d *Daemon) Control(ctx context.Context, args ...string) (string, error) {
	return output(d.Command(ctx, args...))
}

// Stop ends the daemon, removes what it kept and gives its log.
func (d *Daemon) Stop() (log string, err error) {
	_ = d.cmd.Process.Signal(os.Interrupt)
	<-d.done //nolint:errcheck // it only says that there was a signal
	return d.log.String(), os.RemoveAll(d.dir)
}

// Programs gives the folder with buildkitd and buildctl, from the folder cache if
// they are there, and builds them otherwise. root is the folder of our own go.mod.
//
// BuildKit's go.mod has directives that `go install module@version` refuses, so a
// throw-away module with our own versions builds them.
func Programs(ctx context.Context, root, cache string) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module)
	list.Dir = root
	version, err := output(list)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "buildkit-"+strings.TrimSpace(version))
	if _, err = os.Stat(bin); err == nil {
		return bin, nil
	}
	work, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err = writeModule(root, work); err != nil {
		return "", err
	}
	steps := [][]string{{"mod", "edit", "-module=throwaway"}, {"mod", "tidy"}}
	for _, program := range programs() {
		steps = append(steps, []string{"build", "-o", filepath.Join("bin", program), module + "/cmd/" + program})
	}
	for _, args := range steps {
		step := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments are above
		step.Dir = work
		step.Env = append(step.Environ(), "CGO_ENABLED=0")
		if _, err := output(step); err != nil {
			return "", err
		}
	}
	return bin, os.Rename(filepath.Join(work, "bin"), bin)
}

func programs() []string { return []string{"buildctl", "buildkitd"} }

func writeModule(root, work string) error {
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file)) //nolint:gosec // our own
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(work, file), text, 0o600); err != nil { //nolint:gosec // our own names
			return err
		}
	}
	// The constraint keeps the compiler from seeing imports of programs, and lets
	// `go mod tidy` see them.
	var source strings.Builder
	source.WriteString("//go:build ignore_me\n\npackage throwaway\n")
	for _, program := range programs() {
		fmt.Fprintf(&source, "import _ %q\n", module+"/cmd/"+program)
	}
	return os.WriteFile(filepath.Join(work, "throwaway.go"), []byte(source.String()), 0o600)
}

func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}
