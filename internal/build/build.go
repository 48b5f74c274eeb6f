// Package build turns a Dockerfile and a context into an image, without a daemon.
//
// It knows neither GitHub nor AWS: images come from whatever Images says, and
// the result is a v1.Image whose layers are on disk until Close.
package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/archutil"

	"github.com/towline/towline/internal/build/dockerfile"
	"github.com/towline/towline/internal/build/keys"
	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/build/mounts"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/build/solver"
)

// Images finds images in registries.
type Images interface {
	// Resolve gives the image that ref names for a platform, and the digest that
	// pins ref: of its index, or of its manifest where there is no index.
	Resolve(ctx context.Context, ref string, platform v1.Platform) (v1.Hash, v1.Image, error)
}

// Fetcher is an Images that can download several layers side by side, ahead of
// their use.
type Fetcher interface {
	// Fetch downloads those of layers that are still in a registry.
	Fetch(ctx context.Context, layers ...v1.Layer) error
}

// RunOptions are settings of all RUN steps.
type RunOptions = dockerfile.RunOptions

// Compression is how layers are packed.
type Compression = layer.Compression

// Keys are the ssh keys of one id.
type Keys = keys.Set

// Options says what to build.
type Options struct {
	// Context is the build context: a folder, a tar or Dockerfile, or the URL of a
	// git repository or of such a file. Required.
	Context string
	// File is the Dockerfile: for a folder, any path; otherwise one inside the
	// context. Required.
	File string
	// Contexts are named contexts, which FROM, COPY --from and RUN --mount=from
	// may name: a folder, docker-image://REFERENCE, oci-layout://FOLDER:TAG or
	// oci-layout://FOLDER@DIGEST, or the URL of a git repository or a file.
	Contexts map[string]string
	// GitLogin gives the user and the token for an https host of git where no
	// secret GIT_AUTH_TOKEN or GIT_AUTH_HEADER does, or two empty strings. It may be nil.
	GitLogin func(host string) (user, token string)
	// SSH are the keys that RUN --mount=type=ssh and git over ssh may use, by id;
	// "default" is that of a RUN that names none.
	SSH map[string]Keys
	// Transport carries requests for git repositories and URLs. Default:
	// http.DefaultTransport.
	Transport http.RoundTripper
	// Display is the Dockerfile's path as messages show it. Default: File.
	Display string
	// Target is the stage to build. Default: the last.
	Target string
	// BuildArgs and Labels are as in the inputs of these names.
	BuildArgs, Labels map[string]string
	// Secrets are what RUN --mount=type=secret may ask for, by id.
	Secrets map[string][]byte
	// Platforms are what to build for. Default: Machine alone.
	Platforms []v1.Platform
	// Machine is what this machine is. Required. RUN steps for other platforms
	// work where the kernel has an emulator for them (binfmt_misc).
	Machine v1.Platform
	// Run holds the settings of RUN steps.
	Run RunOptions
	// NoCache takes nothing from a cache; NoCacheStages does so for those stages.
	NoCache       bool
	NoCacheStages []string
	// CacheFrom is what earlier builds left: steps that are found in it are not
	// done again. What cannot be read of it is a warning.
	CacheFrom []Cache
	// CacheMode says what Result.Cache keeps. Default: there is none.
	CacheMode CacheMode
	// CacheInline keeps in each image's config which steps its layers are the
	// results of, so that the image can be given to ReadCache.
	CacheInline bool
	// Mounts says whether cache mounts outlive the build.
	Mounts MountOptions
	// Images finds base images. Required.
	Images Images
	// Sandbox runs RUN steps. Without one, a RUN is an error.
	Sandbox sandbox.Sandbox
	// Dir is where the build keeps its trees and layers. It is made, and Close
	// removes it. In place, it must be on the container's own filesystem.
	Dir string
	// Ready is told each layer of the images as soon as it is there, those of a
	// base included, from several goroutines and perhaps more than once; so it
	// can be uploaded while the build goes on. It may be nil.
	Ready func(v1.Layer)
	// Progress receives events; it may be nil.
	Progress progress.Func
	// SourceDateEpoch is a Unix time that no file of a new layer and no time of
	// the config is later than, or "context" for the time that the context says,
	// which a folder does not. It is the build argument SOURCE_DATE_EPOCH too.
	// Default: times as they are.
	SourceDateEpoch string
	// Compression is how new layers are packed; those of a base stay as they are.
	// Default: gzip.
	Compression Compression
	// Attestations says what is attached to the images.
	Attestations Attestations
	// Now tells the time that is written into the image. Default: time.Now.
	Now func() time.Time
}

// Result is what was built.
type Result struct {
	// Images holds one image for each platform, in the order of Options.Platforms.
	Images []*Image
	// Cache is what a later build may start from, or nil.
	Cache  *Image
	store  *snapshot.Store
	given  *contexts
	mounts *mounts.Set
}

// Close removes what the build left on disk, new layers included.
func (r *Result) Close() error {
	r.given.Close()
	return r.store.Close()
}

