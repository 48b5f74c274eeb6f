package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/build/solver"
)

// Cache is what an earlier build left; see ReadCache.
type Cache = solver.Cache

// CacheMode says which steps' results a cache keeps.
type CacheMode = solver.CacheMode

// The modes have the names and meanings of buildx's cache-to.
const (
	CacheMax = solver.CacheMax
	CacheMin = solver.CacheMin
)

// cacheConfig is the media type of a cache's config (buildkit,
// cache/remotecache/v1/types).
const cacheConfig = "application/vnd.buildkit.cacheconfig.v0"

// ReadCache reads a cache that lies in a registry as an image manifest, as
// Result.Cache is pushed and buildx writes it (image-manifest=true). Its layers
// are not fetched.
func ReadCache(image v1.Image) (Cache, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	if manifest.Config.MediaType != cacheConfig {
		return Cache{}, fmt.Errorf("cache: the manifest's config is %s, not a build cache", manifest.Config.MediaType)
	}
	c := Cache{Descriptors: manifest.Layers}
	if c.Config, err = image.RawConfigFile(); err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	if c.Layers, err = image.Layers(); err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	return c, nil
}

// cacheImage is a cache as a registry keeps it.
func cacheImage(c Cache) (*Image, error) {
	descriptors := slices.Clone(c.Descriptors)
	for i, d := range descriptors {
		descriptors[i].MediaType = ociMediaType(d.MediaType)
		descriptors[i].Annotations = maps.Clone(d.Annotations)
	}
	return storedImage(cacheConfig, c.Config, c.Layers, descriptors)
}

// storedImage is something that a registry keeps in the form of an image.
func storedImage(media types.MediaType, config []byte, layers []v1.Layer, descriptors []v1.Descriptor) (*Image, error) {
	image := &Image{config: config, media: types.OCIManifestSchema1, layers: layers}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: v1.Descriptor{MediaType: media}, Layers: descriptors}
	var err error
	if manifest.Config.Digest, manifest.Config.Size, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if image.manifest, err = json.Marshal(manifest); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return image, nil
}
