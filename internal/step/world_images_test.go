package step_test

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// push puts another image into the account's registry.
func (w *world) push(t *testing.T, ref, platform string) {
	t.Helper()
	img := image(t, map[string]string{"other": "other\n"})
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, _ = strings.Cut(platform, "/")
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is %s", ref, digest)
	pushImage(t, ref, img, w.cloud.RoundTripper(), w.login(t))
	w.skipCalls = len(w.cloud.Calls())
}

func pushImage(t *testing.T, ref string, img v1.Image, transport http.RoundTripper, auth authn.Authenticator) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithTransport(transport), remote.WithContext(t.Context()), remote.WithAuth(auth)); err != nil {
		t.Fatal(err)
	}
}

// image has one layer with files; a name that ends in * is executable.
func image(t *testing.T, files map[string]string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	names := make([]string, 0, len(files))
	for file := range files {
		names = append(names, file)
	}
	sort.Strings(names)
	for _, file := range names {
		hdr := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimSuffix(file, "*"), Mode: 0o644, Size: int64(len(files[file])), ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(file, "*") {
			hdr.Mode = 0o755
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[file]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/bin"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// busybox is an image with the machine's static busybox as its shell.
func busybox(t *testing.T) v1.Image {
	t.Helper()
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
			t.Fatal(err)
		}
		t.Skip("needs a static busybox at /bin/busybox: " + err.Error())
	}
	return image(t, map[string]string{"bin/sh*": string(binary)})
}
