package build

import (
	"bytes"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The methods of v1.Image. They are written out, rather than taken from package
// partial, because a base's layers must stay the very values that the registry
// gave: those know which repository they can be mounted from.

// Layers lists the layers, lowest first.
func (i *Image) Layers() ([]v1.Layer, error) { return i.layers, nil }

// MediaType is the manifest's.
func (i *Image) MediaType() (types.MediaType, error) { return i.media, nil }

// Size is the manifest's, in bytes.
func (i *Image) Size() (int64, error) { return int64(len(i.manifest)), nil }

// ConfigName is the config's digest.
func (i *Image) ConfigName() (v1.Hash, error) { return partial.ConfigName(i) }

// ConfigFile is the parsed config.
func (i *Image) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(i) }

// RawConfigFile is the config.
func (i *Image) RawConfigFile() ([]byte, error) { return i.config, nil }

// Digest is the manifest's digest.
func (i *Image) Digest() (v1.Hash, error) {
	digest, _, err := v1.SHA256(bytes.NewReader(i.manifest))
	return digest, err
}

// Manifest is the parsed manifest.
func (i *Image) Manifest() (*v1.Manifest, error) { return partial.Manifest(i) }

// RawManifest is the manifest.
func (i *Image) RawManifest() ([]byte, error) { return i.manifest, nil }

// LayerByDigest finds a layer, or the config, by its digest.
func (i *Image) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	if name, err := i.ConfigName(); err == nil && name == digest {
		return partial.ConfigLayer(i)
	}
	return i.find(digest, v1.Layer.Digest)
}

// LayerByDiffID finds a layer by the digest of its uncompressed tar.
func (i *Image) LayerByDiffID(diffID v1.Hash) (v1.Layer, error) {
	return i.find(diffID, v1.Layer.DiffID)
}

func (i *Image) find(want v1.Hash, of func(v1.Layer) (v1.Hash, error)) (v1.Layer, error) {
	for _, l := range i.layers {
		got, err := of(l)
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		if got == want {
			return l, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", want)
}
