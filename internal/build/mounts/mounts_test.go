package mounts

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// bytesOf gives n bytes that do not compress, always the same for a seed.
func bytesOf(seed uint64, n int) []byte {
	out := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = source.Read(out)
	return out
}

func giving(from Saved) func(context.Context) (Saved, error) {
	return func(context.Context) (Saved, error) { return from, nil }
}

func opened(t *testing.T, from Saved, opts Options) *Set {
	t.Helper()
	opts.From = giving(from)
	s := New(opts)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// keptBuild is a build with one mount: it restores what from has, lets change
// work in the folder, and saves it. It gives what is kept, and the folder.
func keptBuild(t *testing.T, from Saved, change func(dir string)) (Saved, Kept, string) {
	t.Helper()
	s := opened(t, from, Options{Dir: t.TempDir()})
	dir := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if s.Has("//cache") {
		if _, err := s.Restore(t.Context(), "//cache", dir); err != nil {
			t.Fatal(err)
		}
	}
	s.Use("//cache", dir)
	change(dir)
	saved, kept, err := s.Save(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return saved, kept, dir
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree lists a folder: kind, mode, time but of folders, content.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		line := rel + " " + info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, readErr := os.ReadFile(name)
			if readErr != nil {
				return readErr
			}
			line += fmt.Sprintf(" %d %x", info.ModTime().UnixMicro(), data[:min(len(data), 8)])
			line += fmt.Sprintf(" %d %d", len(data), bytes.Count(data, []byte{7}))
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(name)
			line += " " + to
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func filled(t *testing.T) func(dir string) {
	t.Helper()
	return func(dir string) {
		write(t, dir, "a/small", []byte("hello"))
		write(t, dir, "a/empty", nil)
		write(t, dir, "b/c/large", bytesOf(1, 9<<20))
		write(t, dir, "b/c/twin", bytesOf(1, 9<<20))
		for i := range 50 {
			write(t, dir, fmt.Sprintf("many/%02d", i), bytesOf(uint64(100+i), 10_000))
		}
		write(t, dir, "a/program", []byte("#!"))
		for _, err := range []error{
			os.Chmod(filepath.Join(dir, "a/program"), 0o4755),
			os.Symlink("../../../../etc/passwd", filepath.Join(dir, "a/link")),
			os.Link(filepath.Join(dir, "a/small"), filepath.Join(dir, "b/hard")),
			os.Chtimes(filepath.Join(dir, "a/small"), time.Unix(1_000_000, 0), time.Unix(1_000_000, 0)),
			os.Chmod(filepath.Join(dir, "many"), 0o700),
			os.Chmod(dir, 0o1777),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRestoredAsItWas(t *testing.T) {
	t.Parallel()
	saved, kept, dir := keptBuild(t, Saved{}, filled(t))
	if !kept.Changed || kept.Mounts != 1 || kept.New < 9<<20 || kept.New > 11<<20 {
		t.Errorf("got %+v, want 9.5 MB in one mount: the twin is kept once", kept)
	}
	again, kept, second := keptBuild(t, saved, func(string) {})
	if diff := cmp.Diff(tree(t, second), tree(t, dir)); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	if kept.Changed || kept.New != 0 || string(again.Config) != string(saved.Config) {
		t.Errorf("got %+v of what nobody changed", kept)
	}
	var hard [2]fs.FileInfo
	for i, name := range []string{"a/small", "b/hard"} {
		info, err := os.Stat(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		hard[i] = info
	}
	if !os.SameFile(hard[0], hard[1]) {
		t.Error("the two names of a file became two files")
	}
}

// What is uploaded is what is new, wherever it stands, and packs that have
// mostly been left by what they held are let go.
func TestSavesWhatIsNew(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change   func(t *testing.T, dir string)
		min, max int64
	}{
		"a file in every folder": {func(t *testing.T, dir string) {
			t.Helper()
			for i := range 10 {
				write(t, dir, fmt.Sprintf("many/%02d-new", i), bytesOf(uint64(300+i), 10_000))
			}
		}, 100_000, 120_000},
		"a byte within a large file": {func(t *testing.T, dir string) {
			t.Helper()
			data := bytesOf(1, 9<<20)
			write(t, dir, "b/c/large", slices.Insert(data, 4<<20, 7))
		}, 256 << 10, 5 << 20},
		"the same written again": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, dir, "b/c/large", bytesOf(1, 9<<20))
		}, 100, 20_000},
		"a folder's time": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, dir, "many/lock", nil)
			if err := os.Remove(filepath.Join(dir, "many/lock")); err != nil {
				t.Fatal(err)
			}
		}, 0, 0},
		"a removed file": {func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, "many/07")); err != nil {
				t.Fatal(err)
			}
		}, 100, 20_000},
		"nearly all removed": {func(t *testing.T, dir string) {
			t.Helper()
			for _, name := range []string{"b/c/large", "b/c/twin"} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}, 500_000, 550_000},
	}
	first, _, _ := keptBuild(t, Saved{}, filled(t))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			saved, kept, dir := keptBuild(t, first, func(dir string) { tt.change(t, dir) })
			if kept.New < tt.min || kept.New > tt.max || kept.Changed != (tt.max > 0) {
				t.Errorf("got %+v, want %d to %d new bytes", kept, tt.min, tt.max)
			}
			_, _, again := keptBuild(t, saved, func(string) {})
			if diff := cmp.Diff(tree(t, again), tree(t, dir)); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

