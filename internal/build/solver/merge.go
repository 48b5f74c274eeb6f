package solver

import (
	"context"

	"github.com/towline/towline/internal/build/snapshot"
)

// mergeOp lays states over each other, as COPY --link does: the copied files are
// a layer of their own, which stays the same whatever it is put upon.
type mergeOp struct {
	solver *Solver
	vertex *vertex
}

func (o *mergeOp) run(ctx context.Context, inputs []*snapshot.Ref) ([]*snapshot.Ref, error) {
	ref, err := o.solver.opts.Store.Merge(ctx, o.vertex.digest.String(), inputs)
	if err != nil {
		return nil, err
	}
	return []*snapshot.Ref{ref}, o.solver.used(o.vertex, inputs)
}
