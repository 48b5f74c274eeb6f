// Package step is the one step of a workflow: its phases in their order, and what
// they hand to each other.
package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/actions"
	"github.com/towline/towline/internal/awsauth"
	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/registry"
	"github.com/towline/towline/internal/report"
	"github.com/towline/towline/internal/scratch"
	"github.com/towline/towline/internal/taskdef"
)

// Options says what a step runs with.
type Options struct {
	// Getenv reads the environment that the step was started with. Required.
	Getenv func(string) string
	// Stdout receives the log.
	Stdout io.Writer
	// Transport carries all requests. Default: each client's own.
	Transport http.RoundTripper
	// Executable is the file that the program was started from.
	Executable string
	// Warning is told to the user first, when it is not empty.
	Warning string
	// Terminal says that Stdout shows colours. GitHub's log does without it.
	Terminal bool
}

// Step is one run. Ship, End and Close are called in this order; End may also be
// called by another goroutine while Ship is at work.
type Step struct {
	opts     Options
	runner   *actions.Runner
	report   *report.Reporter
	settings inputs.Settings

	session *awsauth.Session
	// proxy chooses a request's proxy, if inputs say so; handed is the key that
	// later steps have been given.
	proxy  func(*http.Request) (*url.URL, error)
	handed string

	registry *registry.Client

	// What pre-flight finds: the repositories, the stages to build, the services
	// and what they are to run.
	targets  []registry.Target
	stages   []build.Stage
	services []*service
	editions []*edition
	several  several
	looks    looks

	// refs are where the image goes: HOST/NAME:TAG.
	refs []string
	// given is the task definition of a file, where one is given.
	given taskdef.Document
	// pinned has images that are given with their digests.
	pinned map[string]string

	// appSpec is an AppSpec file's content, or nil.
	appSpec     []byte
	appSpecName string

	// repositories are where it goes without a tag: HOST/NAME.
	repositories []string
	// registryTold: the output "registry" is set.
	registryTold bool
	// epoch is the latest time in what is built: a Unix time, context or empty.
	epoch   string
	built   *build.Result
	product *product
	// merged are the images that its index is made of, in its order.
	merged []string
	// caching is the upload of the build's cache, once it has begun.
	caching *caching
	held    heldTags
	// deployable is the image as a task definition names it.
	deployable string

	mu sync.Mutex
	// state is what has been changed so far, now the phase that is under way.
	state, now string
	closed     bool
	dir        string
	scratch    *scratch.Folder
}

// New makes a step. It contacts nobody.
func New(opts Options) *Step {
	runner := actions.New(actions.Options{Getenv: opts.Getenv, Stdout: opts.Stdout, Transport: opts.Transport, Terminal: opts.Terminal})
	return &Step{opts: opts, runner: runner, report: report.New(runner), state: "nothing was changed on AWS or in a registry"}
}

// Refuse ends a step whose inputs are wrong, and gives its exit code. Where they
// are not, it does nothing: New's step is to be shipped then.
func Refuse(opts Options) (code int, refused bool) {
	s := New(opts)
	if _, err := inputs.Parse(s.runner.Input, opts.Getenv); err == nil {
		return 0, false
	}
	return s.End(s.parse()), true
}

// parse reads the inputs and the files that they name, and masks the secrets
// among them.
func (s *Step) parse() error {
	if s.opts.Warning != "" {
		s.report.Warning(s.opts.Warning)
	}
	settings, err := inputs.Parse(s.runner.Input, s.opts.Getenv)
	err = errors.Join(err, settings.ReadSecretFiles())
	for _, secret := range settings.Secrets() {
		s.runner.Mask(secret)
	}
	if err != nil {
		return err
	}
	s.settings = settings
	s.maskAccounts()
	s.useProxy()
	for _, notice := range settings.Notices {
		s.report.Notice(notice)
	}
	for _, warning := range settings.Warnings {
		s.report.Warning(warning)
	}
	if err := s.checkFiles(); err != nil {
		return err
	}
	// Opened before any RUN step could put something else in their place.
	if err := s.runner.OpenFiles(); err != nil {
		return fmt.Errorf("runner's files: %w", err)
	}
	return nil
}

// phase is a part of the step.
type phase struct {
	title string
	needs bool
	run   func(context.Context) error
}