// Many builds that each add a little do not leave as many packs.
func TestSmallPacksAreJoined(t *testing.T) {
	t.Parallel()
	var saved Saved
	for i := range 3 * maxSmall {
		saved, _, _ = keptBuild(t, saved, func(dir string) { write(t, dir, fmt.Sprintf("new-%d", i), bytesOf(uint64(i), 5000)) })
		if len(saved.Layers) > maxSmall+2 {
			t.Fatalf("after build %d there are %d blobs", i, len(saved.Layers))
		}
	}
	_, _, dir := keptBuild(t, saved, func(string) {})
	if files := tree(t, dir); len(files) != 3*maxSmall+1 {
		t.Errorf("got %q", files)
	}
}

// What has no room is left out whole: first what has not been used for longest.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var saved Saved
	build := func(size int, keys ...string) (Kept, []string) {
		t.Helper()
		day = day.Add(24 * time.Hour)
		s := opened(t, saved, Options{Dir: t.TempDir(), MaxSize: 1000, Now: func() time.Time { return day }})
		for _, key := range keys {
			dir := t.TempDir()
			write(t, dir, "file", bytesOf(uint64(len(key)), size))
			s.Use(key, dir)
		}
		var kept Kept
		var err error
		if saved, kept, err = s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		return kept, slices.Sorted(func(yield func(string) bool) {
			for key := range s.mounts {
				if strings.Contains(string(saved.Config), `"`+key+`"`) && !yield(key) {
					return
				}
			}
		})
	}
	for _, want := range []struct {
		size    int
		use     []string
		keys    []string
		dropped map[string]int64
	}{
		{400, []string{"//a", "//b"}, []string{"//a", "//b"}, map[string]int64{}},
		{500, []string{"//b"}, []string{"//a", "//b"}, map[string]int64{}},
		{300, []string{"//c"}, []string{"//b", "//c"}, map[string]int64{"/a": 400}},
		{1001, []string{"//d"}, []string{"//b", "//c"}, map[string]int64{"/d": 1001}},
		{900, []string{"//e"}, []string{"//e"}, map[string]int64{"/b": 500, "/c": 300}},
	} {
		kept, keys := build(want.size, want.use...)
		if diff := cmp.Diff(keys, want.keys); diff != "" {
			t.Errorf("%v: got -, want +:\n%s", want.use, diff)
		}
		if diff := cmp.Diff(kept.Dropped, want.dropped); diff != "" {
			t.Errorf("%v: got -, want +:\n%s", want.use, diff)
		}
	}
}

// spoiled is a layer whose content is another's.
type spoiled struct {
	v1.Layer
	content v1.Layer
}

// TestFaults: nothing that is wrong with what is kept breaks a mount, and the
// next Save writes it anew.
func TestFaults(t *testing.T) {
	t.Parallel()
	saved, _, _ := keptBuild(t, Saved{}, filled(t))
	t.Run("a blob that is not there", func(t *testing.T) {
		t.Parallel()
		broken := Saved{Config: saved.Config, Layers: saved.Layers[1:]}
		s := New(Options{From: giving(broken)})
		if err := s.Open(t.Context()); err == nil || s.Has("//cache") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no JSON", func(t *testing.T) {
		t.Parallel()
		if err := New(Options{From: giving(Saved{Config: []byte("{")})}).Open(t.Context()); err == nil {
			t.Error("it was read")
		}
	})
	t.Run("a pack with other content", func(t *testing.T) {
		t.Parallel()
		broken := Saved{Config: saved.Config, Layers: slices.Clone(saved.Layers)}
		broken.Layers[1] = spoil(t, saved.Layers[1], saved.Layers[0])
		s := opened(t, broken, Options{Dir: t.TempDir()})
		dir := filepath.Join(t.TempDir(), "mount")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Restore(t.Context(), "//cache", dir); err == nil {
			t.Fatal("it was restored")
		}
		if s.Has("//cache") {
			t.Error("it would be restored once more")
		}
		empty := t.TempDir()
		write(t, empty, "file", []byte("new"))
		s.Use("//cache", empty)
		after, kept, err := s.Save(t.Context())
		if err != nil || !kept.Changed {
			t.Fatal(kept, err)
		}
		_, _, again := keptBuild(t, after, func(string) {})
		if got := tree(t, again); len(got) != 2 {
			t.Errorf("got %q", got)
		}
	})
	t.Run("an end", func(t *testing.T) {
		t.Parallel()
		s := opened(t, saved, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		dir := filepath.Join(t.TempDir(), "mount")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Restore(ctx, "//cache", dir); err == nil {
			t.Error("it was restored")
		}
	})
}
