package permissions

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/policy"
	"github.com/towline/towline/internal/problem"
)

// job is where the step stands.
type job struct {
	// get reads an input.
	get    func(name string) string
	source policy.Source
}

// workflowFile is as much of a workflow as says something about policies.
type workflowFile struct {
	On   any               `yaml:"on"`
	Env  map[string]string `yaml:"env"`
	Jobs map[string]struct {
		Environment any               `yaml:"environment"`
		Env         map[string]string `yaml:"env"`
		Steps       []struct {
			Uses string            `yaml:"uses"`
			With map[string]any    `yaml:"with"`
			Env  map[string]string `yaml:"env"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// read takes the first Towline step of a workflow file.
func (j *job) read(file string) error {
	wrong := func(err error, fix string) error {
		return &problem.Error{Op: "read workflow", Input: "--workflow", Value: file, Err: err, Fix: fix}
	}
	data, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err
		}
		return wrong(err, "Name a workflow file, such as .github/workflows/deploy.yml.")
	}
	var w workflowFile
	if err := yaml.Unmarshal(data, &w); err != nil {
		return wrong(errors.New(yaml.FormatError(err, false, true)), "Correct the file.")
	}
	for _, name := range slices.Sorted(maps.Keys(w.Jobs)) {
		each := w.Jobs[name]
		for _, step := range each.Steps {
			if !isTowline(step.Uses) {
				continue
			}
			env := map[string]string{}
			for _, level := range []map[string]string{w.Env, each.Env, step.Env} {
				maps.Copy(env, level)
			}
			j.take(step.With, env)
			if environment := environmentOf(each.Environment); environment != "" {
				j.source.Environments = []string{environment}
			}
			j.triggers(w.On)
			return nil
		}
	}
	return wrong(errors.New("no step uses towline/towline"), "Add the step, or leave --workflow out and set INPUT_ variables.")
}

// isTowline says whether a step's uses names this action.
func isTowline(uses string) bool {
	name, _, _ := strings.Cut(uses, "@")
	return name == "towline/towline" || strings.HasPrefix(uses, "docker://") && strings.Contains(uses, "towline/towline") ||
		strings.HasPrefix(uses, "./") && (uses == "./" || strings.HasSuffix(strings.TrimSuffix(uses, "/"), "towline"))
}

// take makes the step's inputs readable. What only GitHub knows is left out of
// the inputs that policies depend on, so that a placeholder stands there, and
// is of no matter elsewhere.
func (j *job) take(with map[string]any, env map[string]string) {
	values := map[string]string{}
	for name, value := range with {
		values[strings.ToLower(name)] = fmt.Sprint(value)
	}
	known := map[string]string{"github.repository": j.source.Repository, "github.sha": strings.Repeat("0", 40)}
	for name, value := range env {
		known["env."+name] = value
	}
	j.get = func(name string) string {
		missing := false
		value := regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`).ReplaceAllStringFunc(values[name], func(match string) string {
			expression := strings.TrimSpace(strings.Trim(match, "${} "))
			if v := known[expression]; v != "" {
				return v
			}
			missing = true
			return "value"
		})
		if missing && slices.Contains([]string{"role-to-assume", "aws-region", "task-role-arn", "execution-role-arn", "allowed-account-ids"}, name) {
			return ""
		}
		return value
	}
}

// environmentOf is the name of a job's environment, which may be an object.
func environmentOf(value any) string {
	switch v := value.(type) {
	case string:
		if !strings.Contains(v, "${{") {
			return v
		}
		return "*"
	case map[string]any:
		return environmentOf(v["name"])
	}
	return ""
}

// triggers are the refs that the workflow runs for.
func (j *job) triggers(on any) {
	events, ok := on.(map[string]any)
	if !ok {
		return // any branch: a placeholder stands there
	}
	if push, ok := events["push"].(map[string]any); ok {
		j.source.Branches, j.source.Tags = words(push["branches"]), words(push["tags"])
	}
	_, j.source.PullRequests = events["pull_request"]
}

func words(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, each := range v {
			all = append(all, strings.ReplaceAll(fmt.Sprint(each), "**", "*"))
		}
		return all
	}
	return nil
}
