package dockerfile

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/towline/towline/internal/build/source"
)

// maxRead bounds what the frontend may read of one file, as BuildKit does.
const maxRead = 16 << 20

// ToState gives the definition back as the frontend's own kind of state.
func (r *reference) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, fmt.Errorf("reference: %w", err)
	}
	return llb.NewState(op), nil
}

// Evaluate executes the definition.
func (r *reference) Evaluate(ctx context.Context) error {
	_, err := r.solve(ctx)
	return err
}

// ReadFile reads a part of a file.
func (r *reference) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	view, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	defer view.Release()
	offset, length := 0, maxRead
	if req.Range != nil {
		offset = req.Range.Offset
		if req.Range.Length > 0 {
			length = min(length, req.Range.Length)
		}
	}
	return source.ReadFile(view.Path, req.Filename, offset, length)
}

// StatFile describes a file; a link is followed.
func (r *reference) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	view, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	defer view.Release()
	return source.Stat(view.Path, req.Path)
}

// ReadDir is never called by the Dockerfile frontend.
func (r *reference) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, errors.New("folders are not listed for a frontend")
}
