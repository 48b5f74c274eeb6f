package rehearse_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every example of the documentation works, as it stands there.
func TestExamples(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	const folder = "../../docs/examples"
	// replaced is what Towline takes the place of; there is nothing in it to rehearse.
	const replaced = "migration/before.yml"
	var found []string
	for _, pattern := range []string{"*.yml", "*/*.yml"} {
		matches, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	if len(found) < 10 || !slices.Contains(found, filepath.Join(folder, replaced)) {
		t.Fatalf("got %v, want the examples", found)
	}
	for _, file := range found {
		name, err := filepath.Rel(folder, file)
		if err != nil {
			t.Fatal(err)
		}
		if name == replaced {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(folder, "app")
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), "services")); err == nil {
				dir = filepath.Dir(file)
			}
			// As to a user, who has a copy.
			work := t.TempDir()
			if err := os.CopyFS(work, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			code, text := perform(t, "--offline", "--set", "inputs.tag=4e5d1f7a90b3", "--workflow", file, work)
			check(t, code, text, 0, []string{plays, worked})
			if strings.Contains(text, "known to GitHub only") {
				t.Errorf("an expression was not found:\n%s", text)
			}
		})
	}
}
