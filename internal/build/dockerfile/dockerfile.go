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

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"

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
	// Metadata says what is known of a git or http source; with objects, the
	// commit as git stores it too.
	Metadata(ctx context.Context, op *pb.SourceOp, objects bool) (*sourceresolver.MetaResponse, error)
}

// Options says what to build.
type Options struct {
	// Executor does the work. Required.
	Executor Executor
	// Context is the URL of the context, for which Remote is true, and which holds
	// the Dockerfile too. Default: ContextSource and FileSource.
	Context string
	// Contexts are named contexts in the frontend's words, such as local:SOURCE.
	Contexts map[string]string
	// Filename is the Dockerfile's path below FileSource. Default: Dockerfile.
	Filename string
	// Display is the Dockerfile's path as messages show it. Default: Filename.
	Display string
	// Target is the stage to build. Default: the last.
	Target string
	// BuildArgs and Labels are as in the inputs of these names.
	BuildArgs, Labels map[string]string
	// Platforms are what to build for, side by side. Default: Machines[0].
	Platforms []v1.Platform
	// Machines are what RUN steps can be run for; the first is this machine's
	// own, which is also BUILDPLATFORM. Required.
	Machines []v1.Platform
	// Run holds the settings of RUN steps.
	Run RunOptions
	// NoCache takes nothing from a cache; NoCacheStages does so for those stages.
	NoCache       bool
	NoCacheStages []string
	// Epoch is told the SOURCE_DATE_EPOCH, if the build has one, before anything
	// that goes into an image is executed; it may be nil.
	Epoch func(time.Time)
	// Progress receives the frontend's warnings; it may be nil.
	Progress progress.Func

	// implicit says that Platforms is what it is by default.
	implicit bool
}

// RunOptions are settings of all RUN steps, as docker build has them.
type RunOptions struct {
	// AddHosts are further lines of /etc/hosts, HOST=IP.
	AddHosts []string
	// Network is default, none or host. Default: what each RUN says.
	Network string
	// ShmSize is the size of /dev/shm in bytes. Default: the sandbox's.
	ShmSize int64
	// Ulimits are NAME=SOFT[:HARD].
	Ulimits []string
	// CgroupParent is a control group's path.
	CgroupParent string
}

// Result is a built image for one platform, not yet assembled.
type Result struct {
	Platform v1.Platform
	// Ref is the root filesystem; nil is the empty one.
	Ref *snapshot.Ref
	// Config is the image's config, whose history and rootfs the new layers miss.
	Config []byte
	// Base is the config of the image that the last stage is FROM, or nil.
	Base []byte
	// Epoch is the SOURCE_DATE_EPOCH of the build, or nil.
	Epoch *time.Time
}

