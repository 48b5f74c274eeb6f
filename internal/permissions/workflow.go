package permissions

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/towline/towline/internal/policy"
	"github.com/towline/towline/internal/workflow"
)

// job is where the step stands.
type job struct {
	// get reads an input.
	get    func(name string) string
	source policy.Source
}

// read takes the first Towline step of a workflow file.
func (j *job) read(file string) error {
	found, err := workflow.Read(file, "leave --workflow out and set INPUT_ variables")
	if err != nil {
		return err
	}
	step := found[0]
	j.take(step.With, step.Env)
	if environment := environmentOf(step.Environment); environment != "" {
		j.source.Environments = []string{environment}
	}
	j.triggers(step.On)
	return nil
}

// take makes the step's inputs readable. What only GitHub knows is left out of
// the inputs that policies depend on, so that a placeholder stands there, and
// is of no matter elsewhere.
func (j *job) take(with, env map[string]any) {
	values := map[string]string{}
	for name, value := range with {
		values[strings.ToLower(name)] = workflow.Text(value)
	}
	known := map[string]string{"github.repository": j.source.Repository, "github.sha": strings.Repeat("0", 40)}
	for name, value := range env {
		known["env."+name] = workflow.Text(value)
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
