package build_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/util/archutil"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/problem"
)

// boxThatCounts is a sandbox in which nothing happens.
type boxThatCounts struct{ runs *int }

func (boxThatCounts) Name() string { return sandbox.Chroot }

func (b boxThatCounts) Run(context.Context, string, sandbox.Process, []sandbox.Mount) (sandbox.Result, error) {
	*b.runs++
	return sandbox.Result{}, nil
}

// A RUN for a platform that the kernel has no emulator for is an error that says
// which stage it is in, for which platform, and both ways out.
func TestForeignRun(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	// No machine is that many platforms at once.
	foreign := ""
	for _, arch := range []string{"s390x", "riscv64", "ppc64le", "arm64"} {
		if !slices.ContainsFunc(archutil.SupportedPlatforms(false), func(p ocispec.Platform) bool { return p.Architecture == arch }) {
			foreign = arch
		}
	}
	if foreign == "" {
		t.Skip("this machine's kernel has an emulator for everything")
	}
	base := baseImage(t, []txtar.File{{Name: "bin/make", Data: []byte("make")}})
	tests := map[string]struct {
		dockerfile string
		platforms  []string
		want       []string
		line, runs int
	}{
		"the only stage, which needs no name": {
			dockerfile: "FROM base AS app\nRUN [\"make\"]\n", platforms: []string{foreign}, line: 2,
			want: []string{"[2/2] RUN [\"make\"]"},
		},
		"a stage without a name": {
			dockerfile: "FROM base\nWORKDIR /w\nRUN [\"make\"]\n", platforms: []string{foreign}, line: 3,
			want: []string{"[3/3] RUN [\"make\"]"},
		},
		"one of two platforms": {
			dockerfile: "FROM --platform=$BUILDPLATFORM base AS build\nRUN [\"cross\"]\nFROM base AS app\nCOPY --from=build / /\nRUN [\"make\"]\n",
			platforms:  []string{"amd64", foreign}, line: 5,
			want: []string{"[linux/" + foreign + " app 3/3] RUN [\"make\"]"},
		},
		"a stage of one platform": {
			dockerfile: "FROM --platform=linux/" + foreign + " base AS other\nRUN [\"make\"]\nFROM scratch\nCOPY --from=other / /\n", platforms: []string{"amd64"}, line: 2,
			want: []string{"other 2/2] RUN [\"make\"]"},
		},
		"a stage that cross-compiles": {
			dockerfile: "FROM --platform=$BUILDPLATFORM base AS build\nRUN [\"cross\"]\nFROM scratch\nCOPY --from=build / /\n", platforms: []string{"amd64", foreign}, runs: 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, runs := t.TempDir(), 0
			writeFiles(t, dir, map[string]string{"Dockerfile": test.dockerfile})
			opts := build.Options{
				Context: dir, File: filepath.Join(dir, "Dockerfile"), Display: "Dockerfile", Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
				Images: bases{base}, Sandbox: boxThatCounts{&runs}, Dir: filepath.Join(t.TempDir(), "state"),
			}
			for _, arch := range test.platforms {
				opts.Platforms = append(opts.Platforms, v1.Platform{OS: "linux", Architecture: arch})
			}
			result, err := build.Build(t.Context(), opts)
			if test.line == 0 {
				if err != nil || runs != test.runs {
					t.Fatalf("%d runs, want %d, error %v", runs, test.runs, err)
				}
				_ = result.Close() // the test's own folder
				return
			}
			p, ok := errors.AsType[*problem.Error](err)
			if !ok || p.Input != "platforms" || p.File != "Dockerfile" || p.Line != test.line {
				t.Fatalf("error %#v", err)
			}
			for _, want := range append(test.want, "linux/"+foreign, "no emulator", "native runner", "FROM --platform=$BUILDPLATFORM") {
				if !strings.Contains(p.Error(), want) {
					t.Errorf("error %q has no %q", p, want)
				}
			}
		})
	}
}
