package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// pulled is a v1.Image whose manifest and config are at hand and whose layers
// are fetched when they are read. Each layer is a *remote.MountableLayer, so
// that a push to the same registry can mount it, whichever way it was asked
// for: mutate.Append looks layers up by digest and by diff ID.
type pulled struct {
	client   *Client
	manifest []byte
	config   []byte
	media    types.MediaType
	parsed   *v1.Manifest
	// refs name the image's manifest in each repository that may have it, the
	// one that answered first.
	refs []name.Digest
	// detach gives the context for readers that bring none.
	detach func() context.Context
}

// RawManifest implements partial.CompressedImageCore.
func (p *pulled) RawManifest() ([]byte, error) { return p.manifest, nil }

// RawConfigFile implements partial.CompressedImageCore.
func (p *pulled) RawConfigFile() ([]byte, error) { return p.config, nil }

// MediaType implements partial.CompressedImageCore.
func (p *pulled) MediaType() (types.MediaType, error) { return p.media, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (p *pulled) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for i, desc := range p.parsed.Layers {
		if desc.Digest == h {
			return &layer{image: p, desc: desc, index: i, context: p.detach}, nil
		}
	}
	if h == p.parsed.Config.Digest {
		return partial.ConfigLayer(p)
	}
	return nil, fmt.Errorf("layer %s is not in the image", h)
}

// mountable gives every layer of an image its origin.
type mountable struct {
	v1.Image
	core   *pulled
	origin name.Digest
}

func (m *mountable) mount(h v1.Hash) (v1.Layer, error) {
	l, err := m.core.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	if full, ok := l.(v1.Layer); ok {
		return &remote.MountableLayer{Layer: full, Reference: m.origin}, nil
	}
	return partial.CompressedToLayer(l)
}

// Layers implements v1.Image.
func (m *mountable) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, 0, len(m.core.parsed.Layers))
	for _, desc := range m.core.parsed.Layers {
		l, err := m.mount(desc.Digest)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// LayerByDigest implements v1.Image.
func (m *mountable) LayerByDigest(h v1.Hash) (v1.Layer, error) { return m.mount(h) }

// LayerByDiffID implements v1.Image.
func (m *mountable) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	digest, err := partial.DiffIDToBlob(m.Image, h)
	if err != nil {
		return nil, err
	}
	return m.mount(digest)
}

// ConfigLayer lets partial.ConfigLayer find the config as a layer.
func (m *mountable) ConfigLayer() (v1.Layer, error) { return partial.ConfigLayer(m.core) }

// layer is one layer of a pulled image. It implements v1.Layer.
type layer struct {
	image   *pulled
	desc    v1.Descriptor
	index   int
	context func() context.Context
}

// bound is the layer with the context that its reads obey.
func (l *layer) bound(ctx context.Context) *layer {
	clone := *l
	clone.context = func() context.Context { return ctx }
	return &clone
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { return l.desc.Digest, nil }

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) { return l.desc.Size, nil }

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

// Descriptor keeps the annotations and URLs of the image's manifest.
func (l *layer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }

// DiffID implements v1.Layer. It comes from the config: nothing is fetched. What
// is not an image, such as a build cache, has it in an annotation.
func (l *layer) DiffID() (v1.Hash, error) {
	const uncompressed = "containerd.io/uncompressed"
	if noted := l.desc.Annotations[uncompressed]; noted != "" && !l.image.parsed.Config.MediaType.IsConfig() {
		return v1.NewHash(noted)
	}
	config, err := partial.ConfigFile(l.image)
	if err != nil {
		return v1.Hash{}, err
	}
	if l.index >= len(config.RootFS.DiffIDs) {
		return v1.Hash{}, fmt.Errorf("layer %s: the image's config has %d diff IDs for %d layers",
			l.desc.Digest, len(config.RootFS.DiffIDs), len(l.image.parsed.Layers))
	}
	return config.RootFS.DiffIDs[l.index], nil
}

// Uncompressed implements v1.Layer, for gzip, zstd and plain tar.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	full, err := partial.CompressedToLayer(l)
	if err != nil {
		return nil, err
	}
	return full.Uncompressed()
}

// Compressed implements v1.Layer. With a cache folder the layer is fetched
// and verified before the first byte is given; without, it is verified as it
// is read and an early end is an error at that point.
func (l *layer) Compressed() (io.ReadCloser, error) {
	ctx := l.context()
	if l.image.client.blobs.dir == "" {
		return l.open(ctx)
	}
	path, err := l.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return os.Open(path) //nolint:gosec // a path of our own
}

// fetch puts the layer into the cache folder, if it is not there.
func (l *layer) fetch(ctx context.Context) (string, error) {
	c := l.image.client
	start, downloaded := time.Now(), false
	path, err := c.blobs.get(ctx, l.desc.Digest, func(ctx context.Context, w io.Writer) error {
		downloaded = true
		blob, err := l.open(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = blob.Close() }()
		_, err = io.Copy(w, blob)
		return err
	})
	if err != nil {
		return "", explain(fmt.Errorf("layer %s: %w", l.desc.Digest, err), "pull image "+displayName(l.image.refs[0].Context()), l.image.refs[0].Context())
	}
	if downloaded {
		c.opts.Events(Event{
			Kind: KindPulled, Object: "layer " + l.desc.Digest.String(), Repository: l.image.refs[0].Context().Name(),
			Size: l.desc.Size, Duration: time.Since(start),
		})
	}
	return path, nil
}

// open asks each repository that may have the layer.
func (l *layer) open(ctx context.Context) (io.ReadCloser, error) {
	var failed []error
	for _, ref := range l.image.refs {
		blob, err := l.image.client.blob(ctx, ref.Context(), l.desc)
		if err == nil {
			return blob, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) == 1 {
		return nil, failed[0]
	}
	return nil, errors.Join(failed...)
}

// blob opens one blob, which is verified while it is read.
func (c *Client) blob(ctx context.Context, repo name.Repository, desc v1.Descriptor) (io.ReadCloser, error) {
	remoteLayer, err := c.puller.Layer(ctx, repo.Digest(desc.Digest.String()))
	if err != nil {
		return nil, err
	}
	return remoteLayer.Compressed()
}

// Fetch puts layers into the cache folder, several at once. Layers that did
// not come from Resolve are left alone, and so are all without a folder.
func (c *Client) Fetch(ctx context.Context, layers ...v1.Layer) error {
	if c.blobs.dir == "" {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Jobs)
	for _, each := range layers {
		if m, ok := each.(*remote.MountableLayer); ok {
			each = m.Layer
		}
		l, ok := each.(*layer)
		if !ok || !l.desc.MediaType.IsDistributable() {
			continue
		}
		group.Go(func() error {
			_, err := l.fetch(ctx)
			return err
		})
	}
	return group.Wait()
}

// bind makes reads of a pulled layer obey ctx; other layers are given back.
func bind(ctx context.Context, l v1.Layer) v1.Layer {
	switch l := l.(type) {
	case *remote.MountableLayer:
		return &remote.MountableLayer{Layer: bind(ctx, l.Layer), Reference: l.Reference}
	case *layer:
		return l.bound(ctx)
	}
	return l
}
