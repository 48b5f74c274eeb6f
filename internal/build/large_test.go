//go:build linux

package build_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// largeFile is the size of the largest file that is built: TOWLINE_LARGE in GiB,
// by default 2, which takes a few seconds.
func largeFile(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("TOWLINE_LARGE") //nolint:forbidigo // tests have no caller who could say
	if text == "" {
		return 2 << 30
	}
	gib, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return gib << 30
}

// memory calls do and gives the largest amount of memory that this process had in RAM
// meanwhile beyond what it had before, in MiB.
func memory(t *testing.T, do func()) int64 {
	t.Helper()
	runtime.GC()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil {
		t.Skipf("the kernel does not tell a process's largest size: %v", err)
	}
	before := kilobytes(t, "VmRSS:")
	do()
	return (kilobytes(t, "VmHWM:") - before) >> 10
}

func kilobytes(t *testing.T, field string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), field)
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLargeFile builds a file of many gigabytes that is mostly a hole, packs it and unpacks
// it again, in bounded memory and without filling the disk. It must not run beside others.
func TestLargeFile(t *testing.T) {
	requireRoot(t)
	size := largeFile(t)
	s := steps{"namespaces", map[string]func(string) error{"large": func(root string) error {
		path := filepath.Join(root, "large")
		return tries(
			func() error { return os.WriteFile(path, []byte("start"), 0o600) },
			func() error { return os.Truncate(path, size) },
			func() error { return writeBehind(path, size-3, "end") },
		)
	}}}
	begun := time.Now()
	var layers []v1.Layer
	grown := memory(t, func() {
		var err error
		if layers, err = buildSteps(t, s, "large").Images[0].Layers(); err != nil {
			t.Fatal(err)
		}
	})
	packed, err := layers[1].Size()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d GiB packed into %d bytes: %s, %d MiB of memory", size>>30, packed, time.Since(begun).Round(time.Second/10), grown)
	begun = time.Now()
	dir := t.TempDir()
	again := memory(t, func() { unpackAs(t, ourUnpack, dir, layers) })
	t.Logf("unpacked: %s, %d MiB of memory", time.Since(begun).Round(time.Second/10), again)
	if grown > 150 || again > 150 {
		t.Errorf("memory grew by %d and %d MiB, want at most 150", grown, again)
	}
	var st unix.Stat_t
	if err = unix.Stat(filepath.Join(dir, "large"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != size || st.Blocks*512 > 2<<20 {
		t.Errorf("unpacked: %d bytes, %d of them on disk", st.Size, st.Blocks*512)
	}
	f, err := os.Open(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	ends := make([]byte, 8)
	_, errStart := f.ReadAt(ends[:5], 0)
	_, errEnd := f.ReadAt(ends[5:], size-3)
	if string(ends) != "startend" || errors.Join(errStart, errEnd) != nil {
		t.Errorf("got %q, %v, %v", ends, errStart, errEnd)
	}
}

// TestLargeFolder builds a folder of 20,000 files (200,000 with TOWLINE_LARGE, which
// takes minutes), changes one of them, and unpacks all of it.
func TestLargeFolder(t *testing.T) {
	requireRoot(t)
	files := 20_000
	if os.Getenv("TOWLINE_LARGE") != "" { //nolint:forbidigo // tests have no caller who could say
		files = 200_000
	}
	s := steps{"in place", map[string]func(string) error{
		"many": func(root string) error {
			if err := os.Mkdir(filepath.Join(root, "many"), 0o755); err != nil {
				return err
			}
			for i := range files {
				if err := os.WriteFile(filepath.Join(root, "many", fmt.Sprintf("file-%06d", i)), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		"one": func(root string) error {
			return os.WriteFile(filepath.Join(root, "many", "file-012345"), []byte("changed"), 0o600)
		},
	}}
	var layers []v1.Layer
	begun := time.Now()
	grown := memory(t, func() {
		var err error
		if layers, err = buildSteps(t, s, "many", "one").Images[0].Layers(); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d files built in two steps: %s, %d MiB of memory", files, time.Since(begun).Round(time.Second/10), grown)
	begun = time.Now()
	dir := t.TempDir()
	again := memory(t, func() { unpackAs(t, ourUnpack, dir, layers) })
	t.Logf("unpacked: %s, %d MiB of memory", time.Since(begun).Round(time.Second/10), again)
	if grown > 400 || again > 200 {
		t.Errorf("memory grew by %d and %d MiB, want at most 400 and 200", grown, again)
	}
	names, err := os.ReadDir(filepath.Join(dir, "many"))
	if err != nil || len(names) != files {
		t.Errorf("got %d files, %v", len(names), err)
	}
	if content, err := os.ReadFile(filepath.Join(dir, "many", "file-012345")); string(content) != "changed" || err != nil {
		t.Errorf("got %q, %v", content, err)
	}
	if got := entryNames(t, layers[2]); !cmp.Equal(got, []string{"many/", "many/file-012345"}) {
		t.Errorf("the second step's layer: %d entries", len(got))
	}
}

// TestEngineTakesLayers loads an image with every odd thing into a Docker engine.
func TestEngineTakesLayers(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	if os.Getenv("TOWLINE_CI") != "1" { //nolint:forbidigo // engine tests run where this is set
		t.Skip("wants a Docker engine, so it runs with TOWLINE_CI=1")
	}
	cases := fidelityCases()
	// A hole of gigabytes would be written out by the engine.
	order := []string{"hard-links", "attributes", "modes", "devices", "times", "names", "linked-parents", "emptied-folder", "sizes", "other-types"}
	image := buildSteps(t, steps{"in place", cases}, order...).Images[0]
	tag, err := name.NewTag("towline-fidelity:test")
	if err != nil {
		t.Fatal(err)
	}
	load := exec.CommandContext(t.Context(), "docker", "load", "--quiet")
	in, out := io.Pipe()
	load.Stdin = in
	go func() { out.CloseWithError(tarball.Write(tag, image, out)) }()
	if said, loadErr := load.CombinedOutput(); loadErr != nil {
		t.Fatalf("docker load: %v\n%s", loadErr, said)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", tag.String()).Run() }) //nolint:noctx // the test's context has ended
	id, err := exec.CommandContext(t.Context(), "docker", "create", tag.String(), "/none").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rm", strings.TrimSpace(string(id))).Run() }) //nolint:noctx // the test's context has ended
	export := exec.CommandContext(t.Context(), "docker", "export", strings.TrimSpace(string(id)))
	tar, err := export.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = export.Start(); err != nil {
		t.Fatal(err)
	}
	theirs, ours := t.TempDir(), t.TempDir()
	if err = errors.Join(theirUnpack(t.Context(), theirs, tar), export.Wait()); err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	unpackAs(t, ourUnpack, ours, layers)
	got, want := facts(t, theirs, time.Now().Add(-time.Minute)), facts(t, ours, time.Now().Add(-time.Minute))
	for path := range got {
		if _, ok := want[path]; !ok && engineMakes(path) {
			delete(got, path)
		}
	}
	// The engine's export has neither fractions of seconds nor such attributes.
	unseen := regexp.MustCompile(`(?:(\d)\.\d{9}| user\.[^ ]*)`)
	for _, all := range []map[string]string{got, want} {
		for path, text := range all {
			all[path] = unseen.ReplaceAllString(text, "$1")
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("the engine's container (-got +want):\n%s", diff)
	}
}

// engineMakes tells what an engine adds to each container.
func engineMakes(path string) bool {
	switch strings.SplitN(path, "/", 2)[0] {
	case "dev", "etc", "proc", "sys", ".dockerenv":
		return true
	}
	return false
}
