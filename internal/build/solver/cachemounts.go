package solver

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/mounts"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/snapshot"
)

// cacheMounts keeps the folders of RUN --mount=type=cache for the time of a
// build. What earlier builds left of one is put on disk when the first RUN that
// has it runs.
type cacheMounts struct {
	store    *snapshot.Store
	kept     *mounts.Set
	progress progress.Func

	mu      sync.Mutex
	folders map[string][]*cacheFolder
}

// cacheFolder is one folder of a cache mount. Private mounts that are in use at
// the same time get one each.
type cacheFolder struct {
	// busy is held by the only user of a private or locked mount.
	busy chan struct{}

	// fill lets one RUN put the content there that the others then find.
	fill sync.Mutex
	path string
}

// cacheWant is what a RUN asks for.
type cacheWant struct {
	key string
	// name is what the log calls it, and initial its content when it is new.
	name    string
	initial *snapshot.Ref
	sharing pb.CacheSharingOpt
}

// get gives the folder of a cache mount, and a function that ends its use.
func (c *cacheMounts) get(ctx context.Context, want cacheWant) (path string, release func(), err error) {
	folder, first := c.folder(want.key, want.sharing)
	release = func() {}
	switch want.sharing {
	case pb.CacheSharingOpt_LOCKED:
		select {
		case folder.busy <- struct{}{}:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
		release = func() { <-folder.busy }
	case pb.CacheSharingOpt_PRIVATE:
		release = func() { <-folder.busy }
	}
	folder.fill.Lock()
	defer folder.fill.Unlock()
	if folder.path == "" {
		if folder.path, err = c.make(ctx, want, first); err != nil {
			release()
			return "", nil, fmt.Errorf("cache mount %s: %w", strings.SplitN(want.key, ":", 2)[0], err)
		}
	}
	return folder.path, release, nil
}

// folder chooses the folder of a mount, and takes it if it is to be private.
// First is that which outlives the build.
func (c *cacheMounts) folder(key string, sharing pb.CacheSharingOpt) (f *cacheFolder, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.folders[key] {
		if sharing != pb.CacheSharingOpt_PRIVATE {
			return f, i == 0
		}
		select {
		case f.busy <- struct{}{}:
			return f, i == 0
		default:
		}
	}
	f = &cacheFolder{busy: make(chan struct{}, 1)}
	if sharing == pb.CacheSharingOpt_PRIVATE {
		f.busy <- struct{}{}
	}
	if c.folders == nil {
		c.folders = map[string][]*cacheFolder{}
	}
	c.folders[key] = append(c.folders[key], f)
	return f, len(c.folders[key]) == 1
}

// make puts a mount's folder on disk: as an earlier build left it, or else with
// its initial content.
func (c *cacheMounts) make(ctx context.Context, want cacheWant, first bool) (string, error) {
	if c.kept == nil || !first {
		return c.begin(ctx, want.initial)
	}
	path := ""
	err := c.kept.Open(ctx)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		c.progress.Emit(progress.Warning{Message: fmt.Sprintf("cache mounts begin empty, as what is kept of them cannot be read: %v", err)})
	}
	if c.kept.Has(want.key) {
		if path, err = c.restore(ctx, want); err != nil {
			return "", err
		}
	}
	if path == "" {
		if path, err = c.begin(ctx, want.initial); err != nil {
			return "", err
		}
	}
	c.kept.Use(want.key, path)
	return path, nil
}

// begin makes a folder with the content of initial.
func (c *cacheMounts) begin(ctx context.Context, initial *snapshot.Ref) (string, error) {
	if initial == nil {
		return c.store.Dir("mount")
	}
	tree, err := c.store.Change(ctx, initial, snapshot.Access{})
	if err != nil {
		return "", err
	}
	return tree.Path, nil
}

// restore puts a mount on disk as it was left. Where that fails the path is
// empty: the RUN takes longer, and nothing else.
func (c *cacheMounts) restore(ctx context.Context, want cacheWant) (string, error) {
	begin := time.Now()
	path, err := c.store.Dir("mount")
	if err != nil {
		return "", err
	}
	restored, err := c.kept.Restore(ctx, want.key, path)
	if err == nil {
		c.progress.Emit(progress.MountRestored{Path: want.name, Files: restored.Files, Size: restored.Size, Duration: time.Since(begin)})
		return path, nil
	}
	if removeErr := os.RemoveAll(path); ctx.Err() == nil && removeErr != nil {
		return "", removeErr
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	c.progress.Emit(progress.Warning{Message: fmt.Sprintf("the cache mount %s begins empty, as what is kept of it cannot be read: %v", want.name, err)})
	return "", nil
}
