package dockerfile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build/dockerfile"
	"github.com/towline/towline/internal/problem"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	const several = `ARG GO=1.26
ARG VARIANT=alpine
FROM --platform=$BUILDPLATFORM golang:${GO}-${VARIANT} AS Build
FROM scratch AS unused
FROM busybox AS tools
FROM debian
COPY --from=build /app /app
RUN --mount=type=bind,from=2,target=/tools /tools/x
`
	tests := map[string]struct {
		text, target string
		args         map[string]string
		want         []dockerfile.Stage
	}{
		"one": {text: "FROM scratch\n", want: []dockerfile.Stage{{Name: "0", Base: "scratch", Line: 1}}},
		"what the last takes": {text: several, want: []dockerfile.Stage{
			{Name: "build", Base: "golang:1.26-alpine", Platform: "$BUILDPLATFORM", Line: 3},
			{Name: "tools", Base: "busybox", Line: 5},
			{Name: "3", Base: "debian", Line: 6},
		}},
		"a target":    {text: several, target: "UNUSED", want: []dockerfile.Stage{{Name: "unused", Base: "scratch", Line: 4}}},
		"by a number": {text: several, target: "2", want: []dockerfile.Stage{{Name: "tools", Base: "busybox", Line: 5}}},
		"a build argument": {
			text: several, target: "build", args: map[string]string{"GO": "1.27"},
			want: []dockerfile.Stage{{Name: "build", Base: "golang:1.27-alpine", Platform: "$BUILDPLATFORM", Line: 3}},
		},
		"a stage as base": {text: "FROM a AS b\nFROM b\n", want: []dockerfile.Stage{{Name: "b", Base: "a", Line: 1}, {Name: "1", Base: "b", Line: 2}}},
		"an argument without a value": {
			text: "ARG BASE\nFROM $BASE\n",
			want: []dockerfile.Stage{{Name: "0", Base: "$BASE", Line: 2}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := dockerfile.Inspect([]byte(test.text), "Dockerfile", test.target, test.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestInspectMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text, target, want string
		line               int
	}{
		"empty":               {text: "", want: "file with no instructions"},
		"only comments":       {text: "# nothing\n", want: "file with no instructions", line: 1},
		"no FROM":             {text: "ARG A\n", want: "no stages to build"},
		"unknown instruction": {text: "FROM scratch\n\nCOPI a b\n", want: "unknown instruction: COPI (did you mean COPY?)", line: 3},
		"unknown flag":        {text: "FROM scratch\nCOPY --form=a b c\n", want: "unknown flag: --form (did you mean from?)", line: 2},
		"open heredoc":        {text: "FROM scratch\nRUN <<EOF\necho\n", want: "unterminated heredoc", line: 2},
		"no build stage":      {text: "RUN x\n", want: "no build stage in current context", line: 1},
		"unknown target":      {text: "FROM scratch AS final\n", target: "finla", want: `target stage "finla" could not be found (did you mean final?)`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := dockerfile.Inspect([]byte(test.text), "app/Dockerfile", test.target, nil)
			known, ok := errors.AsType[*problem.Error](err)
			if !ok {
				t.Fatalf("got %v, want a problem", err)
			}
			if !strings.Contains(known.Error(), test.want) || known.File != "app/Dockerfile" || known.Line != test.line {
				t.Errorf("got %s:%d: %v, want line %d: %s", known.File, known.Line, known, test.line, test.want)
			}
		})
	}
}
