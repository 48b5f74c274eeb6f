package build_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/sandbox"
)

// TestMain is also what a RUN step starts.
func TestMain(m *testing.M) {
	if code, ok := sandbox.Main(os.Args); ok {
		os.Exit(code) //nolint:forbidigo // a RUN's process ends with its code
	}
	m.Run()
}

// The same context and the same SOURCE_DATE_EPOCH give the same digest, whenever
// and wherever it is built.
func TestReproducible(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	tests := map[string]struct {
		dockerfile string
		runs       bool
	}{
		"copies": {"FROM scratch\nARG SOURCE_DATE_EPOCH\nENV AT=$SOURCE_DATE_EPOCH\nWORKDIR /app\nCOPY . .\nCOPY --link one /linked/\n", false},
		"runs": {
			"FROM base.example/base:1\nCOPY . /app\n" +
				"RUN mkdir -p /out/a && echo hello >/out/a/b && ln /out/a/b /out/c && ln -s b /out/d && chmod 600 /app/one\n" +
				"RUN echo more >>/out/a/b && rm /app/two && touch /app/now\n", true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := build.Options{Machine: v1.Platform{OS: "linux", Architecture: "amd64"}, Images: bases{}, SourceDateEpoch: "1700000000"}
			if tt.runs {
				opts.Images, opts.Sandbox = bases{busybox(t)}, anySandbox(t)
			}
			var digests []string
			for n := range 2 {
				digests = append(digests, buildAt(t, opts, tt.dockerfile, time.Now().Add(-time.Duration(n)*time.Hour)))
			}
			if digests[0] != digests[1] {
				t.Errorf("got the digests %q, want one", digests)
			}
		})
	}
}

// buildAt builds dockerfile in a folder of its own whose files are of mtime.
func buildAt(t *testing.T, opts build.Options, dockerfile string, mtime time.Time) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"Dockerfile": dockerfile, "one": "1", "two": "2"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, mtime, mtime); err != nil {
			t.Fatal(err)
		}
	}
	opts.Context, opts.File, opts.Dir = dir, filepath.Join(dir, "Dockerfile"), filepath.Join(t.TempDir(), "state")
	result, err := build.Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close() //nolint:errcheck // the test's own folder
	config, err := result.Images[0].ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(1700000000, 0); !config.Created.Equal(want) {
		t.Errorf("created: got %s, want %s", config.Created, want)
	}
	digest, err := result.Images[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// busybox is an image with the machine's static busybox as its shell.
func busybox(t *testing.T) v1.Image {
	t.Helper()
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		unavailable(t, err)
	}
	var files []txtar.File
	for _, name := range []string{"busybox", "sh", "mkdir", "ln", "chmod", "rm", "touch"} {
		files = append(files, txtar.File{Name: "bin/" + name, Data: binary})
	}
	return baseImage(t, files)
}

// anySandbox is whichever sandbox this machine offers.
func anySandbox(t *testing.T) sandbox.Sandbox {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	box, _, err := sandbox.Choose(t.Context(), "auto", sandbox.Options{StateDir: t.TempDir(), Executable: executable})
	if err != nil {
		unavailable(t, err)
	}
	return box
}

// unavailable skips a test that this machine cannot run, unless it must.
func unavailable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
		t.Fatal(err)
	}
	t.Skip("not to be had here: " + err.Error())
}
