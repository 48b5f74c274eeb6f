package solver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/problem"
)

// runner does the work of one kind of operation.
type runner interface {
	run(ctx context.Context, inputs []*snapshot.Ref) ([]*snapshot.Ref, error)
}

// op is an operation as BuildKit's scheduler calls it.
type op struct {
	solver *Solver
	vertex *vertex
	runner runner
}

func (s *Solver) resolve(v solver.Vertex) (solver.Op, error) {
	vtx, ok := v.Sys().(*vertex)
	if !ok {
		return nil, fmt.Errorf("solver: vertex of type %T", v.Sys())
	}
	o := &op{solver: s, vertex: vtx}
	switch kind := vtx.op.Op.(type) {
	case *pb.Op_Source:
		o.runner = &sourceOp{solver: s, vertex: vtx, source: kind.Source}
	case *pb.Op_File:
		o.runner = &fileOp{solver: s, vertex: vtx, file: kind.File}
	case *pb.Op_Exec:
		o.runner = &execOp{solver: s, vertex: vtx, exec: kind.Exec}
	case *pb.Op_Merge:
		o.runner = &mergeOp{solver: s, vertex: vtx}
	default:
		return nil, o.locate(fmt.Errorf("operation %T is not supported", kind))
	}
	return o, nil
}

// Acquire asks for nothing: an operation that waits for its inputs holds no slot.
func (o *op) Acquire(context.Context) (solver.ReleaseFunc, error) { return func() {}, nil }

// Exec runs the operation and tells its progress.
func (o *op) Exec(ctx context.Context, _ solver.JobContext, inputs []solver.Result) ([]solver.Result, error) {
	refs := make([]*snapshot.Ref, len(inputs))
	for i, in := range inputs {
		ref, err := refOf(in)
		if err != nil {
			return nil, err
		}
		refs[i] = ref
	}
	o.solver.begun(o.vertex)
	o.solver.tellCached(o.vertex)
	begin, at := time.Now(), o.solver.place(o.vertex)
	id := o.vertex.digest.String()
	o.solver.opts.Progress.Emit(progress.StepStarted{ID: id, Name: o.vertex.name, File: at.file, Line: at.line})
	outs, err := o.runner.run(ctx, refs)
	if err == nil {
		err = o.solver.tell(ctx, o.vertex, outs)
	}
	o.solver.opts.Progress.Emit(progress.StepDone{ID: id, Err: err, Duration: time.Since(begin)})
	if err != nil {
		return nil, o.locate(err)
	}
	results := make([]solver.Result, len(outs))
	for i, ref := range outs {
		results[i] = o.solver.newResult(o.vertex, i, ref)
	}
	return results, nil
}

// locate makes err a problem with the operation's place in the Dockerfile.
func (o *op) locate(err error) error {
	at := o.solver.place(o.vertex)
	err = o.solver.opts.Store.Full(err)
	if known, ok := errors.AsType[*problem.Error](err); ok {
		if known.File == "" {
			known.File, known.Line = at.file, at.line
		}
		return err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &problem.Error{Op: "build " + o.vertex.name, Err: err, File: at.file, Line: at.line}
}
