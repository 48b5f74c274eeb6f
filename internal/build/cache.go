package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/build/layer"
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
// Result.Cache is pushed and buildx writes it (image-manifest=true), or in the
// config of an image (type=inline). Its layers are not fetched.
func ReadCache(image v1.Image) (Cache, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	if manifest.Config.MediaType != cacheConfig {
		return readInline(image, manifest)
	}
	c := Cache{}
	if c.Config, err = image.RawConfigFile(); err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != len(manifest.Layers) {
		return Cache{}, fmt.Errorf("cache: %d layers: %w", len(layers), err)
	}
	takeLayers(&c, manifest.Layers, layers)
	return c, nil
}

// annotationOutline is the digest of the layer that a blob is the outline of.
const annotationOutline = "io.github.towline.outline"

// noteOutlines adds to a cache what is known of the layers that it names.
func noteOutlines(c *Cache, known map[v1.Hash]v1.Layer) {
	c.Outlines = map[v1.Hash]v1.Layer{}
	for _, d := range c.Descriptors {
		if l := known[d.Digest]; l != nil {
			c.Outlines[d.Digest] = l
		}
	}
}

// knownOutlines are those of all caches.
func knownOutlines(caches []Cache) map[v1.Hash]v1.Layer {
	known := map[v1.Hash]v1.Layer{}
	for _, c := range caches {
		maps.Copy(known, c.Outlines)
	}
	return known
}

// cacheImage is a cache as a registry keeps it.
func cacheImage(c Cache) (*Image, error) {
	descriptors := slices.Clone(c.Descriptors)
	for i, d := range descriptors {
		descriptors[i].MediaType = ociMediaType(d.MediaType)
		descriptors[i].Annotations = maps.Clone(d.Annotations)
	}
	layers := slices.Clone(c.Layers)
	for _, d := range c.Descriptors { // BuildKit reads the layers that its config names, and no others
		l := c.Outlines[d.Digest]
		if l == nil {
			continue
		}
		digest, err := l.Digest()
		if err != nil {
			return nil, fmt.Errorf("cache: outline: %w", err)
		}
		size, err := l.Size()
		if err != nil {
			return nil, fmt.Errorf("cache: outline %s: %w", digest, err)
		}
		layers = append(layers, l)
		descriptors = append(descriptors, v1.Descriptor{
			MediaType: layer.OutlineType, Digest: digest, Size: size, Annotations: map[string]string{annotationOutline: d.Digest.String()},
		})
	}
	return storedImage(cacheConfig, c.Config, layers, descriptors)
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

// lost says whether one of the layers that could not be read is a cache's.
func lost(unreadable []v1.Hash, caches []Cache) bool {
	return slices.ContainsFunc(caches, func(c Cache) bool {
		return slices.ContainsFunc(c.Descriptors, func(d v1.Descriptor) bool { return slices.Contains(unreadable, d.Digest) })
	})
}
