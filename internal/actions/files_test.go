package actions

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

// withFiles is a Runner on GitHub with its files in a new folder.
func withFiles(tb testing.TB) (r *Runner, output, summary string) {
	tb.Helper()
	dir := tb.TempDir()
	output, summary = filepath.Join(dir, "output"), filepath.Join(dir, "summary")
	r, _ = onGitHub(environ{"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary})
	return r, output, summary
}

func contents(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestSetOutput(t *testing.T) {
	t.Parallel()
	r, path, _ := withFiles(t)
	if err := r.OpenFiles(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"image": "123.dkr.ecr.eu-west-1.amazonaws.com/app:1@sha256:abc",
		"tags":  "a\nb\n",
		"sly":   "x\nEOF\n_GitHubActionsFileCommandDelimeter_\ndigest=evil\ny<<z\n",
		"none":  "",
	}
	for name, value := range want {
		if err := r.SetOutput(name, value); err != nil {
			t.Error(err)
		}
	}
	got, err := fileOutputs(contents(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("outputs (-got +want):\n%s", diff)
	}
}

func TestSetOutputRefuses(t *testing.T) {
	t.Parallel()
	r, path, _ := withFiles(t)
	r.delimiter = func() string { return "known" }
	if err := r.SetOutput("a", "x\ntowline_known\nb=c"); err == nil {
		t.Error("a value with the delimiter was taken")
	}
	for _, name := range []string{"", "a=b", "a<<b", "a\nb"} {
		if err := r.SetOutput(name, "x"); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	if got := contents(t, path); got != "" {
		t.Errorf("got %q, want nothing written", got)
	}
	bare, _ := onGitHub(nil)
	var p *problem.Error
	if err := bare.SetOutput("a", "b"); !errors.As(err, &p) {
		t.Errorf("without GITHUB_OUTPUT: got %v, want a problem", err)
	}
}

// What happens to the paths after OpenFiles does not matter.
func TestFilesAreKeptOpen(t *testing.T) {
	t.Parallel()
	r, output, summary := withFiles(t)
	if err := r.OpenFiles(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{output, summary} {
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/nowhere/at/all", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.OpenFiles(), r.SetOutput("a", "b"), r.Summary("# c")); err != nil {
		t.Fatal(err)
	}
	if got, err := fileOutputs(contents(t, output+".kept")); err != nil || got["a"] != "b" {
		t.Errorf("got %v, %v", got, err)
	}
	if got := contents(t, summary+".kept"); got != "# c\n" {
		t.Errorf("got %q", got)
	}
}

func TestOpenFilesExplains(t *testing.T) {
	t.Parallel()
	r, _ := onGitHub(environ{"GITHUB_OUTPUT": filepath.Join(t.TempDir(), "no", "folder")})
	var p *problem.Error
	if err := r.OpenFiles(); !errors.As(err, &p) || p.Fix == "" {
		t.Errorf("got %v, want a problem with a remedy", err)
	}
}

func TestPlainLeavesFilesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	env := environ{"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": filepath.Join(dir, "o"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "s")}
	r := New(Options{Getenv: env.get, Stdout: &out, Plain: true})
	if err := errors.Join(r.OpenFiles(), r.SetOutput("image", "x"), r.Summary("y")); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("got %q, want nothing", out.String())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("got files %v, %v, want none", files, err)
	}
}

func TestSummaryIsCut(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		parts []string
		want  func(string) bool
	}{
		"fits":     {[]string{"a", "b\n"}, func(s string) bool { return s == "a\nb\n" }},
		"at lines": {[]string{strings.Repeat("a line\n", 100_000), strings.Repeat("b line\n", 100_000), "never\n"}, endsAtLine},
		"in code":  {[]string{"````go\n```\n" + strings.Repeat("a line\n", 200_000)}, func(s string) bool { return strings.HasSuffix(s, "a line\n````\n"+summaryCut) }},
		"one line": {[]string{"a\n", strings.Repeat("x", 2<<20)}, func(s string) bool { return s == "a\n"+summaryCut }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, path := withFiles(t)
			for _, part := range test.parts {
				if err := r.Summary(part); err != nil {
					t.Fatal(err)
				}
			}
			got := contents(t, path)
			if len(got) > 1_048_576 {
				t.Errorf("got %d bytes", len(got))
			}
			if !test.want(got) {
				t.Errorf("got %d bytes that end with %q", len(got), got[max(0, len(got)-200):])
			}
		})
	}
}

func endsAtLine(s string) bool {
	return len(s) > 1_040_000 && strings.HasSuffix(s, "b line\n"+summaryCut) && strings.Count(s, summaryCut) == 1
}

func TestSummaryIsMasked(t *testing.T) {
	t.Parallel()
	r, _, path := withFiles(t)
	r.Mask("hunter2")
	if err := r.Summary("a hunter2\n"); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, path); got != "a ***\n" {
		t.Errorf("got %q", got)
	}
}

func TestSummaryFilledByOthers(t *testing.T) {
	t.Parallel()
	r, _, path := withFiles(t)
	if err := os.WriteFile(path, bytes.Repeat([]byte("x\n"), 1<<19), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Summary("more"); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, path); len(got) != 1<<20 {
		t.Errorf("got %d bytes, want %d", len(got), 1<<20)
	}
}

func TestGuarded(t *testing.T) {
	t.Parallel()
	r, _ := onGitHub(environ{"GITHUB_ENV": "/c/env", "GITHUB_PATH": "/c/path", "GITHUB_EVENT_PATH": "/w/event.json"})
	want := []string{"/c/env", "/c/path", "/w/event.json"}
	if diff := cmp.Diff(r.Guarded(), want); diff != "" {
		t.Errorf("guarded (-got +want):\n%s", diff)
	}
}

func FuzzSetOutput(f *testing.F) {
	for _, seed := range []string{"", "x", "a\nb", "a\r\nb\n", "x=y\nz<<EOF\nEOF\n", "\x00\xff", "towline_"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r, path, _ := withFiles(t)
		want := map[string]string{"first": "1", "value": value, "last": "2"}
		for _, name := range []string{"first", "value", "last"} {
			if err := r.SetOutput(name, want[name]); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.output.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := fileOutputs(contents(t, path))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("outputs (-got +want):\n%s", diff)
		}
	})
}
