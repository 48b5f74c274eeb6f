package build

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameAnnotation holds an image's whole name in a layout, where containerd and
// docker load look for it.
const nameAnnotation = "io.containerd.image.name"

// layoutSink takes the files of an OCI layout, blobs before what names them.
type layoutSink interface {
	file(path string, size int64, open func() (io.ReadCloser, error)) error
}

// writeLayout writes an OCI layout (OCI image-spec, image-layout.md).
func writeLayout(content *Content, names []string, sink layoutSink) error {
	written := map[v1.Hash]bool{}
	blob := func(digest v1.Hash, size int64, open func() (io.ReadCloser, error)) error {
		if written[digest] {
			return nil
		}
		written[digest] = true
		return sink.file("blobs/"+digest.Algorithm+"/"+digest.Hex, size, open)
	}
	for _, image := range content.Images {
		if err := writeImage(image, blob); err != nil {
			return err
		}
	}
	if content.Index != nil {
		for _, image := range content.Index.attestations {
			if err := writeImage(image, blob); err != nil {
				return err
			}
		}
		if err := blob(content.Descriptor.Digest, content.Descriptor.Size, bytesOpener(content.Index.manifest)); err != nil {
			return err
		}
	}
	index, err := layoutIndex(content.Descriptor, names)
	if err != nil {
		return err
	}
	if err := sink.file(ocispec.ImageIndexFile, int64(len(index)), bytesOpener(index)); err != nil {
		return err
	}
	version := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	return sink.file(ocispec.ImageLayoutFile, int64(len(version)), bytesOpener(version))
}

// writeImage writes an image's blobs: layers, config, manifest.
func writeImage(image *Image, blob func(v1.Hash, int64, func() (io.ReadCloser, error)) error) error {
	manifest, err := image.Manifest()
	if err != nil {
		return fmt.Errorf("image manifest: %w", err)
	}
	for i, l := range image.layers {
		desc := manifest.Layers[i]
		if !desc.MediaType.IsDistributable() {
			continue // it is named by its URLs, and never copied
		}
		if err = blob(desc.Digest, desc.Size, l.Compressed); err != nil {
			return fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
	}
	if err = blob(manifest.Config.Digest, manifest.Config.Size, bytesOpener(image.config)); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	return blob(digest, int64(len(image.manifest)), bytesOpener(image.manifest))
}

// layoutIndex names the content once for each name, as containerd's importer
// reads it, or once without.
func layoutIndex(content v1.Descriptor, names []string) ([]byte, error) {
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, text := range names {
		tag, err := name.NewTag(text)
		if err != nil {
			return nil, fmt.Errorf("name %s: %w", text, err)
		}
		desc := *content.DeepCopy()
		if desc.Annotations == nil {
			desc.Annotations = map[string]string{}
		}
		whole := tag.Name()
		if rest, hub := strings.CutPrefix(whole, name.DefaultRegistry+"/"); hub {
			whole = "docker.io/" + rest
		}
		desc.Annotations[nameAnnotation] = whole
		desc.Annotations[ocispec.AnnotationRefName] = tag.TagStr()
		index.Manifests = append(index.Manifests, desc)
	}
	if len(names) == 0 {
		index.Manifests = []v1.Descriptor{content}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("layout index: %w", err)
	}
	return data, nil
}

func bytesOpener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// writeLayoutTar writes the layout as a tar, the same bytes for the same image.
func writeLayoutTar(content *Content, names []string, w io.Writer) error {
	t := &layoutTar{tar: tar.NewWriter(w)}
	if err := writeLayout(content, names, t); err != nil {
		return err
	}
	return t.tar.Close()
}

// layoutTar writes a layout's files into a tar.
type layoutTar struct{ tar *tar.Writer }

func (t *layoutTar) file(path string, size int64, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read from
	if err = t.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	n, err := io.Copy(t.tar, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, not %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	return err
}

// layoutFolder writes a layout's files into a folder.
type layoutFolder struct {
	ctx   context.Context //nolint:containedctx // the sink lives within one call
	dir   string
	owner owner
}

func (l *layoutFolder) file(path string, size int64, open func() (io.ReadCloser, error)) (err error) {
	dest := filepath.Join(l.dir, filepath.FromSlash(path))
	if err = os.MkdirAll(filepath.Dir(dest), 0o755); err != nil { //nolint:gosec // for other steps to read
		return err
	}
	for dir := filepath.Dir(dest); len(dir) > len(l.dir); dir = filepath.Dir(dir) {
		if err = l.owner.chown(dir); err != nil {
			return err
		}
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()                                                        //nolint:errcheck // only read from
	f, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // for other steps to read
	if err != nil {
		return err
	}
	n, err := io.Copy(&endingWriter{ctx: l.ctx, w: f}, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, not %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		return err
	}
	return l.owner.chown(dest)
}

// sortedImages is the images by platform, for what writes them side by side.
func sortedImages(images []*Image) []*Image {
	sorted := slices.Clone(images)
	slices.SortFunc(sorted, func(a, b *Image) int { return strings.Compare(platformID(a.Platform), platformID(b.Platform)) })
	return sorted
}
