package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// changesOf gives changes as "kind path".
func changesOf(changes []Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s %s", c.Kind, c.Path))
	}
	return out
}

func TestCompare(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_000_000_000, 5)
	tests := map[string]struct {
		change  func(do func(error), root string)
		touched map[string]bool
		want    []string
	}{
		"nothing": {change: func(func(error), string) {}},
		"added": {change: func(do func(error), root string) {
			do(writeFile(filepath.Join(root, "d/new/x"), "x"))
		}, want: []string{"added d/new", "added d/new/x"}},
		"same size and time": {change: func(do func(error), root string) {
			do(os.WriteFile(filepath.Join(root, "d/f"), []byte("g"), 0o644))
			do(os.Chtimes(filepath.Join(root, "d/f"), at, at))
		}, want: []string{"modified d/f"}},
		"replaced by its like": {change: func(do func(error), root string) {
			do(writeFile(filepath.Join(root, "new"), "f"))
			do(os.Chtimes(filepath.Join(root, "new"), at, at))
			do(os.Rename(filepath.Join(root, "new"), filepath.Join(root, "d/f")))
		}, want: []string{"modified d/f"}},
		"symlink's time": {change: func(do func(error), root string) {
			do(unix.Lutimes(filepath.Join(root, "s"), []unix.Timeval{{Sec: 5}, {Sec: 5}}))
		}, want: []string{"modified s"}},
		"symlink's target": {change: func(do func(error), root string) {
			do(os.Remove(filepath.Join(root, "s")))
			do(os.Symlink("f", filepath.Join(root, "s")))
			do(unix.Lutimes(filepath.Join(root, "s"), []unix.Timeval{{Sec: 1_000_000_000}, {Sec: 1_000_000_000}}))
		}, want: []string{"modified s"}},
		"file's attribute": {change: func(do func(error), root string) {
			do(unix.Setxattr(filepath.Join(root, "d/f"), "user.k", []byte("v"), 0))
		}, want: []string{"modified d/f"}},
		"symlink made anew": {change: func(do func(error), root string) {
			do(os.Remove(filepath.Join(root, "s")))
			do(os.Symlink("d", filepath.Join(root, "s")))
			do(unix.Lutimes(filepath.Join(root, "s"), []unix.Timeval{{Sec: 1_000_000_000}, {Sec: 1_000_000_000}}))
		}},
		"deleted": {change: func(do func(error), root string) {
			do(os.RemoveAll(filepath.Join(root, "d")))
		}, want: []string{"deleted d"}},
		"folder to file": {change: func(do func(error), root string) {
			do(os.RemoveAll(filepath.Join(root, "d")))
			do(writeFile(filepath.Join(root, "d"), "x"))
		}, want: []string{"modified d"}},
		"file to folder": {change: func(do func(error), root string) {
			do(os.Remove(filepath.Join(root, "d/f")))
			do(writeFile(filepath.Join(root, "d/f/x"), "x"))
		}, want: []string{"modified d/f", "added d/f/x"}},
		"folder made anew": {change: func(do func(error), root string) {
			do(os.RemoveAll(filepath.Join(root, "d")))
			do(writeFile(filepath.Join(root, "d/x"), "x"))
		}, want: []string{"deleted d/f", "deleted d/sub", "added d/x"}},
		"folder's time alone": {change: func(do func(error), root string) {
			do(os.Chtimes(filepath.Join(root, "d"), at, at))
			do(os.WriteFile(filepath.Join(root, "d/sub/tmp"), nil, 0o600))
			do(os.Remove(filepath.Join(root, "d/sub/tmp")))
		}},
		"folder's mode": {change: func(do func(error), root string) {
			do(os.Chmod(filepath.Join(root, "d"), 0o700))
		}, want: []string{"modified d"}},
		"folder's attribute": {change: func(do func(error), root string) {
			do(unix.Setxattr(filepath.Join(root, "d"), "user.k", []byte("v"), 0))
		}, want: []string{"modified d"}},
		"linked": {change: func(do func(error), root string) {
			do(os.Link(filepath.Join(root, "d/f"), filepath.Join(root, "d/g")))
		}, want: []string{"modified d/f", "added d/g"}},
		"renamed in and out": {change: func(do func(error), root string) {
			do(os.Rename(filepath.Join(root, "top"), filepath.Join(root, "aside")))
			do(os.Rename(filepath.Join(root, "aside"), filepath.Join(root, "top")))
		}, touched: map[string]bool{"top": true}},
		"renamed and written": {change: func(do func(error), root string) {
			do(os.WriteFile(filepath.Join(root, "top"), []byte("other"), 0o644))
		}, touched: map[string]bool{"top": true}, want: []string{"modified top"}},
		"renamed and linked": {change: func(do func(error), root string) {
			do(os.Link(filepath.Join(root, "top"), filepath.Join(root, "top2")))
		}, touched: map[string]bool{"top": true}, want: []string{"modified top", "added top2"}},
		"names between": {change: func(do func(error), root string) {
			do(writeFile(filepath.Join(root, "d-x"), "x"))
			do(writeFile(filepath.Join(root, "d.x"), "x"))
			do(os.RemoveAll(filepath.Join(root, "d/sub")))
		}, want: []string{"deleted d/sub", "added d-x", "added d.x"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			write(t, filepath.Join(root, "d/f"), "f")
			write(t, filepath.Join(root, "d/sub/x"), "x")
			write(t, filepath.Join(root, "top"), "t")
			do := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			do(os.Symlink("d", filepath.Join(root, "s")))
			do(os.Chtimes(filepath.Join(root, "d/f"), at, at))
			do(unix.Lutimes(filepath.Join(root, "s"), []unix.Timeval{{Sec: 1_000_000_000}, {Sec: 1_000_000_000}}))
			before := settled(t, root)
			tt.change(do, root)
			after := scan(t, root)
			diff(t, "changes", changesOf(Compare(before, after, tt.touched)), tt.want)
			again, err := Scan(t.Context(), root, ScanOptions{Before: before})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(again.entries, after.entries) {
				t.Errorf("with what was there before: got %+v, want %+v", again.entries, after.entries)
			}
		})
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if x := scan(t, root); x.Len() != 0 || !x.Latest().IsZero() {
		t.Errorf("got %d, %v for an empty folder", x.Len(), x.Latest())
	}
	// Deeper than a path can be long.
	r, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("d", 250)
	for range 20 {
		if err = r.Mkdir(deep, 0o755); err != nil {
			t.Fatal(err)
		}
		next, nextErr := r.OpenRoot(deep)
		if nextErr != nil {
			t.Fatal(nextErr)
		}
		if err = next.WriteFile("f", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		r = next
	}
	_ = r.Close()
	for _, jobs := range []int{0, 1, 8} {
		x, scanErr := Scan(t.Context(), root, ScanOptions{Jobs: jobs})
		if scanErr != nil {
			t.Fatal(scanErr)
		}
		if x.Len() != 40 {
			t.Errorf("got %d, want 40", x.Len())
		}
		if !slices.IsSortedFunc(x.entries, func(a, b entry) int { return walkLess(a.path, b.path) }) {
			t.Errorf("with %d jobs: not sorted", jobs)
		}
	}
	fd, err := openDirAt(unix.AT_FDCWD, root)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	if err := removeAll(fd, deep); err != nil {
		t.Error(err)
	}
	cause := errors.New("told to stop")
	if _, err := Scan(cancelled(t, cause), root, ScanOptions{}); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	if _, err := Scan(t.Context(), filepath.Join(root, "no"), ScanOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestSettle: whatever is written after Settle shows, however quickly.
func TestSettle(t *testing.T) {
	t.Parallel()
	root, side := t.TempDir(), t.TempDir()
	at := time.Unix(1_000_000_000, 0)
	path := filepath.Join(root, "f")
	for i := range 100 {
		if err := errors.Join(os.WriteFile(path, []byte{byte(i)}, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
		before := scan(t, root)
		if err := Settle(t.Context(), side, before); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, []byte{byte(i + 1)}, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
		if got := changesOf(Compare(before, scan(t, root), nil)); len(got) != 1 {
			t.Fatalf("round %d: got %v", i, got)
		}
	}
	left, err := os.ReadDir(side)
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v", left, err)
	}
	// A clock that was set back is not waited for.
	x := &Index{latest: unix.Timespec{Sec: time.Now().Unix() + 3600}}
	if err := Settle(t.Context(), side, x); err != nil {
		t.Error(err)
	}
	cause := errors.New("told to stop")
	x = &Index{latest: unix.Timespec{Sec: time.Now().Unix() + 1}}
	if err := Settle(cancelled(t, cause), side, x); err != nil && !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestWalkLess(t *testing.T) {
	t.Parallel()
	sorted := []string{"", "a", "a/b", "a/b/c", "a/bb", "a\x01", "a b", "a-b", "a.b", "ab", "b"}
	for i, x := range sorted {
		for j, y := range sorted {
			if got, want := walkLess(x, y), i-j; got > 0 != (want > 0) || got < 0 != (want < 0) {
				t.Errorf("walkLess(%q, %q): got %d, want %d", x, y, got, want)
			}
		}
	}
}