// Build compiles and executes. It gives one Result for each of opts.Platforms,
// in their order.
func Build(ctx context.Context, opts Options) ([]*Result, error) {
	opts = opts.withDefaults()
	res, err := builder.Build(ctx, &gateway{opts: opts, frontend: frontendOptions(opts)})
	if err != nil {
		return nil, explain(ctx, err, opts.Display)
	}
	if err := tellEpoch(res, opts); err != nil {
		return nil, err
	}
	results := make([]*Result, len(opts.Platforms))
	var group errgroup.Group
	for i, platform := range opts.Platforms {
		group.Go(func() error {
			var err error
			results[i], err = finish(ctx, res, platform, len(opts.Platforms) > 1)
			return explain(ctx, err, opts.Display)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return results, nil
}

func (o Options) withDefaults() Options {
	if o.Filename == "" {
		o.Filename = "Dockerfile"
	}
	if o.Display == "" {
		o.Display = o.Filename
	}
	if len(o.Platforms) == 0 {
		o.Platforms, o.implicit = o.Machines[:1], true
	}
	return o
}

// finish executes what the frontend made for one platform. Where it made
// several, its keys end in the platform.
func finish(ctx context.Context, res *client.Result, platform v1.Platform, several bool) (*Result, error) {
	id, suffix := platforms.FormatAll(platforms.Normalize(ociPlatform(platform))), ""
	if several {
		suffix = "/" + id
	}
	out := &Result{
		Platform: platform,
		Config:   res.Metadata[exptypes.ExporterImageConfigKey+suffix],
		Base:     res.Metadata[exptypes.ExporterImageBaseConfigKey+suffix],
	}
	if out.Config == nil {
		return nil, fmt.Errorf("frontend result: no image config for %s", id)
	}
	var err error
	if out.Epoch, err = epochOf(res, suffix); err != nil {
		return nil, err
	}
	made, ok := res.FindRef(id)
	if !ok || made == nil {
		return out, nil
	}
	ref, ok := made.(*reference)
	if !ok {
		return nil, fmt.Errorf("frontend result: reference of type %T", made)
	}
	out.Ref, err = ref.solve(ctx)
	return out, err
}

// epochOf is what the frontend found SOURCE_DATE_EPOCH to be, or nil.
func epochOf(res *client.Result, suffix string) (*time.Time, error) {
	raw, ok := res.Metadata[commonexptypes.ExporterEpochKey+suffix]
	if !ok {
		return nil, nil //nolint:nilnil // there is none
	}
	seconds, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("frontend result: SOURCE_DATE_EPOCH %q: %w", raw, err)
	}
	epoch := time.Unix(seconds, 0).UTC()
	return &epoch, nil
}

// tellEpoch tells opts.Epoch the earliest epoch of the platforms, which only
// differ if a stage whose time is asked for does.
func tellEpoch(res *client.Result, opts Options) error {
	if opts.Epoch == nil {
		return nil
	}
	var earliest *time.Time
	for _, p := range opts.Platforms {
		suffix := ""
		if len(opts.Platforms) > 1 {
			suffix = "/" + platforms.FormatAll(platforms.Normalize(ociPlatform(p)))
		}
		epoch, err := epochOf(res, suffix)
		if err != nil {
			return err
		}
		if epoch != nil && (earliest == nil || epoch.Before(*earliest)) {
			earliest = epoch
		}
	}
	if earliest != nil {
		opts.Epoch(*earliest)
	}
	return nil
}

// Remote says whether a context is one that the frontend fetches by itself: the
// URL of a git repository, or of an archive or Dockerfile.
func Remote(context string) bool {
	if strings.HasPrefix(context, "http://") || strings.HasPrefix(context, "https://") {
		return true
	}
	git, ok, err := dfgitutil.ParseGitRef(context)
	return ok && err == nil && !git.IndistinguishableFromLocal
}

// frontendOptions puts the options into the frontend's words (frontend/dockerui).
func frontendOptions(opts Options) map[string]string {
	m := map[string]string{
		"filename": filepath.ToSlash(opts.Filename),
		// With it, a "# syntax=" line does not forward the build to another frontend.
		"cmdline": "towline",
	}
	// Where nobody asks for a platform, the image has that of its base, which a
	// FROM --platform may have chosen.
	if !opts.implicit {
		names := make([]string, len(opts.Platforms))
		for i, p := range opts.Platforms {
			names[i] = platformString(p)
		}
		m["platform"] = strings.Join(names, ",")
	}
	if opts.NoCache {
		m["no-cache"] = ""
	} else if len(opts.NoCacheStages) > 0 {
		m["no-cache"] = strings.Join(opts.NoCacheStages, ",")
	}
	for name, value := range map[string]string{
		"add-hosts": strings.Join(opts.Run.AddHosts, ","), "ulimit": strings.Join(opts.Run.Ulimits, ","),
		"force-network-mode": opts.Run.Network, "cgroup-parent": opts.Run.CgroupParent,
	} {
		if value != "" {
			m[name] = value
		}
	}
	if opts.Run.ShmSize > 0 {
		m["shm-size"] = strconv.FormatInt(opts.Run.ShmSize, 10)
	}
	if opts.Target != "" {
		m["target"] = opts.Target
	}
	if opts.Context != "" {
		m["context"] = opts.Context
	}
	for name, value := range opts.Contexts {
		m["context:"+name] = value
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
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	line := lineOf(err)
	if known, ok := errors.AsType[*problem.Error](err); ok {
		if known.File != "" || line > 0 {
			known.File = display
		}
		if known.Line == 0 {
			known.Line = line
		}
		return known
	}
	return &problem.Error{Op: "build " + display, Err: innermost(err), File: display, Line: line}
}

// lineOf is the line of the Dockerfile that the frontend found an error at, or 0.
func lineOf(err error) int {
	for _, source := range errdefs.Sources(err) {
		for _, r := range source.Ranges {
			if r.Start != nil {
				return int(r.Start.Line)
			}
		}
	}
	return 0
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
