package taskdef

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected results")

// TestDiffs shows the difference between two definitions, before and after, as
// people read it: path, former value, new value. No secret of "never" is in it.
func TestDiffs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no differences: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := func(name string) string {
				for _, f := range archive.Files {
					if f.Name == name {
						return string(f.Data)
					}
				}
				return ""
			}
			var b strings.Builder
			for _, change := range parse(t, part("before")).Diff(parse(t, part("after"))) {
				b.WriteString(change.Path + ": " + change.Before + " -> " + change.After + "\n")
			}
			got := b.String()
			for secret := range strings.Lines(part("never")) {
				if strings.Contains(got, strings.TrimSpace(secret)) {
					t.Errorf("%s shows", secret)
				}
			}
			if *update {
				archive.Files[len(archive.Files)-1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(got, "\n"), strings.Split(part("want"), "\n")); diff != "" {
				t.Errorf("difference; -update rewrites it (-got +want):\n%s", diff)
			}
		})
	}
}
