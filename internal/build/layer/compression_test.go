package layer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// However a layer is packed, it is the same tar, the same bytes each time, and an
// image with it is whole.
func TestCompression(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var text strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&text, "%d %x\n", i, i*i)
	}
	if err := os.WriteFile(filepath.Join(root, "big"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := pack(t, root, Compression{})
	tests := map[string]struct {
		compression Compression
		mediaType   types.MediaType
		smaller     bool // than by default
	}{
		"gzip":         {Compression{}, types.OCILayer, false},
		"gzip, best":   {Compression{Level: 9}, types.OCILayer, true},
		"zstd":         {Compression{Zstd: true}, types.OCILayerZStd, false},
		"zstd, better": {Compression{Zstd: true, Level: 8}, types.OCILayerZStd, true},
		"zstd, quick":  {Compression{Zstd: true, Level: 1}, types.OCILayerZStd, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blob, again := pack(t, root, test.compression), pack(t, root, test.compression)
			if blob.Digest != again.Digest || blob.DiffID != plain.DiffID || blob.MediaType != test.mediaType {
				t.Errorf("packed %+v, then %+v", blob, again)
			}
			if test.smaller && blob.Size >= plain.Size {
				t.Errorf("%d bytes, by default %d", blob.Size, plain.Size)
			}
			l := blob.Layer()
			base := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
			image, err := mutate.Append(base, mutate.Addendum{Layer: l, MediaType: blob.MediaType})
			if err != nil {
				t.Fatal(err)
			}
			dir, err := layout.Write(t.TempDir(), empty.Index)
			if err != nil {
				t.Fatal(err)
			}
			if err = dir.AppendImage(image); err != nil {
				t.Fatal(err)
			}
			digest, err := image.Digest()
			if err != nil {
				t.Fatal(err)
			}
			read, err := dir.Image(digest)
			if err != nil {
				t.Fatal(err)
			}
			check(t, read, blob)
		})
	}
}

// check reads an image's only layer both ways.
func check(t *testing.T, image v1.Image, want *Blob) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	manifest, err := image.Manifest()
	if err != nil || manifest.Layers[0].MediaType != want.MediaType {
		t.Errorf("media type %s, want %s, %v", manifest.Layers[0].MediaType, want.MediaType, err)
	}
	for _, form := range []struct {
		open func() (io.ReadCloser, error)
		want v1.Hash
	}{{layers[0].Compressed, want.Digest}, {layers[0].Uncompressed, want.DiffID}} {
		r, err := form.open()
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := v1.SHA256(r); err != nil || got != form.want {
			t.Errorf("digest %s, want %s, %v", got, form.want, err)
		}
		_ = r.Close()
	}
}

// The bytes of a layer do not depend on the machine's number of processors.
func TestCompressionOnAnyMachine(t *testing.T) { //nolint:paralleltest // it changes what all goroutines run on
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "big"), bytes.Repeat([]byte("some content, and more of it\n"), 400_000), 0o600); err != nil {
		t.Fatal(err)
	}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, c := range []Compression{{}, {Level: 1}, {Zstd: true}} {
		packed := map[int]v1.Hash{}
		for _, processors := range []int{1, 2, 7, 32} {
			runtime.GOMAXPROCS(processors)
			packed[processors] = pack(t, root, c).Digest
		}
		for processors, digest := range packed {
			if digest != packed[1] {
				t.Errorf("%+v on %d processors: got %s, on one %s", c, processors, digest, packed[1])
			}
		}
	}
}

func pack(t *testing.T, root string, c Compression) *Blob {
	t.Helper()
	blob, err := Pack(t.Context(), t.TempDir(), root, []Change{{"big", Added}}, WriteOptions{Compression: c})
	if err != nil {
		t.Fatal(err)
	}
	return blob
}
