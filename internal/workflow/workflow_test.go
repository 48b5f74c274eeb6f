package workflow_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/workflow"
)

// A step comes after those of the jobs that its job needs.
func TestOrder(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		jobs string
		want []string
	}{
		"names":       {"{b: {STEP}, a: {STEP}}", []string{"a", "b"}},
		"a need":      {"{a: {needs: b, STEP}, b: {STEP}}", []string{"b", "a"}},
		"several":     {"{a: {needs: [c, b], STEP}, b: {STEP}, c: {needs: b, STEP}}", []string{"b", "c", "a"}},
		"no such job": {"{a: {needs: x, STEP}}", []string{"a"}},
		"a circle":    {"{a: {needs: b, STEP}, b: {needs: a, STEP}}", []string{"b", "a"}},
		"others":      {"{a: {steps: [{run: make}]}, b: {steps: [{uses: x/y@v1}, {uses: towline/towline@v1}]}}", []string{"b"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, step := range read(t, "jobs: "+strings.ReplaceAll(tt.jobs, "STEP", "steps: [{uses: towline/towline@v1}]")) {
				got = append(got, step.Job)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("order (-got +want):\n%s", diff)
			}
		})
	}
}

// The combinations of a matrix are those that GitHub makes.
func TestMatrix(t *testing.T) {
	t.Parallel()
	type one = map[string]any
	tests := map[string]struct {
		matrix string
		want   []one
	}{
		"none":             {"", []one{{}}},
		"an expression":    {"\"${{ fromJSON(needs.a.outputs.b) }}\"", []one{{}}},
		"a list":           {"{service: [web, api]}", []one{{"service": "web"}, {"service": "api"}}},
		"lists":            {"{a: [x, y], b: [z]}", []one{{"a": "x", "b": "z"}, {"a": "y", "b": "z"}}},
		"without":          {"{a: [x, y], exclude: [{a: x}]}", []one{{"a": "y"}}},
		"include alone":    {"{include: [{a: x, b: y}, {a: z}]}", []one{{"a": "x", "b": "y"}, {"a": "z"}}},
		"include adds":     {"{a: [x, y], include: [{a: x, b: z}]}", []one{{"a": "x", "b": "z"}, {"a": "y"}}},
		"include one more": {"{a: [x], include: [{a: y}]}", []one{{"a": "x"}, {"a": "y"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := read(t, "jobs: {a: {strategy: {matrix: "+tt.matrix+"}, steps: [{uses: towline/towline@v1, id: ship}]}}")
			if diff := cmp.Diff(steps[0].Matrix, tt.want); diff != "" {
				t.Errorf("combinations (-got +want):\n%s", diff)
			}
			if steps[0].ID != "ship" {
				t.Errorf("id: got %q, want ship", steps[0].ID)
			}
		})
	}
}

func read(t *testing.T, text string) []workflow.Step {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	steps, err := workflow.Read(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return steps
}
