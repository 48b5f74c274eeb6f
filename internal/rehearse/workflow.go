package rehearse

import (
	"errors"
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

// readWorkflow gives the Towline steps of a workflow file, once for each combination
// of its job's matrix.
func readWorkflow(asked request, out io.Writer) ([]act, error) {
	steps, err := workflow.Read(asked.workflow, "leave --workflow out to rehearse a Dockerfile alone")
	if err != nil {
		return nil, err
	}
	if asked.job != "" {
		steps = slices.DeleteFunc(steps, func(s workflow.Step) bool { return s.Job != asked.job })
		if len(steps) == 0 {
			return nil, &problem.Error{
				Op: "read workflow", Input: "--job", Value: asked.job,
				Err: errors.New("no such job has a step that uses towline/towline"), Fix: "Name a job of the workflow as it stands in the file.",
			}
		}
	}
	told := &told{set: asked.set, temp: asked.temp, steps: map[string]map[string]string{}, jobs: map[string]map[string]any{}}
	var acts []act
	for _, s := range steps {
		told.jobs[s.Job] = s.Outputs
		if slices.ContainsFunc(s.If, afterFailure) {
			_, _ = fmt.Fprintf(out, "job %s: a step that is for failures is left out\n", s.Job)
			continue
		}
		for _, combination := range s.Matrix {
			acts = append(acts, act{
				title:  title(s, combination),
				inputs: func() (*stepInputs, error) { return readStep(asked.workflow, s, combination, told, out) },
				ended:  func(outputs map[string]string) { told.steps[s.Job+"."+s.ID] = outputs },
			})
		}
	}
	if len(acts) == 1 {
		acts[0].title = ""
	}
	return acts, nil
}

// afterFailure says whether a condition holds only when something has gone wrong.
func afterFailure(condition string) bool {
	return regexp.MustCompile(`(^|[^!\s]\s*)\b(failure|cancelled)\(\)`).MatchString(condition)
}

// title is how a step is announced: its job, its id and its combination.
func title(s workflow.Step, combination map[string]any) string {
	parts := []string{"job " + s.Job}
	if s.ID != "" {
		parts = append(parts, "step "+s.ID)
	}
	for _, axis := range slices.Sorted(maps.Keys(combination)) {
		parts = append(parts, axis+" "+workflow.Text(combination[axis]))
	}
	return strings.Join(parts, ", ")
}

// readStep evaluates the inputs of a step.
func readStep(file string, s workflow.Step, combination map[string]any, told *told, out io.Writer) (*stepInputs, error) {
	in := &stepInputs{values: map[string]string{}, env: map[string]string{}, fromWorkflow: true}
	e := evaluator{env: in.env, out: out, told: told, job: s.Job, matrix: combination, on: s.On}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		in.env[name] = e.evaluate(workflow.Text(s.Env[name]), "variable "+name)
	}
	known := map[string]bool{}
	for _, d := range inputs.Definitions() {
		known[d.Name] = true
	}
	for _, given := range slices.Sorted(maps.Keys(s.With)) {
		name := strings.ToLower(given) // as GitHub does
		if !known[name] {
			return nil, &problem.Error{
				Op: "read workflow", Input: "--workflow", Value: file,
				Err: fmt.Errorf("input %q does not exist", given), Fix: "Correct its name; docs/inputs.md lists the inputs.",
			}
		}
		in.values[name] = e.input(name, workflow.Text(s.With[given]))
	}
	return in, nil
}

// told is what expressions find besides the workflow's own text: what --set gives,
// by the whole expression; the runner's folder for temporary files; the outputs of steps, by job and id; and the outputs of
// jobs, as they are written.
type told struct {
	set   map[string]string
	temp  string
	steps map[string]map[string]string
	jobs  map[string]map[string]any
}

// evaluator replaces the expressions that a rehearsal can know.
type evaluator struct {
	env    map[string]string
	out    io.Writer
	told   *told
	job    string
	matrix map[string]any
	// on is what starts the workflow.
	on any
	// deep is how many jobs' outputs are being looked up.
	deep int
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

// known evaluates one expression. In a || b the first counts that is known and not
// empty.
func (e evaluator) known(match string) (string, bool) {
	expression := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(match, "${{"), "}}"))
	first, found := "", false
	for alternative := range strings.SplitSeq(expression, "||") {
		value, ok := e.operand(strings.TrimSpace(alternative))
		if ok && value != "" {
			return value, true
		}
		first, found = value, found || ok
	}
	return first, found
}

// operand evaluates a name or a constant.
func (e evaluator) operand(expression string) (string, bool) {
	if value, ok := e.told.set[expression]; ok {
		return value, true
	}
	if len(expression) >= 2 && expression[0] == '\'' && expression[len(expression)-1] == '\'' {
		return strings.ReplaceAll(expression[1:len(expression)-1], "''", "'"), true
	}
	context, name, _ := strings.Cut(expression, ".")
	switch context {
	case "env":
		value, ok := e.env[name]
		return value, ok
	case "matrix":
		value, ok := e.matrix[name]
		return workflow.Text(value), ok
	case "inputs":
		return e.declared(name)
	case "steps":
		id, output, _ := strings.Cut(name, ".outputs.")
		value, ok := e.told.steps[e.job+"."+id][output]
		return value, ok
	case "needs":
		return e.needed(name)
	}
	value, ok := map[string]string{
		"github.sha": demoSHA, "github.ref": "refs/heads/main", "github.ref_name": "main", "github.head_ref": "",
		"github.repository": "octo-org/rehearsal", "github.repository_owner": "octo-org", "github.event.repository.name": "rehearsal",
		"github.workspace": ".", "github.run_id": "1", "github.run_number": "1", "github.run_attempt": "1",
		"github.actor": "octocat", "github.event_name": "push", "github.server_url": "https://github.com",
		"runner.os": "Linux", "runner.temp": e.told.temp, "true": "true", "false": "false",
	}[expression]
	return value, ok
}

// needed is JOB.outputs.NAME: what the job says, with what its steps have put out.
func (e evaluator) needed(name string) (string, bool) {
	job, output, _ := strings.Cut(name, ".outputs.")
	text, ok := e.told.jobs[job][output]
	if !ok || e.deep > 5 {
		return "", false
	}
	e.job = job
	e.deep++
	if e.unknown(workflow.Text(text)) != "" {
		return "", false
	}
	return e.evaluate(workflow.Text(text), "output "+output), true
}

// declared is the default of an input of the workflow.
func (e evaluator) declared(name string) (string, bool) {
	triggers, _ := e.on.(map[string]any)
	for _, trigger := range []string{"workflow_call", "workflow_dispatch"} {
		event, _ := triggers[trigger].(map[string]any)
		declared, _ := event["inputs"].(map[string]any)
		input, _ := declared[name].(map[string]any)
		if value, ok := input["default"]; ok {
			return workflow.Text(value), true
		}
	}
	return "", false
}
