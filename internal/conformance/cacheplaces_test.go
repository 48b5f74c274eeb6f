package conformance

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/buildkitd"
)

// inlineDockerfile has steps whose result nobody can make twice, all of them in
// the image.
const inlineDockerfile = `FROM base
WORKDIR /src
COPY --chown=app:app code .
RUN dd if=/dev/urandom of=once bs=8 count=1 2>/dev/null
RUN --mount=type=bind,source=code,target=/code dd if=/dev/urandom of=/twice bs=8 count=1 2>/dev/null
`

// A cache in an image, and one in a folder, are the same to BuildKit and to
// Towline, whoever wrote them.
func TestCachePlacesOfBuildKit(t *testing.T) {
	s := newSuite(t)
	host := serve(t, "127.0.0.1", registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	if err := s.bases.push(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := buildkitd.Programs(t.Context(), filepath.Join("..", ".."), cache)
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := buildkitd.Start(t.Context(), buildkitd.Options{Bin: bin, Registry: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := daemon.Stop(); err != nil {
			t.Error(err)
		}
	})
	context := t.TempDir()
	for file, text := range map[string]string{"Dockerfile": inlineDockerfile, "code": "code\n"} {
		if err := os.WriteFile(filepath.Join(context, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// theirs builds with BuildKit, which has forgotten all that it built.
	theirs := func(t *testing.T, args ...string) v1.Image {
		t.Helper()
		if _, err := daemon.Control(t.Context(), "prune", "--all"); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "image")
		args = slices.Concat([]string{
			"build", "--frontend=dockerfile.v0", "--opt=cmdline=built-in", "--local=context=" + context, "--local=dockerfile=" + context,
			"--output=type=oci,tar=false,dest=" + out,
		}, args)
		if _, err := daemon.Control(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
		index, err := layout.ImageIndexFromPath(out)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		image, err := index.Image(manifest.Manifests[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
	same := func(t *testing.T, got, want v1.Image) {
		t.Helper()
		if diff := cmp.Diff(diffIDs(t, got), diffIDs(t, want)); diff != "" {
			t.Errorf("got -, want +:\n%s", diff)
		}
	}
	inline := func(o *build.Options) { o.CacheInline, o.CacheMode = true, "" }

	t.Run("their image", func(t *testing.T) {
		first := theirs(t, "--export-cache=type=inline")
		left, err := build.ReadCache(first)
		if err != nil {
			t.Fatal(err)
		}
		same(t, changedBuild(t, s, context, []build.Cache{left}, inline).Images[0], first)
	})
	t.Run("our image", func(t *testing.T) {
		cold := changedBuild(t, s, context, nil, inline).Images[0]
		ref := host + "/inline/of:towline"
		if err := remote.Write(reference(t, ref), cold, remote.WithContext(t.Context())); err != nil {
			t.Fatal(err)
		}
		same(t, theirs(t, "--import-cache=type=registry,ref="+ref), cold)
	})
	for name, form := range map[string]string{"their folder": "", "their folder as an index": ",image-manifest=false"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			first := theirs(t, "--export-cache=type=local,mode=max,dest="+dir+form)
			left, err := build.ReadCacheFolder(dir, "latest", "")
			if err != nil {
				t.Fatal(err)
			}
			same(t, cachedBuild(t, s, context, []build.Cache{left}).Images[0], first)
		})
	}
	t.Run("our folder", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "cache")
		cold := cachedBuild(t, s, context, nil)
		if err := build.WriteCacheFolder(t.Context(), cold.Cache, dir, "latest"); err != nil {
			t.Fatal(err)
		}
		same(t, theirs(t, "--import-cache=type=local,src="+dir), cold.Images[0])
	})
}
