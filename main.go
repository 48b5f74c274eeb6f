// Towline is a GitHub Action that takes a repository with a Dockerfile to a
// rolled-out Amazon ECS service.
package main

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // the action's image has no other CA certificates

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/permissions"
	"github.com/towline/towline/internal/rehearse"
	"github.com/towline/towline/internal/step"
)

//go:embed all:testdata/demo
var demoFiles embed.FS

// version is that of the newest release, or of the next one while it is prepared.
//
//go:embed VERSION
var version string

// grace is how long a cancelled run may take to end: the runner kills the
// container 10 seconds after its first signal.
const grace = 4 * time.Second

func main() {
	if code, ok := sandbox.Main(os.Args); ok {
		os.Exit(code)
	}
	if code, done := early(os.Args[1:], os.Stdout); done {
		os.Exit(code)
	}
	entry := sandbox.Enter(os.Args, os.Environ())
	if entry.Exit {
		os.Exit(entry.Code)
	}
	os.Exit(command(entry, os.Args[1:], os.Stdout))
}

// early does what runs nobody else's code, before the process protects itself from
// such code: that takes longer than to find a mistake in the inputs. With "policy" it
// prints what AWS has to allow for the step, with "version" which release this is.
func early(args []string, stdout io.Writer) (code int, done bool) {
	switch {
	case sandbox.Entered():
		return 0, false
	case len(args) > 0 && args[0] == "version":
		_, _ = io.WriteString(stdout, "towline "+version)
		return 0, true
	case len(args) > 0 && args[0] == "policy":
		return permissions.Run(permissions.Options{Args: args[1:], Getenv: os.Getenv, Stdout: stdout}), true
	case len(args) > 0:
		return 0, false
	}
	return step.Refuse(step.Options{Getenv: os.Getenv, Stdout: stdout, Terminal: isTerminal(os.Stdout)})
}

// command runs the action's step; with "rehearse", the same step against the
// emulator.
func command(entry sandbox.Entry, args []string, stdout io.Writer) int {
	vars := variables(entry.Environ)
	if i := slices.Index(args, "--verbose"); i >= 0 { // as a step that is run again with debug logging
		args, vars["RUNNER_DEBUG"] = slices.Delete(slices.Clone(args), i, i+1), "1"
	}
	setenv(vars)
	opts := step.Options{Getenv: os.Getenv, Stdout: stdout, Executable: entry.Executable, Warning: entry.Warning, Terminal: isTerminal(os.Stdout)}
	if len(args) > 0 && args[0] == "rehearse" {
		demo, err := fs.Sub(demoFiles, "testdata/demo")
		if err != nil {
			panic(err) // it is embedded
		}
		return rehearse.Run(rehearse.Options{Args: args[1:], Step: opts, Demo: demo, Setenv: setenv, Run: run})
	}
	return run(opts)
}

// run is one step: inputs, credentials, pre-flight, build, push, task definition,
// deployment, and the report.
func run(opts step.Options) int {
	s := step.New(opts)
	ctx, stop := onSignal(s)
	defer stop()
	err := s.Ship(ctx)
	code := s.End(err)
	_ = s.Close() // the container, or its folder for temporary files, goes away
	return code
}

// onSignal cancels the step at SIGINT or SIGTERM, and ends the process if it
// has not ended by itself in time.
func onSignal(s *step.Step) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case got := <-signals:
			cause := &step.CancelledError{Signal: got}
			cancel(cause)
			select {
			case <-time.After(grace):
				os.Exit(s.End(cause))
			case <-done:
			}
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// isTerminal says whether somebody reads file as it is written.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

func variables(environ []string) map[string]string {
	vars := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// setenv makes vars the environment of this process alone: what other processes
// see of it stays empty. The AWS SDK and net/http look there.
func setenv(vars map[string]string) {
	os.Clearenv()
	for name, value := range vars {
		_ = os.Setenv(name, value)
	}
}
