package rehearse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
)

// workflowFile is as much of a workflow as is needed to find a step.
type workflowFile struct {
	Jobs map[string]struct {
		Steps []struct {
			Name string         `yaml:"name"`
			Uses string         `yaml:"uses"`
			With map[string]any `yaml:"with"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// readInputs takes the inputs of the Towline step in a workflow file. Without a
// file there are none, and the stage's own hold.
func readInputs(file string, out io.Writer) (*stepInputs, error) {
	in := &stepInputs{values: map[string]string{}}
	if file == "" {
		return in, nil
	}
	wrong := func(err error, fix string) error {
		return &problem.Error{Op: "read workflow", Input: "--workflow", Value: file, Err: err, Fix: fix}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, wrong(err, "Name a workflow file, such as .github/workflows/deploy.yml.")
	}
	var parsed workflowFile
	if err := yaml.Unmarshal(data, &parsed); err != nil {
		return nil, wrong(errors.New(yaml.FormatError(err, false, true)), "Correct the file.")
	}
	var found []map[string]any
	for _, name := range slices.Sorted(mapKeys(parsed)) {
		for _, s := range parsed.Jobs[name].Steps {
			if strings.HasPrefix(s.Uses, "towline/towline@") || s.Uses == "./" {
				found = append(found, s.With)
			}
		}
	}
	if len(found) == 0 {
		return nil, wrong(errors.New("no step uses towline/towline"), "Add the step, or leave --workflow out to rehearse a Dockerfile alone.")
	}
	if len(found) > 1 {
		_, _ = fmt.Fprintf(out, "the workflow has %d Towline steps; the first is rehearsed\n", len(found))
	}
	known := map[string]bool{}
	for _, d := range inputs.Definitions() {
		known[d.Name] = true
	}
	for name, value := range found[0] {
		if !known[name] {
			return nil, wrong(fmt.Errorf("input %q does not exist", name), "Correct its name; docs/inputs.md lists the inputs.")
		}
		in.values[name] = evaluate(fmt.Sprint(value), name, out)
	}
	return in, nil
}

func mapKeys(w workflowFile) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range w.Jobs {
			if !yield(name) {
				return
			}
		}
	}
}

// evaluate replaces the expressions that a rehearsal can know. What only GitHub
// knows becomes a placeholder, and is told.
func evaluate(value, input string, out io.Writer) string {
	return regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`).ReplaceAllStringFunc(value, func(match string) string {
		expression := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(match, "${{"), "}}"))
		switch expression {
		case "github.sha":
			return "4e5d1f7a90b3c2d8e6f1a0b9c8d7e6f5a4b3c2d1"
		case "github.ref_name":
			return "main"
		case "github.repository":
			return "octo-org/rehearsal"
		case "github.workspace":
			return "."
		case "github.run_id", "github.run_number", "github.run_attempt":
			return "1"
		}
		stand := "rehearsal"
		if input == "role-to-assume" || input == "aws-region" {
			stand = "" // the stage's own
		}
		_, _ = fmt.Fprintf(out, "input %s: %s is known to GitHub only; the rehearsal takes %q\n", input, match, stand)
		return stand
	})
}
