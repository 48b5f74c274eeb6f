package inputs

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/inputs.md and action.yml")

// TestMain writes action.yml first, as several tests read it.
func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := declare("../../action.yml"); err != nil {
			panic(err) // nothing can be tested
		}
	}
	m.Run()
}

// declare writes inputs and outputs into action.yml, from their line to runs.
func declare(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), "\ninputs:\n")
	_, after, ends := strings.Cut(rest, "\nruns:\n")
	if !found || !ends {
		return fmt.Errorf("%s: no inputs, or no runs behind them", path)
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	var b strings.Builder
	b.WriteString(before + "\ninputs:\n")
	for _, d := range Definitions() {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", d.Name, quote(d.Description))
		if d.Default != "" {
			fmt.Fprintf(&b, "    default: %s\n", quote(d.Default))
		}
	}
	b.WriteString("\noutputs:\n")
	for _, o := range Outputs() {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", o.Name, quote(o.Description))
	}
	b.WriteString("\nruns:\n" + after)
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// metadata is what action.yml declares.
type metadata struct {
	Name        string
	Description string
	Branding    struct{ Icon, Color string }
	Inputs      map[string]struct{ Description, Default string }
	Outputs     map[string]struct{ Description string }
	Runs        struct{ Using, Image, Entrypoint string }
}

func readMetadata(t *testing.T) metadata {
	t.Helper()
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var m metadata
	if err := yaml.UnmarshalWithOptions(text, &m, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	return m
}

// action.yml, Definitions and what Parse asks for are the same inputs.
func TestInputsAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	want := map[string]struct{ Description, Default string }{}
	for _, d := range Definitions() {
		if _, twice := want[d.Name]; twice {
			t.Errorf("%s is defined twice", d.Name)
		}
		want[d.Name] = struct{ Description, Default string }{d.Description, d.Default}
	}
	if diff := cmp.Diff(readMetadata(t).Inputs, want); diff != "" {
		t.Errorf("action.yml (-got +want):\n%s", diff)
	}
	asked := map[string]int{}
	if _, err := Parse(func(name string) string { asked[name]++; return "" }, func(string) string { return "" }); err != nil {
		t.Error(err)
	}
	once := map[string]int{}
	for name := range want {
		once[name] = 1
	}
	if diff := cmp.Diff(asked, once); diff != "" {
		t.Errorf("what Parse asks for (-got +want):\n%s", diff)
	}
}

func TestOutputsAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	want := map[string]struct{ Description string }{}
	for _, o := range Outputs() {
		want[o.Name] = struct{ Description string }{o.Description}
	}
	if diff := cmp.Diff(readMetadata(t).Outputs, want); diff != "" {
		t.Errorf("action.yml (-got +want):\n%s", diff)
	}
}

// The runner reads an expression in a description as one, finds it misplaced, and
// loads the action not at all.
func TestNoExpressionsInDescriptions(t *testing.T) {
	t.Parallel()
	m := readMetadata(t)
	texts := map[string]string{"name": m.Name, "description": m.Description}
	for name, input := range m.Inputs {
		texts["input "+name] = input.Description
		if strings.Contains(input.Default, "${{") && input.Default != "${{ github.token }}" {
			t.Errorf("input %s: default %q, want none that the runner may not know where it loads the action", name, input.Default)
		}
	}
	for name, output := range m.Outputs {
		texts["output "+name] = output.Description
	}
	for name, text := range texts {
		if strings.Contains(text, "${{") {
			t.Errorf("%s: an expression in %q", name, text)
		}
	}
}

func TestActionRuns(t *testing.T) {
	t.Parallel()
	m := readMetadata(t)
	got := fmt.Sprint(m.Name, m.Runs)
	if want := "Towline{docker Dockerfile /towline/towline}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if m.Description == "" || len(m.Description) > 125 || m.Branding.Icon == "" || m.Branding.Color == "" {
		t.Errorf("the Marketplace takes neither this description nor this branding: %q, %v", m.Description, m.Branding)
	}
}

// docs/inputs.md is written from the definitions: go test ./internal/inputs -update
func TestDocumentation(t *testing.T) {
	t.Parallel()
	const path = "../../docs/inputs.md"
	want := documentation()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("docs/inputs.md; -update rewrites it (-got +want):\n%s", diff)
	}
}

func documentation() string {
	var b strings.Builder
	b.WriteString("# Inputs and outputs\n\n" +
		"<!-- Written from internal/inputs by: go test ./internal/inputs -update -->\n\n" +
		"An empty input is one that is not set. Paths are relative to the workspace. A list has one entry a line;\n" +
		"an entry in double quotes may have several lines. Booleans are `true` or `false`. All mistakes are reported\n" +
		"together, before anything starts.\n")
	group := ""
	for _, d := range Definitions() {
		if d.Group != group {
			group = d.Group
			b.WriteString("\n## " + group + "\n\n| Input | Default | Meaning |\n|---|---|---|\n")
		}
		value := ""
		if d.Default != "" {
			value = "`" + d.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", d.Name, value, strings.ReplaceAll(d.Description, "|", `\|`))
	}
	b.WriteString("\n## Outputs\n\n| Output | Meaning |\n|---|---|\n")
	for _, o := range Outputs() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Name, strings.ReplaceAll(o.Description, "|", `\|`))
	}
	return b.String()
}
