package build_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build"
)

// inlineDockerfile has a stage whose layers are not in the image.
const inlineDockerfile = `FROM base AS build
COPY code ./
RUN echo compile; cat code > out
FROM base
COPY lock /
RUN echo install; cat /lock > /installed
COPY --from=build out /app/
RUN echo finish; cat /app/out > /finished
`

func inlineContext() map[string]string {
	return map[string]string{"Dockerfile": inlineDockerfile, "lock": "1", "code": "1"}
}

// inImage are the steps whose layers are in the image.
func inImage(ran []string) []string {
	return slices.DeleteFunc(slices.Clone(ran), func(step string) bool { return step == "compile" })
}

func inlined(o *build.Options) { o.CacheInline, o.CacheMode = true, "" }

// An image that holds its cache is the same, byte for byte, when it is built again
// from itself.
func TestInlineCache(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	cold := changedBuild(t, inlineContext(), nil, 1, inlined)
	if cold.result.Cache != nil {
		t.Error("there is a cache beside the image")
	}
	stored, err := build.ReadCache(cold.result.Images[0])
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		lock, code string
		ran        []string
	}{
		// A stage that is not in the image is not looked at unless what is copied from it is unknown.
		"unchanged": {lock: "1", code: "1"},
		"code":      {lock: "1", code: "2", ran: []string{"compile", "finish"}},
		"lock":      {lock: "2", code: "1", ran: []string{"compile", "finish", "install"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := inlineContext()
			files["lock"], files["code"] = tt.lock, tt.code
			warm := changedBuild(t, files, []build.Cache{stored}, 2, inlined)
			// The scheduler may begin the stage before it knows that it is not needed.
			if diff := cmp.Diff(inImage(warm.ran), inImage(tt.ran)); diff != "" {
				t.Errorf("steps: got -, want +:\n%s", diff)
			}
			got, want := digestOf(t, warm.result.Images[0]), digestOf(t, cold.result.Images[0])
			if name == "unchanged" && got != want {
				t.Errorf("got image %s, before %s", got, want)
				t.Logf("got %s\nbefore %s", records(t, warm.result.Images[0]), records(t, cold.result.Images[0]))
			}
			if _, err := build.ReadCache(warm.result.Images[0]); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInlineCacheWithEpoch(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	epoch := func(o *build.Options) { inlined(o); o.SourceDateEpoch = "1600000000" }
	cold := changedBuild(t, inlineContext(), nil, 1, epoch)
	stored, err := build.ReadCache(cold.result.Images[0])
	if err != nil {
		t.Fatal(err)
	}
	warm := changedBuild(t, inlineContext(), []build.Cache{stored}, 2, epoch)
	if len(inImage(warm.ran)) > 0 {
		t.Errorf("steps were run: %q", warm.ran)
	}
	if got, want := digestOf(t, warm.result.Images[0]), digestOf(t, cold.result.Images[0]); got != want {
		t.Errorf("got image %s, before %s", got, want)
	}
}

// A build whose cache lies in a registry as well gives the same image from it.
func TestInlineCacheBesideAnother(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	both := func(o *build.Options) { o.CacheInline = true }
	cold := changedBuild(t, inlineContext(), nil, 1, both)
	stored, err := build.ReadCache(cold.result.Cache)
	if err != nil {
		t.Fatal(err)
	}
	warm := changedBuild(t, inlineContext(), []build.Cache{stored}, 2, both)
	if len(inImage(warm.ran)) > 0 {
		t.Errorf("steps were run: %q", warm.ran)
	}
	if got, want := digestOf(t, warm.result.Images[0]), digestOf(t, cold.result.Images[0]); got != want {
		t.Errorf("got image %s, before %s", got, want)
		t.Logf("got %s\nbefore %s", records(t, warm.result.Images[0]), records(t, cold.result.Images[0]))
	}
}

func records(t *testing.T, image *build.Image) []byte {
	t.Helper()
	raw, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Cache []byte `json:"moby.buildkit.cache.v0"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	return config.Cache
}

func TestReadCacheOfImageWithout(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	built := cachedBuild(t, inlineContext(), nil, 1)
	if _, err := build.ReadCache(built.result.Images[0]); err == nil || !strings.Contains(err.Error(), "type=inline") {
		t.Errorf("got %v", err)
	}
}

func TestCacheFolder(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	dir := filepath.Join(t.TempDir(), "new", "cache")
	if _, err := build.ReadCacheFolder(dir, "latest", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
	cold := cachedBuild(t, inlineContext(), nil, 1)
	for _, tag := range []string{"latest", "other", "latest"} {
		if err := build.WriteCacheFolder(t.Context(), cold.result.Cache, dir, tag); err != nil {
			t.Fatal(err)
		}
	}
	var index v1.IndexManifest
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil || len(index.Manifests) != 2 {
		t.Errorf("got index %s, %v", raw, err)
	}
	if _, err = build.ReadCacheFolder(dir, "third", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another tag: got %v", err)
	}
	for _, digest := range []string{"", digestOf(t, cold.result.Cache).String()} {
		stored, readErr := build.ReadCacheFolder(dir, "other", digest)
		if readErr != nil {
			t.Fatal(readErr)
		}
		again(t, cold, stored)
	}

	// A layer that is not what its digest says is not used, and the build fails for
	// it no more than for a layer that is missing.
	stored, err := build.ReadCacheFolder(dir, "latest", "")
	if err != nil {
		t.Fatal(err)
	}
	d := stored.Descriptors[len(stored.Descriptors)-1].Digest
	if err = os.WriteFile(filepath.Join(dir, "blobs", d.Algorithm, d.Hex), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := stored.Layers[len(stored.Layers)-1].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "it has the digest") {
		t.Errorf("changed layer: got %v", err)
	}
}

// A cache that describes its layers itself is one again.
func TestDescribedCache(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	cold := cachedBuild(t, inlineContext(), nil, 1)
	config, layers, err := build.DescribeCache(cold.result.Cache)
	if err != nil {
		t.Fatal(err)
	}
	content := map[v1.Hash][]byte{}
	for _, l := range layers {
		digest, layerErr := l.Digest()
		if layerErr != nil {
			t.Fatal(layerErr)
		}
		r, layerErr := l.Compressed()
		if layerErr != nil {
			t.Fatal(layerErr)
		}
		if content[digest], layerErr = io.ReadAll(r); layerErr != nil {
			t.Fatal(layerErr)
		}
	}
	stored, err := build.ReadDescribedCache(config, func(d v1.Hash) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content[d])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	again(t, cold, stored)
}

// again builds inlineContext from a cache, where nothing is left to do, and with
// other code, where layers are read.
func again(t *testing.T, cold cached, stored build.Cache) {
	t.Helper()
	warm := cachedBuild(t, inlineContext(), []build.Cache{stored}, 2)
	if len(inImage(warm.ran)) > 0 {
		t.Errorf("steps were run: %q", warm.ran)
	}
	if got, want := digestOf(t, warm.result.Images[0]), digestOf(t, cold.result.Images[0]); got != want {
		t.Errorf("got image %s, before %s", got, want)
	}
	files := inlineContext()
	files["code"] = "2"
	if diff := cmp.Diff(cachedBuild(t, files, []build.Cache{stored}, 3).ran, []string{"compile", "finish"}); diff != "" {
		t.Errorf("other code: got -, want +:\n%s", diff)
	}
}

// The same from both caches, of which one has the steps that the other lacks.
func TestInlineCacheFromTwo(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	both := func(o *build.Options) { o.CacheInline, o.CacheMode = true, build.CacheMin }
	cold := changedBuild(t, inlineContext(), nil, 1, both)
	beside, err := build.ReadCache(cold.result.Cache)
	if err != nil {
		t.Fatal(err)
	}
	own, err := build.ReadCache(cold.result.Images[0])
	if err != nil {
		t.Fatal(err)
	}
	warm := changedBuild(t, inlineContext(), []build.Cache{own, beside}, 2, both)
	if len(inImage(warm.ran)) > 0 {
		t.Errorf("steps were run: %q", warm.ran)
	}
	if got, want := digestOf(t, warm.result.Images[0]), digestOf(t, cold.result.Images[0]); got != want {
		t.Errorf("got image %s, before %s", got, want)
		t.Logf("got %s\nbefore %s", records(t, warm.result.Images[0]), records(t, cold.result.Images[0]))
	}
}
