package build_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
)

// A cache may lose layers that its config still names, as GitHub's does when it is
// full: the steps are done again.
func TestCacheThatLostItsLayers(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	dir := filepath.Join(t.TempDir(), "cache")
	cold := cachedBuild(t, inlineContext(), nil, 1)
	if err := build.WriteCacheFolder(t.Context(), cold.result.Cache, dir, "latest"); err != nil {
		t.Fatal(err)
	}
	stored, err := build.ReadCacheFolder(dir, "latest", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range stored.Descriptors {
		if err := os.Remove(filepath.Join(dir, "blobs", d.Digest.Algorithm, d.Digest.Hex)); err != nil {
			t.Fatal(err)
		}
	}
	files := inlineContext()
	files["code"] = "2"
	var mu sync.Mutex
	var warnings []string
	warm := changedBuild(t, files, []build.Cache{stored}, 3, func(o *build.Options) {
		emit := o.Progress
		o.Progress = func(e progress.Event) {
			if warning, ok := e.(progress.Warning); ok {
				mu.Lock()
				defer mu.Unlock()
				warnings = append(warnings, warning.Message)
				return
			}
			emit(e)
		}
	})
	if diff := cmp.Diff(warnings, []string{"the build cache has lost a layer, so the build begins again without it"}); diff != "" {
		t.Errorf("warnings: got -, want +:\n%s", diff)
	}
	for _, step := range []string{"compile", "install", "finish"} {
		if !slices.Contains(warm.ran, step) {
			t.Errorf("%s was not done again; %q were", step, warm.ran)
		}
	}
}
