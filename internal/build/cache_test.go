package build_test

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
)

const cachedDockerfile = `FROM base AS deps
WORKDIR /src
COPY lock ./
RUN echo install; cp lock installed
FROM deps AS build
COPY code ./
RUN --mount=type=bind,source=notes,target=/notes echo compile; cat code installed > out
FROM base AS other
RUN echo other; echo o > /o
FROM base
ENV MODE=fast
COPY --from=build /src/out /app/
COPY --from=other /o /app/
RUN echo finish; cat /app/out > /finished
CMD ["/finished"]
`

// kept counts the reads of a cache's layers.
type kept struct {
	v1.Layer
	reads *atomic.Int64
}

func (k kept) Compressed() (io.ReadCloser, error) {
	k.reads.Add(1)
	return k.Layer.Compressed()
}

func (k kept) Uncompressed() (io.ReadCloser, error) {
	k.reads.Add(1)
	return k.Layer.Uncompressed()
}

// What was built before is not built again: not the steps, and none of their
// layers is fetched, unless a step that changed runs on them. The image is the
// same, byte for byte, whatever the time.
func TestCache(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	tests := map[string]struct {
		files map[string]string
		args  map[string]string
		// ran are the RUN steps that are done again, and reads how many layers they need.
		ran   []string
		same  bool
		fetch bool
	}{
		"unchanged":                 {same: true},
		"file that nobody copies":   {files: map[string]string{"unused": "2"}, same: true},
		"bound file":                {files: map[string]string{"notes": "2"}, ran: []string{"compile"}, same: true, fetch: true},
		"code":                      {files: map[string]string{"code": "2"}, ran: []string{"compile", "finish"}, fetch: true},
		"lock":                      {files: map[string]string{"lock": "2"}, ran: []string{"compile", "finish", "install"}, fetch: true},
		"stage with the same bytes": {files: map[string]string{"Dockerfile": strings.Replace(cachedDockerfile, "echo o >", "echo o  >", 1)}, ran: []string{"other"}, same: true},
	}
	context := map[string]string{"Dockerfile": cachedDockerfile, "lock": "1", "code": "1", "notes": "1", "unused": "1"}
	cold := cachedBuild(t, context, nil, 1)
	if diff := cmp.Diff(cold.ran, []string{"compile", "finish", "install", "other"}); diff != "" {
		t.Fatalf("cold: got -, want +:\n%s", diff)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := maps.Clone(context)
			maps.Copy(changed, tt.files)
			stored, err := build.ReadCache(cold.result.Cache)
			if err != nil {
				t.Fatal(err)
			}
			var reads atomic.Int64
			for i, l := range stored.Layers {
				stored.Layers[i] = kept{l, &reads}
			}
			warm := cachedBuild(t, changed, []build.Cache{stored}, 2)
			if diff := cmp.Diff(warm.ran, tt.ran); diff != "" {
				t.Errorf("steps: got -, want +:\n%s", diff)
			}
			// BuildKit's scheduler may ask for a stage's content before it knows that
			// the step which copies from it is in the cache; none must be read twice.
			if got := int(reads.Load()); (got == 0 && tt.fetch) || got > len(stored.Layers) {
				t.Errorf("layers of the cache were read %d times; there are %d", got, len(stored.Layers))
			}
			got, want := digestOf(t, warm.result.Images[0]), digestOf(t, cold.result.Images[0])
			if (got == want) != tt.same {
				t.Errorf("got image %s, before %s", got, want)
			}
			if got, want := digestOf(t, warm.result.Cache), digestOf(t, cold.result.Cache); name == "unchanged" && got != want {
				t.Errorf("got cache %s, before %s", got, want)
			}
		})
	}
}

func digestOf(t *testing.T, image *build.Image) v1.Hash {
	t.Helper()
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

type cached struct {
	result *build.Result
	ran    []string
}

// cachedBuild builds files some hours after the last build.
func cachedBuild(t *testing.T, files map[string]string, from []build.Cache, hours int) cached {
	t.Helper()
	return changedBuild(t, files, from, hours, func(*build.Options) {})
}

// changedBuild is cachedBuild with other options.
func changedBuild(t *testing.T, files map[string]string, from []build.Cache, hours int, change func(*build.Options)) cached {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var out cached
	opts := build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
		Images: bases{busybox(t)}, Sandbox: anySandbox(t), Dir: filepath.Join(t.TempDir(), "state"),
		CacheFrom: from, CacheMode: build.CacheMax,
		Now: func() time.Time { return time.Unix(1_700_000_000, 0).Add(time.Duration(hours) * time.Hour) },
		Progress: func(e progress.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case progress.StepOutput:
				out.ran = append(out.ran, strings.Fields(string(e.Data))[0])
			case progress.Warning:
				t.Errorf("warning: %s %s", e.Message, e.Detail)
			default:
			}
		},
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
	slices.Sort(out.ran)
	out.result = result
	return out
}
