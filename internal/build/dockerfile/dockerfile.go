// Package dockerfile compiles a Dockerfile and has the result executed.
//
// What a Dockerfile means is decided by BuildKit's own frontend; this package
// is the gateway client that the frontend talks to. It is the only importer of
// the frontend.
package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/problem"
)

// The names of the local sources that the frontend asks for.
const (
	// ContextSource is the build context.
	ContextSource = "context"
	// FileSource is the folder that holds the Dockerfile.
	FileSource = "dockerfile"
)

// Executor does what the frontend asks for.
type Executor interface {
	// Solve runs a definition; nil is the empty filesystem.
	Solve(ctx context.Context, def *pb.Definition) (*snapshot.Ref, error)
	// View puts a state on disk to be read.
	View(ctx context.Context, ref *snapshot.Ref) (*snapshot.View, error)
	// ImageConfig gives the config of the image that ref names, and the digest
	// that pins it: of its index, or of its manifest where there is no index.
	ImageConfig(ctx context.Context, ref string, platform v1.Platform) (digest v1.Hash, config []byte, err error)
}

// Options says what to build.
type Options struct {
	// Executor does the work. Required.
	Executor Executor
	// Filename is the Dockerfile's path below FileSource. Default: Dockerfile.
	Filename string
	// Display is the Dockerfile's path as messages show it. Default: Filename.
	Display string
	// Target is the stage to build. Default: the last.
	Target string
	// BuildArgs and Labels are as in the inputs of these names.
	BuildArgs, Labels map[string]string
	// Platform is what to build for; Machine is what runs RUN steps.
	Platform, Machine v1.Platform
	// Progress receives the frontend's warnings; it may be nil.
	Progress progress.Func
}

// Result is a built image, not yet assembled.
type Result struct {
	// Ref is the root filesystem; nil is the empty one.
	Ref *snapshot.Ref
	// Config is the image's config, whose history and rootfs the new layers miss.
	Config []byte
	// Base is the config of the image that the last stage is FROM, or nil.
	Base []byte
	// Epoch is the SOURCE_DATE_EPOCH of the build, or nil.
	Epoch *time.Time
}

// Build compiles and executes.
func Build(ctx context.Context, opts Options) (*Result, error) {
	if opts.Filename == "" {
		opts.Filename = "Dockerfile"
	}
	if opts.Display == "" {
		opts.Display = opts.Filename
	}
	gateway := &gateway{opts: opts, frontend: frontendOptions(opts)}
	res, err := builder.Build(ctx, gateway)
	if err != nil {
		return nil, explain(ctx, err, opts.Display)
	}
	single, err := res.SingleRef()
	if err != nil {
		return nil, fmt.Errorf("frontend result: %w", err)
	}
	out := &Result{Config: res.Metadata[exptypes.ExporterImageConfigKey], Base: res.Metadata[exptypes.ExporterImageBaseConfigKey]}
	if out.Config == nil {
		return nil, errors.New("frontend result: no image config")
	}
	if raw, ok := res.Metadata[commonexptypes.ExporterEpochKey]; ok {
		seconds, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("frontend result: SOURCE_DATE_EPOCH %q: %w", raw, err)
		}
		epoch := time.Unix(seconds, 0).UTC()
		out.Epoch = &epoch
	}
	if single != nil {
		ref, ok := single.(*reference)
		if !ok {
			return nil, fmt.Errorf("frontend result: reference of type %T", single)
		}
		if out.Ref, err = ref.solve(ctx); err != nil {
			return nil, explain(ctx, err, opts.Display)
		}
	}
	return out, nil
}

// frontendOptions puts the options into the frontend's words (frontend/dockerui).
func frontendOptions(opts Options) map[string]string {
	m := map[string]string{
		"filename": filepath.ToSlash(opts.Filename),
		// With it, a "# syntax=" line does not forward the build to another frontend.
		"cmdline":  "towline",
		"platform": platformString(opts.Platform),
	}
	if opts.Target != "" {
		m["target"] = opts.Target
	}
	for name, value := range opts.BuildArgs {
		m["build-arg:"+name] = value
	}
	for name, value := range opts.Labels {
		m["label:"+name] = value
	}
	return m
}

func platformString(p v1.Platform) string {
	return strings.Join(slices.DeleteFunc([]string{p.OS, p.Architecture, p.Variant}, func(s string) bool { return s == "" }), "/")
}

// explain gives an error of the frontend its place in the Dockerfile.
func explain(ctx context.Context, err error, display string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *problem.Error
	if errors.As(err, &known) {
		if known.File != "" {
			known.File = display
		}
		return known
	}
	p := &problem.Error{Op: "build " + display, Err: innermost(err), File: display}
	for _, source := range errdefs.Sources(err) {
		for _, r := range source.Ranges {
			if p.Line == 0 && r.Start != nil {
				p.Line = int(r.Start.Line)
			}
		}
	}
	return p
}

// innermost takes wrappers off that add no words.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || inner.Error() != err.Error() {
			return err
		}
		err = inner
	}
}
