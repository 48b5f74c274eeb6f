package solver

import (
	"context"
	"errors"
	"fmt"
	gofs "io/fs"
	"path"
	"strings"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/fsutil"
)

// errFound ends a walk.
var errFound = errors.New("found")

// require refuses a COPY --parents of a path that is not there, or that --exclude
// leaves out. The copy itself takes the path for a pattern, which may match
// nothing; BuildKit refuses it when it computes the cache key, which we do not.
func require(ctx context.Context, from string, action *pb.FileActionCopy) error {
	if len(action.RequiredPaths) == 0 {
		return nil
	}
	src := path.Join("/", action.Src)
	root, err := fs.RootPath(from, src)
	if err != nil {
		return fmt.Errorf("%s: %w", action.Src, err)
	}
	base, err := fsutil.NewFS(root)
	if errors.Is(err, gofs.ErrNotExist) {
		return fmt.Errorf("%s: %w", action.RequiredPaths[0], gofs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", action.Src, err)
	}
	filtered, err := fsutil.NewFilterFS(base, &fsutil.FilterOpt{IncludePatterns: action.IncludePatterns, ExcludePatterns: action.ExcludePatterns})
	if err != nil {
		return fmt.Errorf("%s: %w", action.Src, err)
	}
	// A source that is a link is required where it leads to, as BuildKit has it.
	src = path.Join("/", strings.TrimPrefix(root, from))
	for _, wanted := range action.RequiredPaths {
		err := filtered.Walk(ctx, "", func(name string, _ gofs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(path.Join(src, name), wanted) {
				return errFound
			}
			return err
		})
		if err == nil {
			return fmt.Errorf("%s: %w", wanted, gofs.ErrNotExist)
		}
		if !errors.Is(err, errFound) {
			return fmt.Errorf("%s: %w", wanted, err)
		}
	}
	return nil
}
