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
}

// file is as much of a workflow as is needed to find a step.
type file struct {
	On   any            `yaml:"on"`
	Env  map[string]any `yaml:"env"`
	Jobs map[string]struct {
		Environment any            `yaml:"environment"`
		Env         map[string]any `yaml:"env"`
		Steps       []struct {
			Uses string         `yaml:"uses"`
			With map[string]any `yaml:"with"`
			Env  map[string]any `yaml:"env"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// Read gives all steps of a workflow file that use this action, at least one, in
// the order of their jobs' names. Errors are *problem.Error of --workflow; otherwise
// says what the user can do who has no such step, as in "leave --workflow out".
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
	for _, name := range slices.Sorted(maps.Keys(f.Jobs)) {
		job := f.Jobs[name]
		for _, s := range job.Steps {
			if !isTowline(s.Uses) {
				continue
			}
			env := map[string]any{}
			for _, level := range []map[string]any{f.Env, job.Env, s.Env} {
				maps.Copy(env, level)
			}
			found = append(found, Step{With: s.With, Env: env, Environment: job.Environment, On: f.On})
		}
	}
	return found
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
