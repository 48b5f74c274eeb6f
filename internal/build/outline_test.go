package build_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/build/progress"
)

// counted is an image the reads of whose layers are counted.
type counted struct {
	v1.Image
	reads *atomic.Int64
}

func (c counted) Layers() ([]v1.Layer, error) {
	layers, err := c.Image.Layers()
	for i, l := range layers {
		layers[i] = kept{l, c.reads}
	}
	return layers, err
}

// A stage that only copies, onto a base that an earlier build has looked at: no
// layer of the base is read, whatever has to be known of its files, and the image
// is what it would be without a cache.
func TestOutlineKept(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	const text = "FROM base\nCOPY --chown=nobody:nobody code /tmp/../lib64/code\nCOPY code /bin/\nWORKDIR /srv/app\n"
	base := busybox(t)
	reads := &atomic.Int64{}
	var warnings atomic.Int64
	run := func(code string, from ...build.Cache) *build.Result {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{"Dockerfile": text, "code": code} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, outlineTime(), outlineTime()); err != nil {
				t.Fatal(err)
			}
		}
		result, err := build.Build(t.Context(), build.Options{
			Context: dir, File: filepath.Join(dir, "Dockerfile"), Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
			Images: bases{counted{base, reads}}, Dir: filepath.Join(t.TempDir(), "state"),
			CacheFrom: from, CacheMode: build.CacheMax, Now: outlineTime, SourceDateEpoch: "1700000000",
			Progress: func(e progress.Event) {
				if _, ok := e.(progress.Warning); ok {
					warnings.Add(1)
				}
			},
		})
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
	stored := func(r *build.Result) build.Cache {
		t.Helper()
		c, err := build.ReadCache(r.Cache)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	cold := stored(run("1"))
	if reads.Swap(0) == 0 || len(cold.Outlines) != 1 {
		t.Fatalf("the first build noted %d outlines", len(cold.Outlines))
	}
	want := digestOf(t, run("2").Images[0])
	reads.Store(0)
	changed := run("2", cold)
	if got := digestOf(t, changed.Images[0]); got != want || reads.Load() != 0 {
		t.Errorf("got %s after %d reads, want %s after none", got, reads.Load(), want)
	}
	// What is not looked at is handed on.
	if again := stored(run("2", stored(changed))); len(again.Outlines) != 1 || reads.Load() != 0 {
		t.Errorf("got %d outlines after %d reads, want 1", len(again.Outlines), reads.Load())
	}
	if warnings.Load() != 0 {
		t.Errorf("%d warnings", warnings.Load())
	}
	for name, broken := range map[string]v1.Layer{
		"no outline":        static.NewLayer([]byte("nothing of the kind"), layer.OutlineType),
		"cannot be fetched": missing{static.NewLayer(nil, layer.OutlineType)},
	} {
		bad := cold
		bad.Outlines = map[v1.Hash]v1.Layer{}
		for of := range cold.Outlines {
			bad.Outlines[of] = broken
		}
		warnings.Store(0)
		if got := digestOf(t, run("2", bad).Images[0]); got != want || warnings.Load() != 1 {
			t.Errorf("%s: got %s and %d warnings, want %s and 1", name, got, warnings.Load(), want)
		}
	}
}

// missing is a layer that its registry has lost.
type missing struct{ v1.Layer }

func (missing) Compressed() (io.ReadCloser, error) { return nil, errors.New("not there") }

func outlineTime() time.Time { return time.Unix(1_700_000_000, 0) }
