package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/internal/build/layer"
)

// Blobs opens what a digest names, wherever that lies. What is read is compared
// with the digest.
type Blobs func(digest v1.Hash) (io.ReadCloser, error)

// maxCacheConfig bounds manifests and configs of caches; large ones have some MiB.
const maxCacheConfig = 64 << 20

// read gives a small blob.
func (b Blobs) read(desc v1.Hash) ([]byte, error) {
	r, err := b.open(desc)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(r, maxCacheConfig))
	if err == nil && len(data) == maxCacheConfig {
		err = errors.New("it is too large")
	}
	return data, err
}

func (b Blobs) open(desc v1.Hash) (io.ReadCloser, error) {
	r, err := b(desc)
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: r, want: desc, sum: sha256.New()}, nil
}

// verified fails at its end if it is not what its digest says.
type verified struct {
	io.ReadCloser
	want v1.Hash
	sum  hash.Hash
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want.Hex {
			return n, fmt.Errorf("blob %s: it has the digest sha256:%s", v.want, got)
		}
	}
	return n, err
}

// blob is a layer of a cache, described by what names it.
type blob struct {
	desc   v1.Descriptor
	diffID v1.Hash
	blobs  Blobs
}

// Digest implements partial.CompressedLayer.
func (b *blob) Digest() (v1.Hash, error) { return b.desc.Digest, nil }

// DiffID implements partial.WithDiffID.
func (b *blob) DiffID() (v1.Hash, error) { return b.diffID, nil }

// Size implements partial.CompressedLayer.
func (b *blob) Size() (int64, error) { return b.desc.Size, nil }

// MediaType implements partial.CompressedLayer.
func (b *blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }

// Compressed implements partial.CompressedLayer.
func (b *blob) Compressed() (io.ReadCloser, error) { return b.blobs.open(b.desc.Digest) }

// layer is the layer that d describes; its diff ID is among the annotations,
// unless it is an outline.
func (b Blobs) layer(d v1.Descriptor) (v1.Layer, error) {
	l := &blob{desc: d, blobs: b}
	if d.MediaType != layer.OutlineType {
		var err error
		if l.diffID, err = v1.NewHash(d.Annotations[annotationDiffID]); err != nil {
			return nil, fmt.Errorf("cache: layer %s: diff ID: %w", d.Digest, err)
		}
	}
	return partial.CompressedToLayer(l)
}

// ReadCacheFolder reads a cache in a folder, as buildx writes it with type=local:
// the one that the index names tag, or else the manifest of a digest. An error is
// fs.ErrNotExist if there is none.
func ReadCacheFolder(dir, tag, manifest string) (Cache, error) {
	blobs := Blobs(func(d v1.Hash) (io.ReadCloser, error) {
		return os.Open(filepath.Join(dir, "blobs", d.Algorithm, d.Hex)) //nolint:gosec // the folder that the user names
	})
	if manifest == "" {
		index, err := readFolderIndex(dir)
		if err != nil {
			return Cache{}, err
		}
		i := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return isNamed(d, tag) })
		if i < 0 {
			return Cache{}, fmt.Errorf("cache: nothing is named %s: %w", tag, fs.ErrNotExist)
		}
		manifest = index.Manifests[i].Digest.String()
	}
	d, err := v1.NewHash(manifest)
	if err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	return blobs.cache(d)
}

func isNamed(d v1.Descriptor, tag string) bool {
	return d.Annotations[ocispec.AnnotationRefName] == tag
}

func readFolderIndex(dir string) (v1.IndexManifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile)) //nolint:gosec // the folder that the user names
	var index v1.IndexManifest
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		return index, fmt.Errorf("cache: %w", err)
	}
	return index, nil
}

