package inputs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The inputs and outputs of action.yml are written from the definitions: go
// test ./internal/inputs -update. What stands around them is not touched.
func TestMetadata(t *testing.T) {
	t.Parallel()
	const path = "../../action.yml"
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begun := strings.Cut(string(got), "\ninputs:\n")
	_, tail, ended := strings.Cut(rest, "\nruns:\n")
	if !begun || !ended {
		t.Fatal("action.yml has no inputs before its runs")
	}
	want := head + "\n" + sectionsOfMetadata() + "\nruns:\n" + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("action.yml; -update rewrites it (-got +want):\n%s", diff)
	}
}

func sectionsOfMetadata() string {
	var b strings.Builder
	quoted := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	b.WriteString("inputs:\n")
	group := ""
	for _, d := range Definitions() {
		if d.Group != group {
			group = d.Group
			fmt.Fprintf(&b, "\n  # %s\n", group)
		}
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", d.Name, quoted(d.Description))
		if d.Default != "" {
			fmt.Fprintf(&b, "    default: %s\n", quoted(d.Default))
		}
	}
	b.WriteString("\noutputs:\n")
	for _, o := range Outputs() {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", o.Name, quoted(o.Description))
	}
	return b.String()
}
