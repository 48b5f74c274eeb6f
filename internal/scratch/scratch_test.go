package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Not parallel: the folder for temporary files is the process's.
func TestMake(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	outside := filepath.Join(t.TempDir(), "kept")
	for _, dir := range []string{"towline-step-1/trees/a", "towline-step-held", "towline-rehearsal-1", "other"} {
		if err := os.MkdirAll(filepath.Join(temp, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(temp, "towline-step-file"), nil, 0o600),
		os.Mkdir(outside, 0o700),
		os.Symlink(outside, filepath.Join(temp, "towline-step-link")),
		os.Symlink(outside, filepath.Join(temp, "towline-step-1/trees/link")),
	)
	if err != nil {
		t.Fatal(err)
	}
	held, err := hold(filepath.Join(temp, "towline-step-held"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Make("towline-step-")
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Base(f.Path)
	want := map[string]bool{mine: true, "other": true, "towline-rehearsal-1": true, "towline-step-file": true, "towline-step-held": true, "towline-step-link": true}
	if diff := cmp.Diff(names(t, temp), want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Close(), held.Close()); err != nil {
		t.Error(err)
	}
	if names(t, temp)[mine] {
		t.Error("the folder is left")
	}
}

// Many at once take nothing away from each other.
func TestMakeAtOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 20 {
				f, err := Make("towline-step-")
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(os.WriteFile(filepath.Join(f.Path, "x"), nil, 0o600), f.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func names(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
	}
	return found
}