// cache reads the cache that a manifest is, or an index (image-manifest=false).
func (b Blobs) cache(top v1.Hash) (Cache, error) {
	raw, err := b.read(top)
	if err != nil {
		return Cache{}, fmt.Errorf("cache: manifest %s: %w", top, err)
	}
	var either struct {
		v1.Manifest

		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err = json.Unmarshal(raw, &either); err != nil {
		return Cache{}, fmt.Errorf("cache: manifest %s: %w", top, err)
	}
	manifest := either.Manifest
	for _, d := range either.Manifests {
		if d.MediaType == cacheConfig {
			manifest.Config = d
		} else {
			manifest.Layers = append(manifest.Layers, d)
		}
	}
	if manifest.Config.MediaType != cacheConfig {
		return Cache{}, fmt.Errorf("cache: manifest %s: its config is %q, not a build cache", top, manifest.Config.MediaType)
	}
	c := Cache{}
	if c.Config, err = b.read(manifest.Config.Digest); err != nil {
		return Cache{}, fmt.Errorf("cache: config: %w", err)
	}
	var layers []v1.Layer
	for _, d := range manifest.Layers {
		l, layerErr := b.layer(d)
		if layerErr != nil {
			return Cache{}, layerErr
		}
		layers = append(layers, l)
	}
	takeLayers(&c, manifest.Layers, layers)
	return c, nil
}

// takeLayers adds layers to a cache, and outlines to its outlines.
func takeLayers(c *Cache, descriptors []v1.Descriptor, layers []v1.Layer) {
	for i, d := range descriptors {
		of, err := v1.NewHash(d.Annotations[annotationOutline])
		if d.MediaType == layer.OutlineType && err == nil {
			if c.Outlines == nil {
				c.Outlines = map[v1.Hash]v1.Layer{}
			}
			c.Outlines[of] = layers[i]
			continue
		}
		c.Layers, c.Descriptors = append(c.Layers, layers[i]), append(c.Descriptors, d)
	}
}

// WriteCacheFolder writes a cache into a folder, as buildx does with type=local:
// beside what is there already, under a name of its own.
func WriteCacheFolder(ctx context.Context, cache *Image, dir, tag string) error {
	above, err := makeParents(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return err
	}
	sink := &layoutFolder{ctx: ctx, dir: dir, owner: above}
	err = writeImage(cache, func(d v1.Hash, size int64, open func() (io.ReadCloser, error)) error {
		path := "blobs/" + d.Algorithm + "/" + d.Hex
		if info, statErr := os.Stat(filepath.Join(dir, path)); statErr == nil && info.Size() == size {
			return nil
		}
		return sink.file(path, size, open)
	})
	if err != nil {
		return err
	}
	desc, err := partial.Descriptor(cache)
	if err != nil {
		return err
	}
	index, err := readFolderIndex(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	index.SchemaVersion, index.MediaType = 2, types.OCIImageIndex
	index.Manifests = append(slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool { return isNamed(d, tag) }), *desc)
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	version := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	if err = sink.file(ocispec.ImageLayoutFile, int64(len(version)), bytesOpener(version)); err != nil {
		return err
	}
	next := ocispec.ImageIndexFile + ".tmp"
	if err = sink.file(next, int64(len(data)), bytesOpener(data)); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, next), filepath.Join(dir, ocispec.ImageIndexFile))
}

// DescribeCache is a cache's config that describes its layers itself, as BuildKit
// keeps it where there are no manifests (type=gha), and the layers it names.
func DescribeCache(cache *Image) (config []byte, layers []v1.Layer, err error) {
	manifest, err := cache.Manifest()
	if err != nil {
		return nil, nil, fmt.Errorf("cache: %w", err)
	}
	var described cachetypes.CacheConfig
	if err = json.Unmarshal(cache.config, &described); err != nil {
		return nil, nil, fmt.Errorf("cache: %w", err)
	}
	places := map[string]int{}
	for i, d := range manifest.Layers {
		places[d.Digest.String()] = i
	}
	for i, l := range described.Layers {
		place, ok := places[l.Blob.String()]
		if !ok {
			return nil, nil, fmt.Errorf("cache: layer %s is not there", l.Blob)
		}
		d := manifest.Layers[place]
		described.Layers[i].Annotations = &cachetypes.LayerAnnotations{
			MediaType: string(d.MediaType), DiffID: digest.Digest(d.Annotations[annotationDiffID]), Size: d.Size,
		}
		if at := d.Annotations[annotationCreated]; at != "" {
			if err = described.Layers[i].Annotations.CreatedAt.UnmarshalText([]byte(at)); err != nil {
				return nil, nil, fmt.Errorf("cache: layer %s: %w", l.Blob, err)
			}
		}
		layers = append(layers, cache.layers[place])
	}
	config, err = json.Marshal(described)
	return config, layers, err
}

// ReadDescribedCache reads a config of DescribeCache; blobs opens its layers.
func ReadDescribedCache(config []byte, blobs Blobs) (Cache, error) {
	var described cachetypes.CacheConfig
	if err := json.NewDecoder(bytes.NewReader(config)).Decode(&described); err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	c := Cache{Config: config}
	for _, l := range described.Layers {
		if l.Annotations == nil {
			return Cache{}, fmt.Errorf("cache: layer %s is not described", l.Blob)
		}
		hash, err := v1.NewHash(l.Blob.String())
		if err != nil {
			return Cache{}, fmt.Errorf("cache: layer: %w", err)
		}
		d := v1.Descriptor{
			MediaType: types.MediaType(l.Annotations.MediaType), Digest: hash, Size: l.Annotations.Size,
			Annotations: map[string]string{annotationDiffID: l.Annotations.DiffID.String()},
		}
		if at := l.Annotations.CreatedAt; !at.IsZero() {
			text, textErr := at.MarshalText()
			if textErr != nil {
				return Cache{}, fmt.Errorf("cache: layer %s: %w", hash, textErr)
			}
			d.Annotations[annotationCreated] = string(text)
		}
		opened, err := blobs.layer(d)
		if err != nil {
			return Cache{}, err
		}
		c.Layers, c.Descriptors = append(c.Layers, opened), append(c.Descriptors, d)
	}
	return c, nil
}