// Build builds the images. Close the result when their layers are no longer needed.
func Build(ctx context.Context, opts Options) (*Result, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	result, unreadable, err := attempt(ctx, opts)
	if err != nil && ctx.Err() == nil && !errors.Is(err, syscall.ENOSPC) && lost(unreadable, opts.CacheFrom) {
		opts.Progress.Emit(progress.Warning{Message: "the build cache has lost a layer, so the build begins again without it", Detail: err.Error()})
		opts.CacheFrom = nil
		result, _, err = attempt(ctx, opts)
	}
	return result, err
}

// attempt builds, or says which layers could not be read.
func attempt(ctx context.Context, opts Options) (*Result, []v1.Hash, error) {
	keep, err := storeOptions(opts)
	if err != nil {
		return nil, nil, err
	}
	store, err := snapshot.New(keep)
	if err != nil {
		return nil, nil, layer.Full(err, filepath.Dir(opts.Dir))
	}
	given, err := opts.contexts()
	if err != nil {
		_ = store.Close()
		return nil, nil, err
	}
	result, err := run(ctx, opts, given, store)
	if err != nil {
		err = store.Full(err) // before Close makes room
		given.Close()
		_ = store.Close()
		return nil, store.Unreadable(), err
	}
	return result, nil, nil
}

// storeOptions keeps snapshots as overlays where RUN steps have namespaces and
// overlays can be mounted, and as plain folders otherwise.
func storeOptions(opts Options) (snapshot.Options, error) {
	o := snapshot.Options{Dir: opts.Dir, Compression: opts.Compression, Outlines: knownOutlines(opts.CacheFrom), Progress: opts.Progress}
	if seconds, err := strconv.ParseInt(opts.SourceDateEpoch, 10, 64); err == nil {
		epoch := time.Unix(seconds, 0).UTC()
		o.SourceDateEpoch = &epoch
	}
	if fetcher, ok := opts.Images.(Fetcher); ok {
		o.Fetch = fetcher.Fetch
	}
	if opts.Sandbox == nil || opts.Sandbox.Name() != namespacesName {
		return o, nil
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return o, fmt.Errorf("build folder: %w", err)
	}
	o.IgnoreOwner = singleOwner()
	if ok, userxattr := sandbox.CanOverlay(opts.Dir); ok {
		o.Mount = func(merged, upper, work string, lowers []string) error {
			return sandbox.MountOverlay(merged, upper, work, lowers, userxattr)
		}
		o.Unmount = sandbox.Unmount
	}
	return o, nil
}

// namespacesName is the only sandbox in whose company mounts are possible.
const namespacesName = "namespaces"

// singleOwner says whether this user namespace maps one user only, so that
// files can belong to nobody else (user_namespaces(7)).
func singleOwner() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(data))
	return err == nil && len(fields) == 3 && fields[2] == "1"
}

// Call asks the Dockerfile a question in place of building it; see dockerfile.Call.
func Call(ctx context.Context, opts Options, call string) (string, error) {
	store, err := snapshot.New(snapshot.Options{Dir: opts.Dir, Progress: opts.Progress})
	if err != nil {
		return "", err
	}
	defer store.Close() //nolint:errcheck // the caller's folder for temporary files
	given, err := opts.contexts()
	if err != nil {
		return "", err
	}
	defer given.Close()
	s, compile, err := prepare(opts, given, store, nil, newImages(given.layouts))
	if err != nil {
		return "", err
	}
	defer s.Close() //nolint:errcheck // nothing is left to do with its error
	return dockerfile.Call(ctx, compile, call)
}

// prepare makes the solver, and says what the frontend is to compile.
func prepare(opts Options, given *contexts, store *snapshot.Store, kept *mounts.Set, images *images) (*solver.Solver, dockerfile.Options, error) {
	machines := opts.machines()
	args := maps.Clone(opts.BuildArgs)
	var epoch func(time.Time)
	if opts.SourceDateEpoch != "" {
		if args == nil {
			args = map[string]string{}
		}
		args["SOURCE_DATE_EPOCH"] = opts.SourceDateEpoch
		epoch = store.Clamp
	}
	s, err := solver.New(solver.Options{
		Store: store, Sandbox: opts.Sandbox, Images: images, Secrets: opts.Secrets,
		Caches: opts.CacheFrom, CacheMode: opts.solverCacheMode(), Mounts: kept,
		Platforms: machines, Ready: opts.Ready, Progress: opts.Progress,
		Contexts: given.folders, Uploads: given.uploads, GitLogin: opts.GitLogin, SSH: opts.SSH, Transport: opts.Transport,
	})
	return s, dockerfile.Options{
		Executor: &executor{solver: s, store: store, images: images},
		Context:  given.remote, Contexts: given.named, Filename: given.filename(opts.File), Display: opts.Display,
		Target: opts.Target, BuildArgs: args, Labels: opts.Labels, Epoch: epoch,
		Platforms: opts.Platforms, Machines: machines, Run: opts.Run,
		NoCache: opts.NoCache, NoCacheStages: opts.NoCacheStages, Progress: opts.Progress,
	}, err
}

