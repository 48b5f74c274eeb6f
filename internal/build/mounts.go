package build

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/towline/towline/internal/build/mounts"
)

// Mounts is what earlier builds left of their cache mounts; see ReadMounts.
type Mounts = mounts.Saved

// MountsKept says what Result.Mounts found.
type MountsKept = mounts.Kept

// MountOptions says how the folders of RUN --mount=type=cache are kept.
type MountOptions struct {
	// Keep lets Result.Mounts give them. Default: they are dropped with the build.
	Keep bool
	// From gives what earlier builds left; the zero Mounts is nothing. It is asked
	// once, when the first RUN with a cache mount runs. An error is a warning. It may be nil.
	From func(context.Context) (Mounts, error)
	// MaxSize bounds the files of all mounts together, in bytes. Default: 4 GiB.
	MaxSize int64
}

// ReadMounts reads the cache mounts that lie in a registry as an image manifest,
// as Result.Mounts gives them. Their content is not fetched.
func ReadMounts(image v1.Image) (Mounts, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return Mounts{}, fmt.Errorf("cache mounts: %w", err)
	}
	if manifest.Config.MediaType != mounts.ConfigType {
		return Mounts{}, fmt.Errorf("the manifest's config is %s, not that of cache mounts", manifest.Config.MediaType)
	}
	var m Mounts
	if m.Config, err = image.RawConfigFile(); err != nil {
		return Mounts{}, fmt.Errorf("cache mounts: %w", err)
	}
	if m.Layers, err = image.Layers(); err != nil {
		return Mounts{}, fmt.Errorf("cache mounts: %w", err)
	}
	return m, nil
}

// mountSet keeps the cache mounts of a build, or is nil.
func (o Options) mountSet() *mounts.Set {
	if !o.Mounts.Keep {
		return nil
	}
	opts := mounts.Options{
		From: o.Mounts.From, MaxSize: o.Mounts.MaxSize, Now: o.Now,
		Dir: filepath.Join(o.Dir, "mounts"), IgnoreOwner: singleOwner(),
	}
	if fetcher, ok := o.Images.(Fetcher); ok {
		opts.Fetch = fetcher.Fetch
	}
	return mounts.New(opts)
}

// Mounts gives the folders of RUN --mount=type=cache as a later build may begin
// with them. The image is nil if there is nothing to write: no RUN had such a
// mount, or what is kept already says it all. Its layers are on disk until Close.
func (r *Result) Mounts(ctx context.Context) (*Image, MountsKept, error) {
	if r.mounts == nil || !r.mounts.Used() {
		return nil, MountsKept{}, nil
	}
	left, kept, err := r.mounts.Save(ctx)
	if err != nil || !kept.Changed {
		return nil, kept, err
	}
	descriptors := make([]v1.Descriptor, 0, len(left.Layers))
	for _, l := range left.Layers {
		var d *v1.Descriptor
		if d, err = partial.Descriptor(l); err != nil {
			return nil, kept, fmt.Errorf("cache mounts: %w", err)
		}
		descriptors = append(descriptors, v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	}
	image, err := storedImage(mounts.ConfigType, left.Config, slices.Clone(left.Layers), descriptors)
	return image, kept, err
}
