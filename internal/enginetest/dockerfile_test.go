package enginetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The engine tests build the action's image without the stage that compiles it,
// which needs a base image from the internet. What they try must still be what
// users get.
func TestLastStages(t *testing.T) {
	t.Parallel()
	released := lastStage(t, filepath.Join("..", "..", "Dockerfile"))
	tried := lastStage(t, filepath.Join("..", "..", "testdata", "engine", "Dockerfile"))
	if diff := cmp.Diff(tried, released); diff != "" {
		t.Errorf("last stages (-engine tests' +released):\n%s", diff)
	}
	if want := "FROM scratch\n"; !strings.HasPrefix(released, want) {
		t.Errorf("got last stage %q, want it to begin with %q", released, want)
	}
}

func lastStage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex("\n"+string(text), "\nFROM ")
	if at < 0 {
		t.Fatalf("%s: no FROM", path)
	}
	return string(text)[at:]
}
