package build_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
)

// mountedBuild builds a Dockerfile, and gives what its RUN steps said, what was
// restored and warned of, and what is kept of its mounts.
type mountedBuild struct {
	said, restored, warned []string
	image                  *build.Image
	kept                   build.MountsKept
	asked                  int
}

func buildMounted(t *testing.T, text string, from func() (build.Mounts, error)) mountedBuild {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var out mountedBuild
	result, err := build.Build(t.Context(), build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
		Images: bases{busybox(t)}, Sandbox: anySandbox(t), Dir: filepath.Join(t.TempDir(), "state"),
		Mounts: build.MountOptions{Keep: true, From: func(context.Context) (build.Mounts, error) {
			out.asked++
			return from()
		}},
		Progress: func(e progress.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case progress.StepOutput:
				out.said = append(out.said, strings.Fields(string(e.Data))...)
			case progress.MountRestored:
				out.restored = append(out.restored, e.Path)
			case progress.Warning:
				out.warned = append(out.warned, e.Message)
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closing := result.Close(); closing != nil {
			t.Error(closing)
		}
	})
	if out.image, out.kept, err = result.Mounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out.restored)
	return out
}

// mountsOf reads what a build has kept, as from a registry.
func mountsOf(t *testing.T, b mountedBuild) func() (build.Mounts, error) {
	t.Helper()
	if b.image == nil {
		t.Fatal("nothing is to be written")
	}
	return func() (build.Mounts, error) { return build.ReadMounts(b.image) }
}

func none() (build.Mounts, error) { return build.Mounts{}, nil }

const mountedDockerfile = `FROM base AS seed
RUN echo seed > /seed
FROM base
RUN --mount=type=cache,target=/cache cat /cache/a || echo nothing; echo first > /cache/a
RUN --mount=type=cache,target=/other,id=/cache cat /other/a
RUN --mount=type=cache,target=/own,uid=7,gid=8,mode=0710,sharing=locked stat -c %u:%g:%a /own; touch /own/b; ls /own
RUN --mount=type=cache,target=/from,from=seed,sharing=private cat /from/seed; echo more >> /from/seed
`

// The folders of cache mounts are in the next build what they were in this one.
func TestCacheMountsLiveOn(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	first := buildMounted(t, mountedDockerfile, none)
	if last := len(first.said) - 4; last < 0 || !slices.Equal(first.said[last:], []string{"first", "7:8:710", "b", "seed"}) {
		t.Errorf("cold: %q", first.said)
	}
	if len(first.warned) > 0 || len(first.restored) > 0 || first.kept.Mounts != 3 {
		t.Errorf("cold: %+v", first)
	}
	second := buildMounted(t, strings.Replace(mountedDockerfile, "echo first >", "echo second >>", 1), mountsOf(t, first))
	if diff := cmp.Diff(second.restored, []string{"/cache", "/from", "/own"}); diff != "" {
		t.Errorf("restored: got -, want +:\n%s", diff)
	}
	if diff := cmp.Diff(second.said, []string{"first", "first", "second", "7:8:710", "b", "seed", "more"}); diff != "" {
		t.Errorf("said: got -, want +:\n%s", diff)
	}
	if len(second.warned) > 0 || second.asked != 1 {
		t.Errorf("warm: %q, asked %d times", second.warned, second.asked)
	}
	// Only one of the mounts runs: the others stay as they are.
	third := buildMounted(t, "FROM base\nRUN --mount=type=cache,target=/own,uid=7,gid=8,mode=0710 ls /own\n", mountsOf(t, second))
	if third.image != nil || third.kept.Mounts != 3 {
		t.Errorf("nothing was changed, and it is to be written: %+v", third)
	}
	fourth := buildMounted(t, "FROM base\nRUN echo none\n", func() (build.Mounts, error) { return build.Mounts{}, errors.New("asked for nothing") })
	if fourth.image != nil || fourth.asked != 0 {
		t.Errorf("without a mount: %+v", fourth)
	}
}

// What cannot be read is a warning, and the build goes on with an empty folder.
func TestCacheMountsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	got := buildMounted(t, "FROM base\nRUN --mount=type=cache,target=/cache ls -A /cache; echo new > /cache/a\n",
		func() (build.Mounts, error) { return build.Mounts{}, errors.New("no answer") })
	if len(got.warned) != 1 || !strings.Contains(got.warned[0], "no answer") || len(got.said) > 0 {
		t.Errorf("got %+v", got)
	}
	again := buildMounted(t, "FROM base\nRUN --mount=type=cache,target=/cache cat /cache/a\n", mountsOf(t, got))
	if diff := cmp.Diff(again.said, []string{"new"}); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}