// machines lists what RUN steps can be run for, this machine's own first. The
// others cost a moment to find out, so nobody asks where they cannot matter.
func (o Options) machines() []v1.Platform {
	list := []v1.Platform{o.Machine}
	if !slices.ContainsFunc(o.Platforms, func(p v1.Platform) bool { return p.Architecture != o.Machine.Architecture }) {
		return list
	}
	for _, p := range archutil.SupportedPlatforms(false) {
		if p.Architecture != o.Machine.Architecture {
			list = append(list, v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
		}
	}
	return list
}

func run(ctx context.Context, opts Options, given *contexts, store *snapshot.Store) (*Result, error) {
	kept := opts.mountSet()
	known := newImages(given.layouts)
	s, compile, err := prepare(opts, given, store, kept, known)
	if err != nil {
		return nil, err
	}
	defer s.Close() //nolint:errcheck // nothing is left to do with its error
	results, err := dockerfile.Build(ctx, compile)
	if err != nil {
		return nil, err
	}
	now := opts.Now()
	built := &Result{store: store, given: given, mounts: kept}
	roots := make([]*snapshot.Ref, len(results))
	for i, result := range results {
		roots[i] = result.Ref
		layers, layersErr := store.Layers(ctx, result.Ref)
		if layersErr != nil {
			return nil, layersErr
		}
		at := clock{now: now, made: s.Created}
		if opts.CacheInline {
			if inlineErr := inlineCache(ctx, s, result, layers, at); inlineErr != nil {
				opts.Progress.Emit(progress.Warning{Message: "the build cache cannot be written into the image", Detail: inlineErr.Error()})
			}
		}
		image, assembleErr := assemble(result, layers, at)
		if assembleErr != nil {
			return nil, assembleErr
		}
		image.view = func(ctx context.Context) (*snapshot.View, error) { return store.View(ctx, result.Ref) }
		if attestErr := opts.attest(ctx, image, known); attestErr != nil {
			return nil, attestErr
		}
		built.Images = append(built.Images, image)
	}
	if opts.CacheMode == "" {
		return built, nil
	}
	left, err := s.Export(ctx, roots, now, opts.keep(built.Images))
	if err != nil {
		// The image is worth more than the time that the next build would save.
		opts.Progress.Emit(progress.Warning{Message: "the build cache cannot be written", Detail: err.Error()})
		return built, nil
	}
	noteOutlines(&left, store.Outlines())
	built.Cache, err = cacheImage(left)
	return built, err
}

// executor does what the frontend asks for.
type executor struct {
	solver *solver.Solver
	store  *snapshot.Store
	images *images
}

// Solve implements dockerfile.Executor.
func (e *executor) Solve(ctx context.Context, def *pb.Definition) (*snapshot.Ref, error) {
	return e.solver.Solve(ctx, def)
}

// View implements dockerfile.Executor.
func (e *executor) View(ctx context.Context, ref *snapshot.Ref) (*snapshot.View, error) {
	return e.store.View(ctx, ref)
}

// Metadata implements dockerfile.Executor.
func (e *executor) Metadata(ctx context.Context, op *pb.SourceOp, objects bool) (*sourceresolver.MetaResponse, error) {
	return e.solver.Metadata(ctx, op, objects)
}

// ImageConfig implements dockerfile.Executor.
func (e *executor) ImageConfig(ctx context.Context, ref string, platform v1.Platform) (v1.Hash, []byte, error) {
	r, err := e.images.resolve(ctx, ref, platform)
	if err != nil {
		return v1.Hash{}, nil, err
	}
	config, err := r.image.RawConfigFile()
	if err != nil {
		return v1.Hash{}, nil, fmt.Errorf("image %s: %w", ref, err)
	}
	return r.digest, config, nil
}

// images asks a registry once for each image.
type images struct {
	Images

	mu    sync.Mutex
	known map[imageKey]*resolved
}

func newImages(from Images) *images {
	return &images{Images: from, known: map[imageKey]*resolved{}}
}

type imageKey struct{ ref, platform string }

type resolved struct {
	once   sync.Once
	digest v1.Hash
	image  v1.Image
	err    error
}

// Image gives the image itself; ref holds a digest.
func (i *images) Image(ctx context.Context, ref string, platform v1.Platform) (v1.Image, error) {
	r, err := i.resolve(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	return r.image, nil
}

func (i *images) resolve(ctx context.Context, ref string, platform v1.Platform) (*resolved, error) {
	r := i.entry(imageKey{ref, platform.String()}, &resolved{})
	r.once.Do(func() {
		r.digest, r.image, r.err = i.Resolve(ctx, ref, platform)
	})
	if r.err != nil {
		return nil, r.err
	}
	// The frontend pins the reference; asking by the pin is the same question.
	i.entry(imageKey{ref + "@" + r.digest.String(), platform.String()}, r)
	return r, nil
}

func (i *images) entry(key imageKey, fresh *resolved) *resolved {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r := i.known[key]; r != nil {
		return r
	}
	i.known[key] = fresh
	return fresh
}
