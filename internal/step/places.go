package step

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/actionscache"
	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/inputs"
)

const (
	// maxIndex bounds the index of a cache in GitHub's cache service.
	maxIndex = 64 << 20
	// blobsAtOnce is how many layers are written to it side by side.
	blobsAtOnce = 4
)

// placeName is how a place outside of registries is told.
func placeName(p inputs.CachePlace) string {
	if p.Folder != "" {
		return p.Folder
	}
	return "GitHub's cache, scope " + p.Actions.Scope
}

// readPlace reads the caches of a place: a branch's and its base's may both count.
func (s *Step) readPlace(ctx context.Context, p inputs.CachePlace) []build.Cache {
	ctx, cancel := context.WithTimeoutCause(ctx, cacheReadLimit, errors.New("it took too long"))
	defer cancel()
	var found []build.Cache
	var err error
	if p.Folder == "" {
		found, err = s.readActionsCaches(ctx, p.Actions)
	} else {
		var c build.Cache
		if c, err = build.ReadCacheFolder(p.Folder, p.Tag, p.Digest); err == nil {
			found = []build.Cache{c}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(found) == 0:
		s.report.Say("cache", placeName(p), "there is none yet")
		return nil
	case err != nil:
		s.report.Warning(fmt.Sprintf("the build cache %s is not used: %v", placeName(p), err))
	}
	return found
}

// uploadPlace writes the cache to a place.
func (s *Step) uploadPlace(ctx context.Context, cache *build.Image, p inputs.CachePlace, u *upload) {
	u.what, u.loss, u.where = "build cache", "so the next build does everything again", placeName(p)
	if layers, err := cache.Layers(); err == nil {
		u.said = []string{plural(len(layers), "layer")}
	}
	if p.Folder != "" {
		u.err = build.WriteCacheFolder(ctx, cache, p.Folder, p.Tag)
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.Actions.Timeout, fmt.Errorf("it took longer than its timeout of %s", p.Actions.Timeout))
	defer cancel()
	u.err = s.writeActionsCache(ctx, cache, p.Actions)
}

func (s *Step) actionsCache(p inputs.ActionsCache) (*actionscache.Client, error) {
	if p.Token != "" {
		s.runner.Mask(p.Token)
	}
	return actionscache.New(actionscache.Options{URL: p.URL, Token: p.Token, Transport: s.opts.Transport})
}

// Keys of entries are BuildKit's (buildkit, cache/remotecache/gha): a blob's holds
// its digest, and an index has a number behind it that grows.
func actionsBlobKey(digest v1.Hash) string { return "buildkit-blob-1-" + digest.String() }

func actionsIndexKey(cacheScope, branch string) string {
	sum := sha256.Sum256([]byte(branch))
	return fmt.Sprintf("index-%s-1-%x#", cacheScope, sum[:4])
}

func (s *Step) readActionsCaches(ctx context.Context, p inputs.ActionsCache) ([]build.Cache, error) {
	client, err := s.actionsCache(p)
	if err != nil {
		return nil, err
	}
	branches := client.Scopes()
	found := make([]*build.Cache, len(branches))
	group, within := errgroup.WithContext(ctx)
	for i, branch := range branches {
		group.Go(func() error {
			entry, findErr := client.Find(within, actionsIndexKey(p.Scope, branch), true)
			if findErr != nil || entry == nil {
				return findErr
			}
			config, readErr := readEntry(within, client, entry)
			if readErr != nil {
				return readErr
			}
			c, readErr := build.ReadDescribedCache(config, actionsBlobs(context.WithoutCancel(ctx), client))
			found[i] = &c
			return readErr
		})
	}
	if err = group.Wait(); err != nil {
		return nil, err
	}
	var caches []build.Cache
	for _, c := range found {
		if c != nil {
			caches = append(caches, *c)
		}
	}
	return caches, nil
}

func readEntry(ctx context.Context, client *actionscache.Client, entry *actionscache.Entry) ([]byte, error) {
	r, err := client.Open(ctx, entry)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read from
	return io.ReadAll(io.LimitReader(r, maxIndex))
}

// actionsBlobs opens layers when a step needs them. ctx outlives the reading of
// the index.
func actionsBlobs(ctx context.Context, client *actionscache.Client) build.Blobs {
	return func(digest v1.Hash) (io.ReadCloser, error) {
		entry, err := client.Find(ctx, actionsBlobKey(digest), false)
		if err != nil {
			return nil, err
		}
		if entry == nil {
			return nil, fmt.Errorf("layer %s is no longer in GitHub's cache", digest)
		}
		return client.Open(ctx, entry)
	}
}

// writeActionsCache writes the layers that are missing, and then the index.
func (s *Step) writeActionsCache(ctx context.Context, cache *build.Image, p inputs.ActionsCache) error {
	client, err := s.actionsCache(p)
	if err != nil {
		return err
	}
	branch := client.WriteScope()
	if branch == "" {
		return errors.New("this job may only read the cache, as for a pull request of a fork")
	}
	config, layers, err := build.DescribeCache(cache)
	if err != nil {
		return err
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(blobsAtOnce)
	for _, l := range layers {
		group.Go(func() error { return saveLayer(within, client, l) })
	}
	if err = group.Wait(); err != nil {
		return err
	}
	return saveIndex(ctx, client, actionsIndexKey(p.Scope, branch), config)
}

func saveLayer(ctx context.Context, client *actionscache.Client, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	size, err := l.Size()
	if err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	key := actionsBlobKey(digest)
	entry, err := client.Find(ctx, key, false)
	if err != nil || entry != nil {
		return err
	}
	if err = client.Save(ctx, key, size, l.Compressed); errors.Is(err, actionscache.ErrExists) {
		return nil // another job is writing the same
	}
	return err
}

// saveIndex writes the next index. Where another job has just taken that number,
// the one after it is tried.
func saveIndex(ctx context.Context, client *actionscache.Client, key string, config []byte) error {
	latest, err := client.Find(ctx, key, true)
	if err != nil {
		return err
	}
	number := 0
	if latest != nil {
		before, readErr := readEntry(ctx, client, latest)
		if readErr == nil && bytes.Equal(before, config) {
			return nil
		}
		if number, err = strconv.Atoi(strings.TrimPrefix(latest.Key, key)); err != nil {
			return fmt.Errorf("entry %s: its number cannot be read", latest.Key)
		}
	}
	for range 10 {
		number++
		err = client.Save(ctx, key+strconv.Itoa(number), int64(len(config)), func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(config)), nil
		})
		if !errors.Is(err, actionscache.ErrExists) {
			return err
		}
	}
	return err
}

// beginPlaces begins to write the cache to places outside of registries.
func (s *Step) beginPlaces(ctx context.Context, cache *build.Image, places []inputs.CachePlace) {
	for _, p := range places {
		s.caching.begin(func(u *upload) { s.uploadPlace(ctx, cache, p, u) })
	}
}
