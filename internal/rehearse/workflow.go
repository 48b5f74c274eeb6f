package rehearse

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/workflow"
)

// locate finds the workflow file, whose path may be relative to the repository,
// and the repository, which it may lie in.
func locate(workflow, dir string) (file, root string, err error) {
	file = workflow
	if _, statErr := os.Stat(file); statErr != nil && dir != "" && !filepath.IsAbs(file) {
		file = filepath.Join(dir, workflow)
	}
	if dir != "" {
		return file, dir, nil
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", file, err)
	}
	if folder := filepath.Dir(absolute); filepath.Base(folder) == "workflows" && filepath.Base(filepath.Dir(folder)) == ".github" {
		return file, filepath.Dir(filepath.Dir(folder)), nil
	}
	return file, ".", nil
}

// readWorkflow takes the inputs of the Towline step in a workflow file.
func readWorkflow(file string, out io.Writer) (*stepInputs, error) {
	found, err := workflow.Read(file, "leave --workflow out to rehearse a Dockerfile alone")
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		_, _ = fmt.Fprintf(out, "the workflow has %d Towline steps; the first is rehearsed\n", len(found))
	}
	in := &stepInputs{values: map[string]string{}, env: map[string]string{}, fromWorkflow: true}
	e := evaluator{env: in.env, out: out}
	for _, name := range slices.Sorted(maps.Keys(found[0].Env)) {
		in.env[name] = e.evaluate(workflow.Text(found[0].Env[name]), "variable "+name)
	}
	known := map[string]bool{}
	for _, d := range inputs.Definitions() {
		known[d.Name] = true
	}
	for _, given := range slices.Sorted(maps.Keys(found[0].With)) {
		name := strings.ToLower(given) // as GitHub does
		if !known[name] {
			return nil, &problem.Error{
				Op: "read workflow", Input: "--workflow", Value: file,
				Err: fmt.Errorf("input %q does not exist", given), Fix: "Correct its name; docs/inputs.md lists the inputs.",
			}
		}
		in.values[name] = e.input(name, workflow.Text(found[0].With[given]))
	}
	return in, nil
}

// evaluator replaces the expressions that a rehearsal can know.
type evaluator struct {
	env map[string]string
	out io.Writer
}

// input is the value of an input. What only GitHub knows is left to the stage
// where it can play it.
func (e evaluator) input(name, value string) string {
	switch name {
	case "role-to-assume", "aws-region":
		if unknown := e.unknown(value); unknown != "" {
			e.tell("input "+name, unknown, "the stage's own")
			return ""
		}
	case "registry-credentials":
		// A made-up password would be refused where none would not.
		lines := slices.DeleteFunc(strings.Split(value, "\n"), func(line string) bool { return e.unknown(line) != "" })
		if len(lines) < strings.Count(value, "\n")+1 {
			e.tell("input "+name, "a password", "no login")
		}
		value = strings.Join(lines, "\n")
	}
	return e.evaluate(value, "input "+name)
}

func (e evaluator) tell(where, what, instead string) {
	_, _ = fmt.Fprintf(e.out, "%s: %s is known to GitHub only; the rehearsal takes %s\n", where, what, instead)
}

// evaluate replaces all expressions in value. What is known to GitHub only
// becomes a placeholder, and is told.
func (e evaluator) evaluate(value, where string) string {
	return expressions().ReplaceAllStringFunc(value, func(match string) string {
		if known, ok := e.known(match); ok {
			return known
		}
		e.tell(where, match, `"rehearsal"`)
		return "rehearsal"
	})
}

// unknown is the first expression in value that only GitHub knows, or empty.
func (e evaluator) unknown(value string) string {
	for _, match := range expressions().FindAllString(value, -1) {
		if _, ok := e.known(match); !ok {
			return match
		}
	}
	return ""
}

func expressions() *regexp.Regexp { return regexp.MustCompile(`\$\{\{(.*?)\}\}`) }

// known evaluates one expression.
func (e evaluator) known(match string) (string, bool) {
	expression := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(match, "${{"), "}}"))
	if name, ok := strings.CutPrefix(expression, "env."); ok {
		value, ok := e.env[name]
		return value, ok
	}
	if len(expression) >= 2 && expression[0] == '\'' && expression[len(expression)-1] == '\'' {
		return strings.ReplaceAll(expression[1:len(expression)-1], "''", "'"), true
	}
	value, ok := map[string]string{
		"github.sha": demoSHA, "github.ref": "refs/heads/main", "github.ref_name": "main", "github.head_ref": "",
		"github.repository": "octo-org/rehearsal", "github.repository_owner": "octo-org", "github.event.repository.name": "rehearsal",
		"github.workspace": ".", "github.run_id": "1", "github.run_number": "1", "github.run_attempt": "1",
		"github.actor": "octocat", "github.event_name": "push", "github.server_url": "https://github.com",
		"runner.os": "Linux", "true": "true", "false": "false",
	}[expression]
	return value, ok
}
