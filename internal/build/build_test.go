package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/problem"
)

var update = flag.Bool("update", false, "rewrite the expected results")

// TestGolden builds the Dockerfiles of testdata/*.txtar. An archive holds the
// context (a file is executable when its name ends in .sh), the base image's
// files below base/, and what is expected in "want": steps, layers, config.
func TestGolden(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := buildArchive(t, archive)
			for i, f := range archive.Files {
				if f.Name != "want" {
					continue
				}
				if *update {
					archive.Files[i].Data = []byte(got)
					if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
						t.Fatal(err)
					}
					return
				}
				if diff := cmp.Diff(got, string(f.Data)); diff != "" {
					t.Errorf("got -, want +:\n%s", diff)
				}
				return
			}
			t.Fatal(`the archive has no file "want"`)
		})
	}
}

// bases is a registry with one image, which must never be unpacked: its only
// layer fails to be read a second time.
type bases struct{ image v1.Image }

func (b bases) Resolve(_ context.Context, ref string, _ v1.Platform) (v1.Hash, v1.Image, error) {
	if b.image == nil {
		return v1.Hash{}, nil, fmt.Errorf("no image %s", ref)
	}
	digest, err := b.image.Digest()
	return digest, b.image, err
}

func buildArchive(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	var base []txtar.File
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "base/"); ok {
			base = append(base, txtar.File{Name: name, Data: f.Data})
			continue
		}
		if f.Name == "want" {
			continue
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(f.Name, ".sh") {
			mode = 0o755
		}
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, mode); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	result, err := build.Build(t.Context(), build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Display: "Dockerfile",
		BuildArgs: map[string]string{"FROM_INPUT": "given"},
		Labels:    map[string]string{"org.example.input": "yes"},
		Machine:   v1.Platform{OS: "linux", Architecture: "amd64"},
		Images:    bases{baseImage(t, base)},
		Dir:       filepath.Join(t.TempDir(), "state"),
		Now:       func() time.Time { return time.Unix(1_700_000_000, 0) },
		Progress: func(e progress.Event) {
			if e, ok := e.(progress.BaseUnpacked); ok {
				t.Errorf("%s was unpacked", e.Ref)
			}
		},
	})
	if err != nil {
		if p, ok := errors.AsType[*problem.Error](err); ok {
			return fmt.Sprintf("error %s:%d: %v\n", p.File, p.Line, p)
		}
		return fmt.Sprintf("error %v\n", err)
	}
	defer result.Close() //nolint:errcheck // the test's own folder
	describe(t, &out, result.Images[0])
	return out.String()
}

func baseImage(t *testing.T, files []txtar.File) v1.Image {
	t.Helper()
	if len(files) == 0 {
		return nil
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		mode := int64(0o644)
		if strings.HasPrefix(f.Name, "bin/") {
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: mode, Size: int64(len(f.Data)), ModTime: time.Unix(1_600_000_000, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"BASE=1"}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// describe writes an image down: its config without digests, and each layer.
func describe(t *testing.T, out io.Writer, image v1.Image) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.MarshalIndent(map[string]any{"config": config.Config, "platform": config.Platform()}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(out, "%s\n", shown)
	for _, h := range config.History {
		fmt.Fprintf(out, "history %q empty=%v\n", h.CreatedBy, h.EmptyLayer)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		fmt.Fprintf(out, "layer %d\n", i)
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(content); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(out, "  %c %04o %d:%d %6d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.Name)
			if h.Linkname != "" {
				fmt.Fprintf(out, " -> %s", h.Linkname)
			}
			fmt.Fprintf(out, "\n")
		}
	}
}

// requireRoot skips a test that makes files of other users, but not in CI.
func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}
