package solver

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/build/source"
)

// sourceOp brings an image or a build context in.
type sourceOp struct {
	solver *Solver
	vertex *vertex
	source *pb.SourceOp
}

func (o *sourceOp) run(ctx context.Context, _ []*snapshot.Ref) ([]*snapshot.Ref, error) {
	src, err := source.Parse(o.source)
	if err != nil {
		return nil, err
	}
	var ref *snapshot.Ref
	switch src := src.(type) {
	case source.Image:
		ref, err = o.image(ctx, src)
	case source.Folder:
		ref, err = o.folder(ctx, src)
	case source.Repository:
		ref, err = o.repository(ctx, src)
	case source.Download:
		ref, err = o.download(ctx, src)
	case source.Layout:
		ref, err = o.image(ctx, source.Image{Ref: src.Name(), LayerLimit: src.LayerLimit})
	default:
		err = fmt.Errorf("source %s is not supported", o.source.Identifier)
	}
	if err != nil {
		return nil, err
	}
	return []*snapshot.Ref{ref}, nil
}

func (o *sourceOp) image(ctx context.Context, src source.Image) (*snapshot.Ref, error) {
	image, err := o.solver.opts.Images.Image(ctx, src.Ref, o.platform())
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", src.Ref, err)
	}
	if src.LayerLimit > 0 && src.LayerLimit < len(layers) {
		layers = layers[:src.LayerLimit]
	}
	return o.solver.opts.Store.Image(src.Ref, layers), nil
}

// platform is what the source is wanted for.
func (o *sourceOp) platform() v1.Platform {
	if p := o.vertex.op.Platform; p != nil {
		return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
	}
	return o.solver.opts.Platforms[0]
}

func (o *sourceOp) folder(ctx context.Context, src source.Folder) (*snapshot.Ref, error) {
	dir, ok := o.solver.opts.Contexts[src.Name]
	if !ok {
		return nil, errors.New("build context " + src.Name + " does not exist")
	}
	o.solver.outside.RLock()
	defer o.solver.outside.RUnlock()
	dest, err := o.solver.opts.Store.Dir("context")
	if err != nil {
		return nil, err
	}
	if _, err := source.Local(ctx, dir, dest, src.Filter); err != nil {
		return nil, err
	}
	return o.solver.opts.Store.Folder(src.Name, dest), nil
}
