package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/build/dockerfile"
	"github.com/towline/towline/internal/build/snapshot"
)

// Image is a built image. Its layers are those of its base, which may still be
// in their registry only, and the new ones, which are on disk.
type Image struct {
	// Platform is what it was built for.
	Platform v1.Platform

	config   []byte
	manifest []byte
	media    types.MediaType
	layers   []v1.Layer
	view     func(context.Context) (*snapshot.View, error)
	// predicates are what attestations say of it.
	predicates []predicate
}

// assemble makes the image: the frontend's config with the layers and the
// history that belongs to them (OCI image-spec, config.md).
func assemble(result *dockerfile.Result, layers []v1.Layer, at clock) (*Image, error) {
	if result.Epoch != nil {
		at = clock{now: *result.Epoch}
	}
	config, err := finishConfig(result.Config, layers, at)
	if err != nil {
		return nil, err
	}
	image := &Image{Platform: result.Platform, config: config, layers: layers}
	return image.describedBy(ManifestOptions{})
}

// clock says when a layer was made: now, unless it came from a cache, which
// keeps the time. So an image that is built again from its cache is the same.
type clock struct {
	now  time.Time
	made func(v1.Layer) (time.Time, bool)
}

func (c clock) of(l v1.Layer) time.Time {
	if c.made != nil {
		if at, ok := c.made(l); ok {
			return at.UTC()
		}
	}
	return c.now.UTC()
}

// describedBy is the same image with a manifest of its own.
func (i *Image) describedBy(opts ManifestOptions) (*Image, error) {
	out := *i
	out.media = types.OCIManifestSchema1
	manifest := v1.Manifest{
		SchemaVersion: 2, Layers: []v1.Descriptor{}, Config: v1.Descriptor{MediaType: types.OCIConfigJSON},
		Annotations: opts.annotations(AnnotateManifest, &i.Platform),
	}
	mediaType := ociMediaType
	if opts.DockerTypes {
		out.media, manifest.Config.MediaType, mediaType = types.DockerManifestSchema2, types.DockerConfigJSON, dockerMediaType
	}
	manifest.MediaType = out.media
	var err error
	if manifest.Config.Digest, manifest.Config.Size, err = v1.SHA256(bytes.NewReader(i.config)); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	for _, l := range i.layers {
		d, layerErr := partial.Descriptor(l)
		if layerErr != nil {
			return nil, fmt.Errorf("layer: %w", layerErr)
		}
		manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: mediaType(d.MediaType), Digest: d.Digest, Size: d.Size, URLs: d.URLs})
	}
	if out.manifest, err = json.Marshal(manifest); err != nil {
		return nil, fmt.Errorf("image manifest: %w", err)
	}
	return &out, nil
}

// dockerMediaType gives OCI's layer types their Docker names.
func dockerMediaType(t types.MediaType) types.MediaType {
	switch t {
	case types.OCILayer:
		return types.DockerLayer
	case types.OCIUncompressedLayer:
		return types.DockerUncompressedLayer
	case types.OCIRestrictedLayer:
		return types.DockerForeignLayer
	default:
		return t
	}
}

// ociMediaType gives Docker's layer types their OCI names: one manifest holds one family.
func ociMediaType(t types.MediaType) types.MediaType {
	switch t {
	case types.DockerLayer:
		return types.OCILayer
	case types.DockerUncompressedLayer:
		return types.OCIUncompressedLayer
	case types.DockerForeignLayer:
		return types.OCIRestrictedLayer
	default:
		return t
	}
}

// finishConfig completes a config, leaving alone what it does not know.
func finishConfig(raw []byte, layers []v1.Layer, at clock) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	rootfs := v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}
	for _, l := range layers {
		diffID, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		rootfs.DiffIDs = append(rootfs.DiffIDs, diffID)
	}
	var history []history
	if raw, ok := fields["history"]; ok {
		if err := json.Unmarshal(raw, &history); err != nil {
			return nil, fmt.Errorf("image config: history: %w", err)
		}
	}
	history = alignHistory(history, layers, at)
	set := map[string]any{"rootfs": rootfs, "history": history}
	if _, ok := fields["created"]; !ok {
		set["created"] = at.now.UTC()
		if n := len(history); n > 0 && history[n-1].Created != nil {
			set["created"] = history[n-1].Created
		}
	}
	for name, value := range set {
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("image config: %s: %w", name, err)
		}
		fields[name] = encoded
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	return out, nil
}

// history is one entry of a config's history (OCI image-spec, config.md); unlike
// v1.History it keeps a missing time apart from a zero one.
type history struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// alignHistory makes as many entries own a layer as there are layers, as
// BuildKit's exporter does, and gives every entry a time: that of its layer, or
// of the entry before it, or else of the first layer. Surplus entries own none,
// and surplus layers get an entry.
func alignHistory(entries []history, layers []v1.Layer, at clock) []history {
	out := make([]history, 0, len(entries))
	owned := 0
	var last *time.Time
	add := func(e history) {
		if !e.EmptyLayer && owned == len(layers) {
			e.EmptyLayer = true
		}
		switch {
		case e.Created != nil:
		case !e.EmptyLayer:
			made := at.of(layers[owned])
			e.Created = &made
		case last != nil:
			e.Created = last
		case len(layers) > 0:
			made := at.of(layers[0])
			e.Created = &made
		default:
			now := at.now.UTC()
			e.Created = &now
		}
		if !e.EmptyLayer {
			owned++
		}
		last = e.Created
		out = append(out, e)
	}
	for _, e := range entries {
		add(e)
	}
	for owned < len(layers) {
		add(history{Comment: "towline"})
	}
	return out
}
