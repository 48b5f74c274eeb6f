package step_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/towline/towline/internal/step"
)

// Inputs that are wrong are refused at once, all mistakes together; a step whose inputs
// are right is left alone, and has said nothing.
func TestRefuse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sandbox string
		code    int
		refused bool
		said    []string
	}{
		"right": {sandbox: "auto"},
		"wrong": {sandbox: "jail", code: 1, refused: true, said: []string{`input "sandbox" is "jail"`, `input "platforms" is "mars"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := environment(dir, dir)
			env["INPUT_SANDBOX"], env["INPUT_CONTEXT"] = tt.sandbox, "."
			if tt.refused {
				env["INPUT_PLATFORMS"] = "mars"
			}
			var out bytes.Buffer
			code, refused := step.Refuse(step.Options{Getenv: func(name string) string { return env[name] }, Stdout: &out})
			if code != tt.code || refused != tt.refused {
				t.Errorf("got code %d, refused %t, want %d, %t", code, refused, tt.code, tt.refused)
			}
			for _, said := range tt.said {
				if !strings.Contains(out.String(), said) {
					t.Errorf("got %q, want %q in it", out.String(), said)
				}
			}
			if !tt.refused && out.Len() > 0 {
				t.Errorf("got %q, want nothing", out.String())
			}
		})
	}
}
