package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ManifestOptions says how manifests are written. The zero value gives OCI's
// types without annotations.
type ManifestOptions struct {
	// DockerTypes writes Docker's media types instead of OCI's. These have no
	// room for annotations of an index or of descriptors.
	DockerTypes bool
	// Annotations are those of manifests and descriptors.
	Annotations []Annotation
}

// Annotation is one annotation (OCI image-spec, annotations.md) and its place.
type Annotation struct {
	// Place is one of the Annotate constants.
	Place string
	// Platform limits it to one platform's manifest, os/arch[/variant].
	// Default: all.
	Platform string
	// Key and Value are the annotation.
	Key, Value string
}

// The places of annotations, named as docker build names them.
const (
	// AnnotateManifest is in each image's manifest.
	AnnotateManifest = "manifest"
	// AnnotateIndex is in the index.
	AnnotateIndex = "index"
	// AnnotateManifestDescriptor is where an index, or a layout, names a manifest.
	AnnotateManifestDescriptor = "manifest-descriptor"
	// AnnotateIndexDescriptor is where a layout names the index.
	AnnotateIndexDescriptor = "index-descriptor"
)

// annotations are those of one place; nil when there is none. A platform's own
// win over those of all.
func (o ManifestOptions) annotations(place string, platform *v1.Platform) map[string]string {
	var all, own map[string]string
	add := func(m *map[string]string, a Annotation) {
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[a.Key] = a.Value
	}
	for _, a := range o.Annotations {
		switch {
		case a.Place != place:
		case a.Platform == "":
			add(&all, a)
		case platform != nil && samePlatform(a.Platform, *platform):
			add(&own, a)
		}
	}
	if all == nil {
		return own
	}
	maps.Copy(all, own)
	return all
}

func samePlatform(text string, p v1.Platform) bool {
	parsed, err := platforms.Parse(text)
	return err == nil && platforms.FormatAll(platforms.Normalize(parsed)) == platformID(p)
}

// platformID is a platform as BuildKit names it: linux/arm/v7.
func platformID(p v1.Platform) string {
	return platforms.FormatAll(platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}))
}

// Content is what a build made, as a registry takes it.
type Content struct {
	// Images holds one image for each platform, in the order of Options.Platforms.
	Images []*Image
	// Index names them all, and what is attested of them. It is nil when there is
	// one platform only and nothing is attested: then the image's manifest stands
	// for itself.
	Index *Index
	// Descriptor names the index, or the only image.
	Descriptor v1.Descriptor
}

// Content gives the images with manifests as opts has them, and their index
// where there are several. It moves no layer.
func (r *Result) Content(opts ManifestOptions) (*Content, error) {
	c := &Content{}
	for _, image := range r.Images {
		described, err := image.describedBy(opts)
		if err != nil {
			return nil, err
		}
		c.Images = append(c.Images, described)
	}
	if len(c.Images) == 1 && !c.attested(opts) {
		descriptor, err := describe(c.Images[0], opts)
		c.Descriptor = descriptor
		return c, err
	}
	index, err := newIndex(c.Images, opts)
	if err != nil {
		return nil, err
	}
	c.Index = index
	digest, err := index.Digest()
	c.Descriptor = v1.Descriptor{
		MediaType: index.media, Digest: digest, Size: int64(len(index.manifest)),
		Annotations: opts.annotations(AnnotateIndexDescriptor, nil),
	}
	return c, err
}

// describe is an image's descriptor, with its platform.
func describe(image *Image, opts ManifestOptions) (v1.Descriptor, error) {
	digest, err := image.Digest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("image manifest: %w", err)
	}
	spec := platforms.Normalize(ocispec.Platform{OS: image.Platform.OS, Architecture: image.Platform.Architecture, Variant: image.Platform.Variant})
	return v1.Descriptor{
		MediaType: image.media, Digest: digest, Size: int64(len(image.manifest)),
		Platform: &v1.Platform{
			OS: spec.OS, Architecture: spec.Architecture, Variant: spec.Variant,
			OSVersion: image.Platform.OSVersion, OSFeatures: image.Platform.OSFeatures,
		},
		Annotations: opts.annotations(AnnotateManifestDescriptor, &image.Platform),
	}, nil
}

// Index is an image index (OCI image-spec, image-index.md) over built images. It
// implements v1.ImageIndex, and keeps the images as they are: their layers know
// where they can be mounted from.
type Index struct {
	images   []*Image
	media    types.MediaType
	manifest []byte
	// attestations are manifests that say something of the images.
	attestations []*Image
}

func newIndex(images []*Image, opts ManifestOptions) (*Index, error) {
	out := &Index{images: images, media: types.OCIImageIndex}
	if opts.DockerTypes {
		out.media = types.DockerManifestList
	}
	manifest := v1.IndexManifest{
		SchemaVersion: 2, MediaType: out.media, Manifests: []v1.Descriptor{}, Annotations: opts.annotations(AnnotateIndex, nil),
	}
	for _, image := range images {
		descriptor, err := describe(image, opts)
		if err != nil {
			return nil, err
		}
		manifest.Manifests = append(manifest.Manifests, descriptor)
	}
	if err := out.attest(&manifest, opts); err != nil {
		return nil, err
	}
	var err error
	if out.manifest, err = json.Marshal(manifest); err != nil {
		return nil, fmt.Errorf("image index: %w", err)
	}
	return out, nil
}

// MediaType is the index's.
func (i *Index) MediaType() (types.MediaType, error) { return i.media, nil }

// Digest is the index's own digest.
func (i *Index) Digest() (v1.Hash, error) {
	digest, _, err := v1.SHA256(bytes.NewReader(i.manifest))
	return digest, err
}

// Size is the index's own, in bytes.
func (i *Index) Size() (int64, error) { return int64(len(i.manifest)), nil }

// IndexManifest is the parsed index.
func (i *Index) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(i.manifest))
}

// RawManifest is the index.
func (i *Index) RawManifest() ([]byte, error) { return i.manifest, nil }

// Image finds an image by its manifest's digest.
func (i *Index) Image(digest v1.Hash) (v1.Image, error) {
	for _, image := range slices.Concat(i.images, i.attestations) {
		got, err := image.Digest()
		if err != nil {
			return nil, err
		}
		if got == digest {
			return image, nil
		}
	}
	return nil, fmt.Errorf("the index has no image %s", digest)
}

// ImageIndex finds nothing: indexes are not nested.
func (i *Index) ImageIndex(digest v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("the index has no index %s", digest)
}
