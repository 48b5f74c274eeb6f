package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
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
	path, err := inside(view.Path, req.Filename)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, shorten(err, req.Filename)
	}
	defer f.Close() //nolint:errcheck // read only
	length := int64(maxRead)
	if req.Range != nil {
		if _, err := f.Seek(int64(req.Range.Offset), io.SeekStart); err != nil {
			return nil, shorten(err, req.Filename)
		}
		if req.Range.Length > 0 {
			length = min(length, int64(req.Range.Length))
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, length))
	if err != nil {
		return nil, shorten(err, req.Filename)
	}
	return data, nil
}

// StatFile describes a file; a link is followed.
func (r *reference) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	view, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	defer view.Release()
	path, err := inside(view.Path, req.Path)
	if err != nil {
		return nil, err
	}
	stat, err := fsutil.Stat(path)
	if err != nil {
		return nil, shorten(err, req.Path)
	}
	return stat, nil
}

// ReadDir lists a folder.
func (r *reference) ReadDir(ctx context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	view, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	defer view.Release()
	path, err := inside(view.Path, req.Path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, shorten(err, req.Path)
	}
	var stats []*fstypes.Stat
	for _, entry := range entries {
		if req.IncludePattern != "" {
			if ok, err := filepath.Match(req.IncludePattern, entry.Name()); err != nil || !ok {
				continue
			}
		}
		stat, err := fsutil.Stat(filepath.Join(path, entry.Name()))
		if err != nil {
			return nil, shorten(err, req.Path)
		}
		stats = append(stats, stat)
	}
	return stats, nil
}

// inside resolves name below root, whatever the links say.
func inside(root, name string) (string, error) {
	path, err := fs.RootPath(root, name)
	if err != nil {
		return "", shorten(err, name)
	}
	return path, nil
}

// shorten takes the store's own folder out of an error.
func shorten(err error, name string) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		pathErr.Path = strings.TrimPrefix(name, "/")
	}
	return err
}
