package build_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/problem"
)

// smallDisk is a filesystem of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	requireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		unavailable(t, fmt.Errorf("mount a tmpfs: %w", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// noise is what no compression makes smaller.
func noise(size int) string {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return string(data)
}

// Wherever a build comes to the end of the disk, it says so, where, and what to do.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	w := newWorld(t)
	w.files["/file"] = []byte(noise(2 * mega))
	w.files["/context.tgz"] = tgz(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY data /\n", "data": noise(mega)})
	w.repository(t, "repo.git", map[string]string{"Dockerfile": "FROM scratch\nCOPY data /\n", "data": noise(2 * mega)})
	base, err := random.Image(2*mega, 1)
	if err != nil {
		t.Fatal(err)
	}
	context := map[string]string{"data": noise(mega), "archive.tgz": string(tgz(t, map[string]string{"data": strings.Repeat("zeroes", mega/2)}))}
	tests := map[string]struct {
		// room is the disk's size in quarters of the context's data.
		room       int
		dockerfile string
		context    string
		call       bool
		line       int
	}{
		"the context":                {room: 3, dockerfile: "FROM scratch\nCOPY data /\n"},
		"a copy":                     {room: 6, dockerfile: "FROM scratch\nCOPY data /\n", line: 2},
		"the layer of a copy":        {room: 10, dockerfile: "FROM scratch\nCOPY data /\n", line: 2},
		"the second copy":            {room: 14, dockerfile: "FROM scratch\nCOPY data /a\nCOPY data /b\n", line: 3},
		"a download":                 {room: 4, dockerfile: "FROM scratch\nADD " + w.URL + "/file /\n", line: 2},
		"a downloaded context":       {room: 2, context: w.URL + "/context.tgz"},
		"the files of that":          {room: 6, context: w.URL + "/context.tgz"},
		"a repository":               {room: 4, dockerfile: "FROM scratch\nADD " + w.URL + "/git/repo.git /r\n", line: 2},
		"a context in a repository":  {room: 6, context: w.URL + "/git/repo.git"},
		"an archive":                 {room: 6, dockerfile: "FROM scratch\nADD archive.tgz /\n", line: 2},
		"an image that is unpacked":  {room: 4, dockerfile: "FROM base AS b\nFROM scratch\nCOPY --from=b / /\n"},
		"the question what there is": {room: 2, context: w.URL + "/context.tgz", call: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, test.room*mega/4)
			opts := build.Options{
				Context: test.context, File: "Dockerfile", Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
				Images: bases{base}, Dir: filepath.Join(disk, "state"),
			}
			if opts.Context == "" {
				opts.Context = t.TempDir()
				writeFiles(t, opts.Context, context)
				writeFiles(t, opts.Context, map[string]string{"Dockerfile": test.dockerfile})
				opts.File = filepath.Join(opts.Context, "Dockerfile")
			}
			err := buildOrCall(t.Context(), opts, test.call)
			p, ok := errors.AsType[*problem.Error](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			for _, want := range []string{"disk full: ", " free at " + disk, "Remove what the job does not need"} {
				if !strings.Contains(p.Error(), want) {
					t.Errorf("error %q has no %q", p.Error(), want)
				}
			}
			if strings.Count(err.Error(), "disk full") != 1 || !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), " has ") {
				t.Errorf("error %q", err)
			}
			if test.line != 0 && p.Line != test.line {
				t.Errorf("line %d of %q, want %d", p.Line, p.File, test.line)
			}
		})
	}
}

func buildOrCall(ctx context.Context, opts build.Options, call bool) error {
	if call {
		_, err := build.Call(ctx, opts, "outline")
		return err
	}
	result, err := build.Build(ctx, opts)
	if err != nil {
		return err
	}
	return errors.Join(errors.New("built"), result.Close())
}

// So does an export.
func TestFullDiskOfExport(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 1<<20)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"Dockerfile": "FROM scratch\nCOPY data /\n", "data": noise(2 << 20)})
	result, err := build.Build(t.Context(), build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
		Images: bases{}, Dir: filepath.Join(t.TempDir(), "state"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close() //nolint:errcheck // the test's own folder
	for _, kind := range []string{build.ExportOCI, build.ExportDocker, build.ExportTar, build.ExportLocal} {
		dest := filepath.Join(disk, kind)
		err := result.Export(t.Context(), build.Export{Type: kind, Dest: dest, Names: []string{"example.org/a:1"}})
		p, ok := errors.AsType[*problem.Error](err)
		if !ok || !strings.Contains(err.Error(), "disk full: ") || !strings.Contains(err.Error(), disk) || p.Fix == "" {
			t.Errorf("%s: error %v", kind, err)
		}
		if _, err := os.Lstat(dest); err == nil {
			t.Errorf("%s is there", dest)
		}
	}
}
