package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(file string) error
		want   bool
	}{
		"nothing":   {change: func(string) error { return nil }},
		"appended":  {change: func(f string) error { return os.WriteFile(f, []byte("before and after"), 0o600) }, want: true},
		"truncated": {change: func(f string) error { return os.Truncate(f, 0) }, want: true},
		"same size and time": {change: func(f string) error {
			info, err := os.Stat(f)
			return errors.Join(err, os.WriteFile(f, []byte("BEFORE"), 0o600), os.Chtimes(f, info.ModTime(), info.ModTime()))
		}, want: true},
		"mode":     {change: func(f string) error { return os.Chmod(f, 0o777) }, want: true},
		"removed":  {change: os.Remove, want: true},
		"replaced": {change: func(f string) error { return errors.Join(os.Remove(f), os.WriteFile(f, []byte("x"), 0o600)) }, want: true},
		"link":     {change: func(f string) error { return errors.Join(os.Remove(f), os.Symlink("victim", f)) }, want: true},
		"folder":   {change: func(f string) error { return errors.Join(os.Remove(f), os.MkdirAll(f+"/x/y", 0o700)) }, want: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file, missing := filepath.Join(dir, "file"), filepath.Join(dir, "missing")
			write(t, dir, "victim", "victim")
			write(t, dir, "file", "before")
			old := unix.NsecToTimespec(1e18)
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{old, old}, 0); err != nil {
				t.Fatal(err)
			}
			files, err := record([]string{file, missing})
			if err != nil {
				t.Fatal(err)
			}
			if err = tt.change(file); err != nil {
				t.Fatal(err)
			}
			var want []string
			if tt.want {
				write(t, dir, "missing", "made up")
				want = []string{file, missing}
			}
			changed, err := restore(files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, changed); diff != "" {
				t.Errorf("restored (-want +got):\n%s", diff)
			}
			var st unix.Stat_t
			if err := unix.Lstat(file, &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode != unix.S_IFREG|0o644 || st.Mtim != old {
				t.Errorf("mode %o, time %v", st.Mode, st.Mtim)
			}
			if got := read(t, file) + read(t, filepath.Join(dir, "victim")); got != "beforevictim" {
				t.Errorf("content: %q", got)
			}
			if diff := cmp.Diff([]string{"file", "victim"}, list(t, dir)); diff != "" {
				t.Errorf("folder (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJournalUndo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "taken"} {
		write(t, dir, name, name)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	var j journal
	if err := errors.Join(j.rename(at("a"), at("c")), j.rename(at("b"), at("a"))); err != nil {
		t.Fatal(err)
	}
	if err := j.rename(at("c"), at("taken")); !errors.Is(err, os.ErrExist) {
		t.Errorf("replaced a file: %v", err)
	}
	if err := j.undo(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "taken"} {
		if got := read(t, at(name)); got != name {
			t.Errorf("%s is %s", name, got)
		}
	}
}
