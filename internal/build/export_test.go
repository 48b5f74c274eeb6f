package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/problem"
)

const smallDockerfile = `FROM scratch
ARG TARGETARCH
COPY --chown=7:8 --chmod=4755 app /bin/app
COPY d /etc/
COPY <<EOF /etc/arch
$TARGETARCH
EOF
`

// buildSmall builds smallDockerfile for platforms.
func buildSmall(t *testing.T, platforms ...string) *build.Result {
	t.Helper()
	requireRoot(t)
	dir := t.TempDir()
	write := func(path, content string) {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", smallDockerfile)
	write("app", "app\n")
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "d", "link")); err != nil {
		t.Fatal(err)
	}
	opts := build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
		Images: bases{}, Dir: filepath.Join(t.TempDir(), "state"), SourceDateEpoch: "1700000000",
	}
	for _, text := range platforms {
		p, err := v1.ParsePlatform(text)
		if err != nil {
			t.Fatal(err)
		}
		opts.Platforms = append(opts.Platforms, *p)
	}
	result, err := build.Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = result.Close() })
	return result
}

func TestContent(t *testing.T) {
	t.Parallel()
	result := buildSmall(t, "linux/amd64", "linux/arm/v7")
	content, err := result.Content(build.ManifestOptions{Annotations: []build.Annotation{
		{Place: build.AnnotateManifest, Key: "all", Value: "1"},
		{Place: build.AnnotateManifest, Platform: "linux/arm", Key: "all", Value: "arm"},
		{Place: build.AnnotateManifestDescriptor, Platform: "linux/amd64", Key: "d", Value: "2"},
		{Place: build.AnnotateIndex, Key: "i", Value: "3"},
		{Place: build.AnnotateIndexDescriptor, Key: "id", Value: "4"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err = validate.Index(content.Index); err != nil {
		t.Error(err)
	}
	manifest, err := content.Index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	type child struct {
		Platform                string
		Descriptor, Annotations map[string]string
	}
	var got []child
	for _, desc := range manifest.Manifests {
		image, imageErr := content.Index.Image(desc.Digest)
		if imageErr != nil {
			t.Fatal(imageErr)
		}
		own, imageErr := image.Manifest()
		if imageErr != nil {
			t.Fatal(imageErr)
		}
		got = append(got, child{desc.Platform.String(), desc.Annotations, own.Annotations})
	}
	want := []child{
		{"linux/amd64", map[string]string{"d": "2"}, map[string]string{"all": "1"}},
		{"linux/arm/v7", nil, map[string]string{"all": "arm"}},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	if manifest.MediaType != types.OCIImageIndex || manifest.Annotations["i"] != "3" || content.Descriptor.Annotations["id"] != "4" {
		t.Errorf("got index %v, descriptor %v", manifest, content.Descriptor)
	}
	docker, err := result.Content(build.ManifestOptions{DockerTypes: true})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := docker.Images[0].RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("vnd.oci")) || docker.Descriptor.MediaType != types.DockerManifestList {
		t.Errorf("got %s, %s, want Docker's types only", docker.Descriptor.MediaType, raw)
	}
}

func TestContentOfOnePlatform(t *testing.T) {
	t.Parallel()
	content, err := buildSmall(t).Content(build.ManifestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if content.Index != nil || content.Descriptor.MediaType != types.OCIManifestSchema1 || content.Descriptor.Platform.String() != "linux/amd64" {
		t.Errorf("got %v, want a manifest of linux/amd64", content.Descriptor)
	}
}

func TestExportOCI(t *testing.T) {
	t.Parallel()
	result := buildSmall(t, "linux/amd64", "linux/arm64")
	dir := t.TempDir()
	names := []string{"registry.example.com/shop:v1", "shop:v2"}
	e := build.Export{Type: build.ExportOCI, Dest: filepath.Join(dir, "a", "layout"), Folder: true, Names: names}
	if err := result.Export(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(e.Dest)
	if err != nil {
		t.Fatal(err)
	}
	if err = validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, desc := range manifest.Manifests {
		got = append(got, desc.Annotations["io.containerd.image.name"]+" "+desc.Annotations["org.opencontainers.image.ref.name"])
	}
	if diff := cmp.Diff(got, []string{"registry.example.com/shop:v1 v1", "docker.io/library/shop:v2 v2"}); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}

	e.Folder, e.Dest = false, filepath.Join(dir, "image.tar")
	if err := result.Export(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	inTar := map[string]string{}
	for _, h := range readTar(t, e.Dest, inTar) {
		data, err := os.ReadFile(filepath.Join(dir, "a", "layout", h.Name))
		if err != nil || string(data) != inTar[h.Name] {
			t.Errorf("%s: the tar and the folder are not the same: %v", h.Name, err)
		}
	}
	first := read(t, e.Dest)
	if err := result.Export(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, read(t, e.Dest)) {
		t.Error("exported twice, the tar has other bytes")
	}
	onlyThese(t, dir, "a", "image.tar")
}

func TestExportDocker(t *testing.T) {
	t.Parallel()
	dest := filepath.Join(t.TempDir(), "image.tar")
	result := buildSmall(t)
	if err := result.Export(t.Context(), build.Export{Type: build.ExportDocker, Dest: dest, Names: []string{"registry.example.com/shop:v1", "shop"}}); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("registry.example.com/shop:v1")
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(dest, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err = validate.Image(image); err != nil {
		t.Error(err)
	}
	if err = result.Export(t.Context(), build.Export{Type: build.ExportDocker, Dest: dest}); err != nil {
		t.Errorf("without a name: %v", err)
	}
	err = buildSmall(t, "linux/amd64", "linux/arm64").Export(t.Context(), build.Export{Type: build.ExportDocker, Dest: dest})
	if known, ok := errors.AsType[*problem.Error](err); !ok || !strings.Contains(known.Fix, "type=oci") {
		t.Errorf("several platforms: got %v", err)
	}
}

// docker load takes what ExportDocker writes.
func TestDockerLoads(t *testing.T) {
	t.Parallel()
	docker, err := exec.LookPath("docker")
	if err == nil {
		err = exec.CommandContext(t.Context(), docker, "version").Run()
	}
	if err != nil {
		if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
			t.Fatal(err)
		}
		t.Skip("needs a Docker engine: " + err.Error())
	}
	const tag = "towline-export-test:v1"
	result, dest := buildSmall(t), filepath.Join(t.TempDir(), "image.tar")
	if err = result.Export(t.Context(), build.Export{Type: build.ExportDocker, Dest: dest, Names: []string{tag}}); err != nil {
		t.Fatal(err)
	}
	if out, loadErr := exec.CommandContext(t.Context(), docker, "load", "-i", dest).CombinedOutput(); loadErr != nil {
		t.Fatalf("%v: %s", loadErr, out)
	}
	t.Cleanup(func() { _ = exec.CommandContext(context.WithoutCancel(t.Context()), docker, "image", "rm", tag).Run() })
	out, err := exec.CommandContext(t.Context(), docker, "image", "inspect", "--format", "{{.Id}} {{.Architecture}}", tag).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config, err := result.Images[0].ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(out)), config.String()+" amd64"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestExportTar(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		platforms []string
		want      []string
	}{
		"one": {nil, []string{
			"5 0755 7:8 bin/", "0 4755 7:8 bin/app", "5 0755 0:0 etc/", "0 0644 0:0 etc/arch", "2 0777 0:0 etc/link -> /nowhere",
		}},
		"two": {[]string{"linux/arm64", "linux/amd64"}, []string{
			"5 0755 0:0 linux_amd64/",
			"5 0755 7:8 linux_amd64/bin/", "0 4755 7:8 linux_amd64/bin/app", "5 0755 0:0 linux_amd64/etc/", "0 0644 0:0 linux_amd64/etc/arch", "2 0777 0:0 linux_amd64/etc/link -> /nowhere",
			"5 0755 0:0 linux_arm64/",
			"5 0755 7:8 linux_arm64/bin/", "0 4755 7:8 linux_arm64/bin/app", "5 0755 0:0 linux_arm64/etc/", "0 0644 0:0 linux_arm64/etc/arch", "2 0777 0:0 linux_arm64/etc/link -> /nowhere",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := filepath.Join(t.TempDir(), "root.tar")
			if err := buildSmall(t, tt.platforms...).Export(t.Context(), build.Export{Type: build.ExportTar, Dest: dest}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range readTar(t, dest, map[string]string{}) {
				line := string(h.Typeflag) + " " + modeOf(h) + " " + h.Name
				if h.Linkname != "" {
					line += " -> " + h.Linkname
				}
				got = append(got, line)
				if h.ModTime.After(time.Unix(1700000000, 0)) {
					t.Errorf("%s is of %s, later than SOURCE_DATE_EPOCH", h.Name, h.ModTime)
				}
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

// A folder is filled for whom it lies with, and what was in it stays.
func TestExportLocal(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(workspace, 1001, 1002); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	dest := filepath.Join(workspace, "build", "dist")
	one := buildSmall(t)
	for range 2 { // into a new folder, then into one that is full
		if err := one.Export(t.Context(), build.Export{Type: build.ExportLocal, Dest: dest}); err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, filepath.Join(dest, "etc", "arch"))); got != "amd64\n" {
			t.Errorf("got %q, want amd64", got)
		}
		_ = os.WriteFile(filepath.Join(dest, "mine"), []byte("mine"), 0o600)
		if err := os.RemoveAll(filepath.Join(dest, "etc")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dest, "etc")); err != nil {
			t.Fatal(err)
		}
	}
	if string(read(t, filepath.Join(dest, "mine"))) != "mine" {
		t.Error("a file that was there before is not any more")
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a link led the export out of its folder")
	}
	if err := buildSmall(t, "linux/amd64", "linux/arm64").Export(t.Context(), build.Export{Type: build.ExportLocal, Dest: filepath.Join(workspace, "both")}); err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, filepath.Join(workspace, "both", "linux_arm64", "etc", "arch"))); got != "arm64\n" {
		t.Errorf("got %q, want arm64", got)
	}
	onlyThese(t, workspace, "both", "build")
	for _, dir := range []string{"build", "both"} {
		err := filepath.WalkDir(filepath.Join(workspace, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() == "mine" || entry.Name() == "etc" && entry.Type()&fs.ModeSymlink != 0 {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); ok && (stat.Uid != 1001 || stat.Gid != 1002) {
				t.Errorf("%s belongs to %d:%d, want 1001:1002", path, stat.Uid, stat.Gid)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestExportFails(t *testing.T) {
	t.Parallel()
	result := buildSmall(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for kind, dest := range map[string]string{build.ExportOCI: "folder", build.ExportLocal: "file", build.ExportTar: "file/below", build.ExportDocker: "folder"} {
		err := result.Export(t.Context(), build.Export{Type: kind, Dest: filepath.Join(dir, dest)})
		if known, ok := errors.AsType[*problem.Error](err); !ok || known.Input != "outputs" || known.Fix == "" {
			t.Errorf("%s to %s: got %v, want a problem with outputs", kind, dest, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the test")
	cancel(stop)
	for _, kind := range []string{build.ExportOCI, build.ExportLocal, build.ExportTar, build.ExportDocker} {
		if err := result.Export(ctx, build.Export{Type: kind, Dest: filepath.Join(dir, "new")}); !errors.Is(err, stop) {
			t.Errorf("%s: got %v, want the cause of the cancellation", kind, err)
		}
	}
	onlyThese(t, dir, "file", "folder")
}

// onlyThese holds that dir has these entries: no temporary file is left.
func onlyThese(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q in the folder, want %q", got, want)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readTar lists a tar, and puts the files' content into contents.
func readTar(t *testing.T, path string, contents map[string]string) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	for r := tar.NewReader(bytes.NewReader(read(t, path))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		contents[h.Name] = string(data)
		all = append(all, h)
	}
}

func modeOf(h *tar.Header) string { return fmt.Sprintf("%04o %d:%d", h.Mode, h.Uid, h.Gid) }
