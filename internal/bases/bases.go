// Package bases makes base images on this machine, for tests and for the benchmark:
// of Debian packages from the machine's own sources, so that nothing is pulled. They
// are kept between runs.
package bases

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/towline/towline/internal/buildkitd"
)

// Store is where base images come from.
type Store struct {
	// Cache is the folder in which they are kept. Required.
	Cache string
	// Root is the folder of our own go.mod. Required.
	Root string
	// Push puts an image where Docker Hub is looked for, as repository:tag. Required.
	Push func(ctx context.Context, repository string, img v1.Image) error
	// Mirror is host:port of the registry that Push fills. Only Build needs it.
	Mirror string
}

// Plain serves the base images that stand on no other, those among them that are in
// only if it is not empty.
func (s *Store) Plain(ctx context.Context, only ...string) error {
	for _, p := range plains() {
		if len(only) > 0 && !slices.Contains(only, p.Name) {
			continue
		}
		img, err := p.load(ctx, s.Cache)
		if err != nil {
			return fmt.Errorf("base image %s: %w", p.Name, err)
		}
		for _, repository := range []string{p.Name, p.Also} {
			if repository == "" {
				continue
			}
			if err := s.Push(ctx, repository, img); err != nil {
				return fmt.Errorf("base image %s: %w", repository, err)
			}
		}
	}
	return nil
}

// Worlds serves the base images of testdata/worlds, those among them that are in
// only if it is not empty. The daemon makes what the cache lacks.
func (s *Store) Worlds(ctx context.Context, daemon *buildkitd.Daemon, only ...string) error {
	temp, err := os.MkdirTemp(s.Cache, "settings-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	list, err := s.worlds(ctx, temp)
	if err != nil {
		return err
	}
	for _, w := range list {
		if len(only) > 0 && !slices.Contains(only, w.Name) {
			continue
		}
		if err := s.Build(ctx, daemon, w); err != nil {
			return fmt.Errorf("base image %s: %w", w.Name, err)
		}
	}
	return nil
}

// onlyImage gives the image in an OCI layout that holds one.
func onlyImage(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s: %d images, want 1", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// command runs a program and gives what it wrote to its standard output.
func command(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the callers name them
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// dockerfiles is where the Dockerfiles of the worlds' bases are.
func (s *Store) dockerfiles() string { return filepath.Join(s.Root, "testdata", "worlds", "bases") }
