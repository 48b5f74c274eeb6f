package conformance

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/buildkitd"
)

// cachedDockerfile has steps whose result nobody can make twice.
const cachedDockerfile = `FROM base AS build
WORKDIR /src
COPY --chown=app:app code .
RUN dd if=/dev/urandom of=once bs=8 count=1 2>/dev/null
FROM base
ENV MODE=fast
COPY --from=build /src/once /app/
RUN --mount=type=bind,source=code,target=/code dd if=/dev/urandom of=/twice bs=8 count=1 2>/dev/null
`

// A cache of BuildKit's is one for Towline, and the other way round: neither does
// a step again that the other has done.
func TestCacheOfBuildKit(t *testing.T) {
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
	for file, text := range map[string]string{"Dockerfile": cachedDockerfile, "code": "code\n"} {
		if err := os.WriteFile(filepath.Join(context, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	theirs := func(args ...string) []string {
		out := filepath.Join(t.TempDir(), "image")
		args = append([]string{
			"build", "--frontend=dockerfile.v0", "--opt=cmdline=built-in", "--local=context=" + context, "--local=dockerfile=" + context,
			"--output=type=oci,tar=false,dest=" + out,
		}, args...)
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
		return diffIDs(t, image)
	}
	place := host + "/cache/of:"

	// Theirs, for us.
	first := theirs("--export-cache=type=registry,mode=max,image-manifest=true,oci-mediatypes=true,ref=" + place + "buildkit")
	left := readCache(t, place+"buildkit")
	ours := cachedBuild(t, s, context, []build.Cache{left})
	if diff := cmp.Diff(diffIDs(t, ours.Images[0]), first); diff != "" {
		t.Errorf("from BuildKit's cache: got -, want +:\n%s", diff)
	}

	// Ours, for them.
	cold := cachedBuild(t, s, context, nil)
	if diffIDs(t, cold.Images[0])[1] == first[1] {
		t.Fatal("the steps give the same result each time, so nothing is shown")
	}
	if err := remote.Write(reference(t, place+"towline"), cold.Cache, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Control(t.Context(), "prune", "--all"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs("--import-cache=type=registry,ref="+place+"towline"), diffIDs(t, cold.Images[0])); diff != "" {
		t.Errorf("from Towline's cache: got -, want +:\n%s", diff)
	}
}

func reference(t *testing.T, ref string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func diffIDs(t *testing.T, image v1.Image) []string {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, id := range config.RootFS.DiffIDs {
		ids = append(ids, id.String())
	}
	return ids
}

// cachedBuild builds with Towline, and keeps what was built until the test ends.
func cachedBuild(t *testing.T, s *suite, context string, from []build.Cache) *build.Result {
	t.Helper()
	return changedBuild(t, s, context, from, func(*build.Options) {})
}

// changedBuild is cachedBuild with other options.
func changedBuild(t *testing.T, s *suite, context string, from []build.Cache, change func(*build.Options)) *build.Result {
	t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(s.dir, "bases"))
	if err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	box, _, err := sandbox.Choose(t.Context(), sandbox.Namespaces, sandbox.Options{StateDir: t.TempDir(), Executable: executable})
	if err != nil {
		unfit(t, err.Error())
	}
	opts := build.Options{
		Context: context, File: filepath.Join(context, "Dockerfile"), Machine: machine(), Images: library{index}, Sandbox: box,
		Dir: filepath.Join(t.TempDir(), "state"), CacheFrom: from, CacheMode: build.CacheMax,
	}
	change(&opts)
	result, err := build.Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := result.Close(); err != nil {
			t.Error(err)
		}
	})
	return result
}

// noted is a layer whose diff ID is known from its cache.
type noted struct {
	v1.Layer
	diffID v1.Hash
}

func (n noted) DiffID() (v1.Hash, error) { return n.diffID, nil }

func readCache(t *testing.T, ref string) build.Cache {
	t.Helper()
	image, err := remote.Image(reference(t, ref), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	left, err := build.ReadCache(image)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range left.Descriptors {
		diffID, err := v1.NewHash(d.Annotations["containerd.io/uncompressed"])
		if err != nil {
			t.Fatal(err)
		}
		left.Layers[i] = noted{left.Layers[i], diffID}
	}
	return left
}
