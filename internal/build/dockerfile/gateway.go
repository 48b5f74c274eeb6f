package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	capspb "github.com/moby/buildkit/util/apicaps/pb"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/build/source"
)

// gateway is the client that the frontend talks to.
type gateway struct {
	opts     Options
	frontend map[string]string
}

// BuildOpts tells the frontend what was asked for and what we can do.
func (g *gateway) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      g.frontend,
		SessionID: "towline",
		Product:   "towline",
		Workers:   []client.WorkerInfo{{ID: "towline", Platforms: g.machines()}},
		Caps:      gwpb.Caps.CapSet(nil),
		LLBCaps:   pb.Caps.CapSet(capabilities()),
	}
}

func (g *gateway) machines() []ocispec.Platform {
	list := make([]ocispec.Platform, len(g.opts.Machines))
	for i, p := range g.opts.Machines {
		list[i] = ociPlatform(p)
	}
	return list
}

// capabilities is all of LLB except what we do not execute and whose absence
// makes the frontend emit something equal. Capabilities that are only there to
// be refused stay, for without them the frontend drops the request in silence.
func capabilities() []*capspb.APICap {
	var list []*capspb.APICap
	for _, c := range pb.Caps.All() {
		if apicaps.CapID(c.ID) == pb.CapDiffOp {
			continue
		}
		list = append(list, c)
	}
	return list
}

// Solve gives a reference that is executed when somebody looks into it.
func (g *gateway) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Frontend != "" {
		return nil, fmt.Errorf("frontend %s is not run: only the built-in Dockerfile frontend is", req.Frontend)
	}
	ref := &reference{executor: g.opts.Executor, def: req.Definition}
	if req.Evaluate {
		if _, err := ref.solve(ctx); err != nil {
			return nil, err
		}
	}
	res := client.NewResult()
	res.SetRef(ref)
	return res, nil
}

// ResolveImageConfig reads an image's config in its registry.
func (g *gateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	platform := g.opts.Machines[0]
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		p := opt.ImageOpt.Platform
		platform = v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
	}
	asked := ref
	if l := opt.OCILayoutOpt; l != nil {
		asked = source.Layout{Ref: ref, Store: l.Store.StoreID}.Name()
		if p := l.Platform; p != nil {
			platform = v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
		}
	}
	hash, config, err := g.opts.Executor.ImageConfig(ctx, asked, platform)
	if err != nil {
		return "", "", nil, err
	}
	return ref, digest.Digest(hash.String()), config, nil
}

// ResolveSourceMetadata reads what is known of a git or http source.
func (g *gateway) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return g.opts.Executor.Metadata(ctx, op, opt.GitOpt != nil && opt.GitOpt.ReturnObject)
}

// Inputs are those of other frontends: there are none.
func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil } //nolint:nilnil // no inputs

// NewContainer is never called by the Dockerfile frontend.
func (g *gateway) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("containers of a frontend are not offered")
}

// Warn passes a finding of the frontend's linter on.
func (g *gateway) Warn(_ context.Context, _ digest.Digest, message string, opts client.WarnOpts) error {
	w := progress.Warning{File: g.opts.Display, Message: message, URL: opts.URL}
	for _, detail := range opts.Detail {
		w.Detail += string(detail)
	}
	if len(opts.Range) > 0 && opts.Range[0].Start != nil {
		w.Line = int(opts.Range[0].Start.Line)
	}
	g.opts.Progress.Emit(w)
	return nil
}

func ociPlatform(p v1.Platform) ocispec.Platform {
	return ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
}

// reference is a definition and, once somebody asked, its state.
type reference struct {
	executor Executor
	def      *pb.Definition

	mu     sync.Mutex
	solved bool
	ref    *snapshot.Ref
}

func (r *reference) solve(ctx context.Context) (*snapshot.Ref, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.solved || r.def == nil {
		return r.ref, nil
	}
	ref, err := r.executor.Solve(ctx, r.def)
	if err != nil {
		return nil, err
	}
	r.ref, r.solved = ref, true
	return ref, nil
}

func (r *reference) view(ctx context.Context) (*snapshot.View, error) {
	ref, err := r.solve(ctx)
	if err != nil {
		return nil, err
	}
	return r.executor.View(ctx, ref)
}