// Ship does the step: it checks the inputs, and does one phase after the other.
// When ctx ends, its cause is the error; see CancelledError.
func (s *Step) Ship(ctx context.Context) error {
	if err := s.parse(); err != nil {
		return err
	}
	if limit := s.settings.Credentials.ActionTimeout; limit > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, limit, &TimeoutError{limit})
		defer cancel()
		ctx = limited
	}
	defer s.keptCache(ctx)
	reads := []phase{
		{"Credentials", s.settings.NeedsAWS(), s.authenticate},
		{"Pre-flight", s.settings.Pushes() || s.settings.Registers() || s.settings.DryRun && !s.settings.Asks(), s.preflight},
		{"Registries", s.settings.LogsIn() && !s.settings.DryRun, s.logInto},
		{"Dockerfile", s.settings.Asks(), s.ask},
	}
	writes := []phase{
		{"Build", s.settings.Builds() && !s.settings.Asks(), s.build},
		{"Export", s.settings.Builds() && !s.settings.Asks() && len(s.settings.Build.Exports) > 0, s.export},
		{"Push", s.settings.Pushes(), s.push},
		{"Task definition", s.settings.Registers(), s.render},
		{"One-off task", s.settings.RunsTask(), s.runTask},
		{"Deployment", s.settings.Deploys(), s.deploy},
		{"Older revisions", s.settings.Registers() && s.settings.Task.KeepRevisions > 0, s.keepRevisions},
		{"Deployment", s.settings.Resumes(), s.resume},
	}
	if s.settings.DryRun {
		writes = []phase{{"Dry run", !s.settings.Asks(), s.plan}, {"Permissions", !s.settings.Asks() && s.settings.NeedsAWS(), s.planPolicies}}
	}
	for _, phase := range append(reads, writes...) {
		if !phase.needs {
			continue
		}
		if err := s.phase(ctx, phase.title, phase.run); err != nil {
			return err
		}
	}
	return s.handOver(ctx) // what was handed over at first may have ended by now
}

// phase runs one phase under its title, unless ctx has ended.
func (s *Step) phase(ctx context.Context, title string, run func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	s.now = strings.ToLower(title)
	s.mu.Unlock()
	end := s.report.Phase(title)
	err := run(ctx)
	end(err)
	return err
}

// did records what has been changed so far, for a run that is cut short.
func (s *Step) did(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = fmt.Sprintf(format, args...)
}

// End reports how the step ended and gives the exit code. Only the first call
// does anything: it is also made when a step that was cancelled does not end.
func (s *Step) End(err error) int {
	code := 0
	if err != nil {
		code = 1
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return code
	}
	s.closed = true
	s.mu.Unlock()
	s.report.Outputs()
	if err != nil {
		s.report.Fail("deploy", s.cancelled(err))
	}
	if finishErr := s.report.Finish(err == nil); finishErr != nil {
		s.report.Warning(finishErr.Error())
	}
	s.report.Close(err == nil)
	return code
}

// cancelled gives a cancellation, or the end of the step's time, its sentence,
// unless the phase had one.
func (s *Step) cancelled(err error) error {
	if _, known := errors.AsType[*problem.Error](err); known {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cause, ok := errors.AsType[*CancelledError](err); ok {
		return &problem.Error{Op: cmp.Or(s.now, "start"), Err: fmt.Errorf("%w; until then %s", cause, s.state)}
	}
	if cause, ok := errors.AsType[*TimeoutError](err); ok {
		return &problem.Error{
			Op: cmp.Or(s.now, "start"), Err: fmt.Errorf("%w; until then %s", cause, s.state),
			Fix: "Give the step more time, or 0 for as much as the job has.",
		}
	}
	return err
}

// CancelledError is the cause of a run that a signal ended.
type CancelledError struct{ Signal os.Signal }

// Error says what it means to the user: the runner sends these signals when a
// job is cancelled or takes too long.
func (c *CancelledError) Error() string { return "the job was cancelled (" + c.Signal.String() + ")" }

// Close gives back what the step holds: layers on disk and its folder.
func (s *Step) Close() error {
	var errs []error
	if s.built != nil {
		errs = append(errs, s.built.Close())
	}
	switch {
	case s.scratch != nil:
		errs = append(errs, s.scratch.Close())
	case s.dir != "":
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// folder is the step's own folder. In our own image it lies beside the binary,
// on the container's own filesystem, as the in-place sandbox needs it.
func (s *Step) folder() (string, error) {
	if s.dir != "" {
		return s.dir, nil
	}
	var err error
	if filepath.Dir(s.opts.Executable) == "/towline" {
		s.dir = "/towline/state"
		err = os.MkdirAll(s.dir, 0o700)
	} else {
		// What a run that was killed left there is removed.
		s.scratch, err = scratch.Make("towline-step-")
		if err == nil {
			s.dir = s.scratch.Path
		}
	}
	if err != nil {
		return "", &problem.Error{Op: "make a folder for the build", Err: err, Fix: "Give the runner's disk free space, or set TMPDIR to a folder that can be written."}
	}
	return s.dir, nil
}

// images lets a build find images through the registry client.
type images struct{ client *registry.Client }

// Resolve implements build.Images.
func (i images) Resolve(ctx context.Context, ref string, platform v1.Platform) (v1.Hash, v1.Image, error) {
	found, err := i.client.Resolve(ctx, ref, platform)
	if err != nil {
		return v1.Hash{}, nil, err
	}
	return found.Digest, found.Image, nil
}

// Fetch implements build.Fetcher.
func (i images) Fetch(ctx context.Context, layers ...v1.Layer) error {
	return i.client.Fetch(ctx, layers...)
}
