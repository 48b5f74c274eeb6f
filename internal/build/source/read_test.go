package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	dir := filepath.Join(outer, "context")
	must(t,
		os.WriteFile(filepath.Join(outer, "secret"), []byte("secret"), 0o600),
		os.MkdirAll(filepath.Join(dir, "docker/prod"), 0o755),
		os.WriteFile(filepath.Join(dir, "docker/prod/Dockerfile"), []byte("FROM scratch\n"), 0o600),
		os.Symlink("docker/prod/Dockerfile", filepath.Join(dir, "Dockerfile")),
		os.Symlink("/docker", filepath.Join(dir, "docker/prod/abs")),
		os.Symlink("../secret", filepath.Join(dir, "up")),
		os.Symlink(filepath.Join(outer, "secret"), filepath.Join(dir, "away")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("../../../docker/prod/Dockerfile", filepath.Join(dir, "clamped")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
	)
	tests := map[string]struct {
		name           string
		offset, length int
		want           string
		err            error
	}{
		"plain":             {name: "docker/prod/Dockerfile", want: "FROM scratch\n"},
		"absolute":          {name: "/docker/prod/Dockerfile", want: "FROM scratch\n"},
		"range":             {name: "Dockerfile", offset: 5, length: 7, want: "scratch"},
		"range past end":    {name: "Dockerfile", offset: 5, length: 1 << 24, want: "scratch\n"},
		"offset past end":   {name: "Dockerfile", offset: 99, want: ""},
		"link":              {name: "Dockerfile", want: "FROM scratch\n"},
		"absolute link":     {name: "docker/prod/abs/prod/Dockerfile", want: "FROM scratch\n"},
		"link above root":   {name: "clamped", want: "FROM scratch\n"},
		"name above root":   {name: "../../Dockerfile", want: "FROM scratch\n"},
		"missing":           {name: "nothing", err: os.ErrNotExist},
		"missing folder":    {name: "no/thing", err: os.ErrNotExist},
		"through a file":    {name: "Dockerfile/x", err: syscall.ENOTDIR},
		"link to outside":   {name: "up", err: os.ErrNotExist},
		"link to elsewhere": {name: "away", err: os.ErrNotExist},
		"loop":              {name: "loop", err: syscall.ELOOP},
		"folder":            {name: "docker", err: errNotRegular},
		"pipe":              {name: "fifo", err: errNotRegular},
		"negative":          {name: "Dockerfile", offset: -1, err: syscall.EINVAL},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadFile(dir, test.name, test.offset, test.length)
			if !errors.Is(err, test.err) {
				t.Fatalf("ReadFile: error %v, want %v", err, test.err)
			}
			if err != nil && (strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), test.name)) {
				t.Errorf("ReadFile: error %q names the folder, or not the file", err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("ReadFile (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	when := time.Unix(1_500_000_000, 42)
	must(t,
		os.WriteFile(filepath.Join(dir, "file"), []byte("12345"), 0o640),
		os.Chmod(filepath.Join(dir, "file"), 0o640),
		os.Chtimes(filepath.Join(dir, "file"), when, when),
		os.Symlink("file", filepath.Join(dir, "link")),
	)
	for _, name := range []string{"file", "link", "/link"} {
		got, err := Stat(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		if got.Path != "file" || got.Size != 5 || os.FileMode(got.Mode) != 0o640 || got.ModTime != when.UnixNano() || got.Uid != 0 {
			t.Errorf("Stat(%q) = %v", name, got)
		}
	}
	if got, err := Stat(dir, "."); err != nil || !got.IsDir() || got.Size != 0 {
		t.Errorf("Stat of the root = %v, %v", got, err)
	}
	if _, err := Stat(dir, "nothing"); !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), dir) {
		t.Errorf("Stat of a missing file: error %v", err)
	}
	if _, err := Stat(filepath.Join(dir, "file"), "x"); err == nil || !strings.Contains(err.Error(), "it is not a folder") {
		t.Errorf("Stat in a file: error %v", err)
	}
}
