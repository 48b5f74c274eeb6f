package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tree makes folders (a path ending in /), links ("name -> target") and files.
func tree(t *testing.T, paths ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, p := range paths {
		name, target, link := strings.Cut(p, " -> ")
		full := filepath.Join(root, name)
		var err error
		switch {
		case link:
			err = os.Symlink(target, full)
		case p[len(p)-1] == '/':
			err = os.MkdirAll(full, 0o755)
		default:
			err = os.WriteFile(full, []byte(p), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLook(t *testing.T) {
	t.Parallel()
	root := tree(t, "a/b/", "a/file", "usr/bin/", "bin -> usr/bin", "abs -> /a/b", "up -> ../../../../a", "dangling -> /run/x",
		"loop -> loop", "chain -> abs/../file", "a/back -> ..", "etc -> /etc", "root -> /", "host -> "+os.TempDir())
	tests := map[string]struct {
		name    string
		path    string
		missing []string
		err     error
	}{
		"the root":            {name: "/", path: "/"},
		"above the root":      {name: "/../../a", path: "/a"},
		"folder":              {name: "a/b", path: "/a/b"},
		"missing":             {name: "/a/c/d", path: "/a/c/d", missing: []string{"c", "d"}},
		"relative link":       {name: "/bin/sh", path: "/usr/bin/sh", missing: []string{"sh"}},
		"absolute link":       {name: "/abs", path: "/a/b"},
		"link above the root": {name: "/up/b", path: "/a/b"},
		"dangling link":       {name: "/dangling/y", path: "/run/x/y", missing: []string{"run", "x", "y"}},
		"link in a link":      {name: "/chain", path: "/a/file"},
		"link upwards":        {name: "/a/back/usr", path: "/usr"},
		"link to itself":      {name: "/loop", err: unix.ELOOP},
		"dangling to itself":  {name: "/etc/passwd", err: unix.ELOOP},
		"link to the root":    {name: "/root/root/a/./b/.", path: "/a/b"},
		"link to the machine": {name: "/host/x", path: filepath.Join(os.TempDir(), "x")},
		"through a file":      {name: "/a/file/x", err: unix.ENOTDIR},
		"up from nowhere":     {name: "/nothing/../a", err: unix.ENOENT},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := Look(root, tt.name)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			defer found.Close() //nolint:errcheck // O_PATH
			if found.Path != tt.path {
				t.Errorf("got %s, want %s", found.Path, tt.path)
			}
			if diff := cmp.Diff(tt.missing, found.Missing); diff != "" && tt.missing != nil {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMake(t *testing.T) {
	t.Parallel()
	root := tree(t, "a/", "a/link -> /b/c")
	for name, dir := range map[string]bool{"/a/link/deep": true, "/a/link/file": false, "/a": true} {
		f, err := Make(root, name, dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || info.IsDir() != dir {
			t.Errorf("%s: %v %v", name, info, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"b/c/deep", "b/c/file"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestStubs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		places    []Stub
		recursive bool
		meanwhile func(root string) error
		want      []string // what is there after Remove that was not before
	}{
		"nothing left": {
			places: []Stub{{Path: "/etc/hosts"}, {Path: "/run/a/b", Dir: true}, {Path: "/run/a/b/c"}}, recursive: true,
		},
		"parents stay": {
			places: []Stub{{Path: "/run/a/b", Dir: true}}, want: []string{"run", "run/a"},
		},
		"in use": {
			places: []Stub{{Path: "/run/a", Dir: true}, {Path: "/etc/f"}}, recursive: true,
			meanwhile: func(root string) error {
				return errors.Join(os.WriteFile(filepath.Join(root, "run/a/x"), nil, 0o600), os.WriteFile(filepath.Join(root, "etc/f"), []byte("x"), 0o600))
			},
			want: []string{"etc/f", "run", "run/a", "run/a/x"},
		},
		"replaced by a link": {
			places: []Stub{{Path: "/run/victim"}}, recursive: true,
			meanwhile: func(root string) error {
				return errors.Join(os.RemoveAll(filepath.Join(root, "run")), os.Symlink("/etc", filepath.Join(root, "run")))
			},
			want: []string{"run"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, "etc/", "etc/victim")
			old := unix.NsecToTimespec(1e18)
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, "etc"), []unix.Timespec{old, old}, 0); err != nil {
				t.Fatal(err)
			}
			before := all(t, root)
			s, err := MakeStubs(root, tt.places, tt.recursive)
			if err != nil {
				t.Fatal(err)
			}
			if tt.meanwhile != nil {
				if err := tt.meanwhile(root); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Remove(); err != nil {
				t.Error(err)
			}
			var got []string
			for name := range all(t, root) {
				if !before[name] {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff(tt.want, slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(root, "etc"), &st); err != nil {
				t.Fatal(err)
			}
			if tt.meanwhile == nil && st.Mtim != old {
				t.Errorf("/etc's time: got %v, want %v", st.Mtim, old)
			}
			if _, err := os.Lstat(filepath.Join(root, "etc/victim")); err != nil {
				t.Error(err)
			}
		})
	}
}

func all(t *testing.T, root string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		found[rel] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
