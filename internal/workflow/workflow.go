// Package workflow finds the steps of a GitHub workflow that use this action.
package workflow

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/problem"
)

// Step is a step that uses this action.
type Step struct {
	// With are its inputs as they are written, Env the environment that workflow,
	// job and step give it.
	With, Env map[string]any
	// Environment is its job's, a name or an object with one, and On what starts
	// the workflow, as they are written.
	Environment, On any
	// Job is its job's name in the file, and ID the step's own id, if it has one. If
	// are the conditions of job and step, as they are written.
	Job, ID string
	If      []string
	// Outputs are its job's, Matrix the combinations of its job's matrix as far as
	// the file has them: one that is empty without a matrix.
	Outputs map[string]any
	Matrix  []map[string]any
}

// file is as much of a workflow as is needed to find a step.
type file struct {
	On   any            `yaml:"on"`
	Env  map[string]any `yaml:"env"`
	Jobs map[string]job `yaml:"jobs"`
}

type job struct {
	Environment any            `yaml:"environment"`
	Env         map[string]any `yaml:"env"`
	Needs       any            `yaml:"needs"`
	If          any            `yaml:"if"`
	Outputs     map[string]any `yaml:"outputs"`
	Strategy    struct {
		Matrix any `yaml:"matrix"`
	} `yaml:"strategy"`
	Steps []struct {
		ID   string         `yaml:"id"`
		If   any            `yaml:"if"`
		Uses string         `yaml:"uses"`
		With map[string]any `yaml:"with"`
		Env  map[string]any `yaml:"env"`
	} `yaml:"steps"`
}

// Read gives all steps of a workflow file that use this action, at least one, each
// after those of the jobs that its job needs, and otherwise in the order of their
// jobs' names. Errors are *problem.Error of --workflow; otherwise says what the user
// can do who has no such step, as in "leave --workflow out".
func Read(path, otherwise string) ([]Step, error) {
	wrong := func(err error, fix string) error {
		return &problem.Error{Op: "read workflow", Input: "--workflow", Value: path, Err: err, Fix: fix}
	}
	data, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, wrong(err, "Name a workflow file, such as .github/workflows/deploy.yml.")
	}
	var parsed file
	if err := yaml.Unmarshal(data, &parsed); err != nil {
		return nil, wrong(errors.New(yaml.FormatError(err, false, true)), "Correct the file.")
	}
	found := parsed.steps()
	if len(found) == 0 {
		return nil, wrong(errors.New("no step uses towline/towline"), "Add the step, or "+otherwise+".")
	}
	return found, nil
}

func (f file) steps() []Step {
	var found []Step
	for _, name := range f.order() {
		job := f.Jobs[name]
		for _, s := range job.Steps {
			if !isTowline(s.Uses) {
				continue
			}
			env := map[string]any{}
			for _, level := range []map[string]any{f.Env, job.Env, s.Env} {
				maps.Copy(env, level)
			}
			found = append(found, Step{
				With: s.With, Env: env, Environment: job.Environment, On: f.On,
				Job: name, ID: s.ID, If: []string{Text(job.If), Text(s.If)}, Outputs: job.Outputs, Matrix: combinations(job.Strategy.Matrix),
			})
		}
	}
	return found
}

// order is that of the jobs: by name, each after those that it needs.
func (f file) order() []string {
	var ordered []string
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		job, exists := f.Jobs[name]
		if seen[name] || !exists {
			return
		}
		seen[name] = true
		switch needs := job.Needs.(type) {
		case string:
			visit(needs)
		case []any:
			for _, need := range needs {
				visit(Text(need))
			}
		}
		ordered = append(ordered, name)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Jobs)) {
		visit(name)
	}
	return ordered
}

// combinations are those of a matrix that is written out: its lists multiplied,
// and the entries of include, which add to the combinations that they agree with,
// or else are one more. exclude takes out what it names.
func combinations(matrix any) []map[string]any {
	axes, ok := matrix.(map[string]any)
	if !ok {
		return []map[string]any{{}}
	}
	all := []map[string]any{{}}
	own := map[string]bool{}
	for _, axis := range slices.Sorted(maps.Keys(axes)) {
		values, isList := axes[axis].([]any)
		if axis == "include" || axis == "exclude" || !isList {
			continue
		}
		own[axis] = true
		var more []map[string]any
		for _, base := range all {
			for _, value := range values {
				one := maps.Clone(base)
				one[axis] = value
				more = append(more, one)
			}
		}
		all = more
	}
	all = slices.DeleteFunc(all, func(one map[string]any) bool {
		return slices.ContainsFunc(entries(axes["exclude"]), func(entry map[string]any) bool { return agree(one, entry, nil) })
	})
	if len(own) == 0 {
		all = nil
	}
	originals := len(all)
	for _, entry := range entries(axes["include"]) {
		added := false
		for _, one := range all[:originals] {
			if agree(one, entry, own) {
				maps.Copy(one, entry)
				added = true
			}
		}
		if !added {
			all = append(all, maps.Clone(entry))
		}
	}
	if len(all) == 0 {
		return []map[string]any{{}}
	}
	return all
}

func entries(list any) []map[string]any {
	var maps []map[string]any
	items, _ := list.([]any)
	for _, item := range items {
		if entry, ok := item.(map[string]any); ok {
			maps = append(maps, entry)
		}
	}
	return maps
}

// agree says whether no member of entry, of those in only if there are any, is
// another in one.
func agree(one, entry map[string]any, only map[string]bool) bool {
	for name, value := range entry {
		if (only == nil || only[name]) && Text(one[name]) != Text(value) {
			return false
		}
	}
	return true
}

// isTowline says whether a step's uses names this action: a release, an image
// of it, or a checkout.
func isTowline(uses string) bool {
	name, _, _ := strings.Cut(uses, "@")
	return name == "towline/towline" || strings.HasPrefix(uses, "docker://") && strings.Contains(uses, "towline/towline") ||
		strings.HasPrefix(uses, "./") && (uses == "./" || strings.HasSuffix(strings.TrimSuffix(uses, "/"), "towline"))
}

// Text is a value as the runner passes it on.
func Text(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}
