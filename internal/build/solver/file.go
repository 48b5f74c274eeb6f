package solver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/moby/buildkit/solver/llbsolver/file"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/llbsolver/ops/fileoptypes"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/snapshot"
)

// fileOp copies, makes and removes files. BuildKit's FileOpSolver says what
// that means; it works on plain folders that fileRefs hands to it.
type fileOp struct {
	solver *Solver
	vertex *vertex
	file   *pb.FileOp
}

func (o *fileOp) run(ctx context.Context, inputs []*snapshot.Ref) ([]*snapshot.Ref, error) {
	o.solver.running.RLock()
	defer o.solver.running.RUnlock()

	refs := &fileRefs{solver: o.solver, vertex: o.vertex, outline: !o.whole(), trees: map[*snapshot.Ref]string{}}
	defer refs.release()
	handles := make([]fileoptypes.Ref, len(inputs))
	for i, ref := range inputs {
		handles[i] = refs.handle(ref, o.vertex.inputs[i])
	}
	// What is copied from is looked at first: a folder with a reader is not taken over.
	for _, action := range o.file.Actions {
		if i := int(action.SecondaryInput); i >= 0 && i < len(inputs) {
			if _, err := refs.look(ctx, inputs[i]); err != nil {
				return nil, err
			}
		}
	}
	backend, err := file.NewFileOpBackend(readOwner)
	if err != nil {
		return nil, fmt.Errorf("file operation: %w", err)
	}
	manager := file.NewRefManager(&fileManager{refs: refs}, o.vertex.name)
	outs, err := ops.NewFileOpSolver(nil, &noting{Backend: &unpacker{Backend: backend}, failed: &refs.failed}, manager).Solve(ctx, handles, o.file.Actions, nil)
	if err != nil {
		return nil, plain(err)
	}
	results := make([]*snapshot.Ref, len(outs))
	for i, out := range outs {
		handle, ok := out.(*fileRef)
		if !ok {
			return nil, fmt.Errorf("file operation: output of type %T", out)
		}
		results[i] = handle.ref
	}
	return results, o.solver.used(o.vertex, inputs)
}

func (o *fileOp) whole() bool {
	for i := range o.file.Actions {
		if o.solver.wantsWhole(o.vertex, i) {
			return true
		}
	}
	return false
}

// plain takes BuildKit's wrapping off an error: it holds the inputs for a
// debugger that nobody will attach.
func plain(err error) error {
	for {
		wrapper, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		inner := wrapper.Unwrap()
		if inner == nil || inner.Error() != err.Error() {
			return err
		}
		if errors.Is(inner, context.Canceled) {
			return inner
		}
		err = inner
	}
}

// noting is a backend that remembers whether something failed.
type noting struct {
	fileoptypes.Backend
	failed *atomic.Bool
}

func (n *noting) note(err error) error {
	if err != nil {
		n.failed.Store(true)
	}
	return err
}

// Mkdir makes a folder.
func (n *noting) Mkdir(ctx context.Context, m, user, group fileoptypes.Mount, action *pb.FileActionMkDir) error {
	return n.note(n.Backend.Mkdir(ctx, m, user, group, action))
}

// Mkfile makes a file.
func (n *noting) Mkfile(ctx context.Context, m, user, group fileoptypes.Mount, action *pb.FileActionMkFile) error {
	return n.note(n.Backend.Mkfile(ctx, m, user, group, action))
}

// Copy copies, or unpacks.
func (n *noting) Copy(ctx context.Context, src, dest, user, group fileoptypes.Mount, action *pb.FileActionCopy) error {
	return n.note(n.Backend.Copy(ctx, src, dest, user, group, action))
}
