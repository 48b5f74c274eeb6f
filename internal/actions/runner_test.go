package actions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// environ is the environment of a step.
type environ map[string]string

func (e environ) get(name string) string { return e[name] }

// onGitHub is a Runner on GitHub and what it wrote.
func onGitHub(extra environ) (*Runner, *bytes.Buffer) {
	env := environ{"GITHUB_ACTIONS": "true"}
	maps.Copy(env, extra)
	var out bytes.Buffer
	return New(Options{Getenv: env.get, Stdout: &out}), &out
}

func TestCommands(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		do    func(*Runner)
		want  string
		plain string
	}{
		"group": {
			do:    func(r *Runner) { r.Group("Build\nit: 50%"); r.EndGroup(); r.EndGroup() },
			want:  "::group::Build it: 50%25\n::endgroup::\n",
			plain: "== Build it: 50% ==\n",
		},
		"line": {
			do:    func(r *Runner) { r.Line("pushed   layer sha256:9f86d081884c  12.4 MB  1.2s") },
			want:  "pushed   layer sha256:9f86d081884c  12.4 MB  1.2s\n",
			plain: "pushed   layer sha256:9f86d081884c  12.4 MB  1.2s\n",
		},
		"line like a command": {
			do:    func(r *Runner) { r.Line(" \t::error::no\r\na ##[error]no\rc::d::\n\u00ad:\u200b:x::") },
			want:  " \t: :error::no\na ## [error]no\nc::d::\n\u00ad:\u200b :x::\n",
			plain: " \t: :error::no\na ## [error]no\nc::d::\n\u00ad:\u200b :x::\n",
		},
		"mask": {
			do: func(r *Runner) {
				r.Mask("")
				r.Mask(" \n")
				r.Mask("p%q")
				r.Mask("p%q")
				r.Mask("one\r\n  two\n\none")
				r.Line("p%q is one, two")
			},
			want:  "::add-mask::p%25q\n::add-mask::one%0D%0A  two%0A%0Aone\n::add-mask::one\n::add-mask::two\n*** is ***, ***\n",
			plain: "*** is ***, ***\n",
		},
		"notice": {
			do:    func(r *Runner) { r.Annotate(Notice, Annotation{Message: "a\nb"}) },
			want:  "::notice::a%0Ab\n",
			plain: "notice: a\n  b\n",
		},
		"warning": {
			do: func(r *Runner) {
				r.Annotate(Warning, Annotation{Title: "Stage, unused: 1", File: "app/Dockerfile", Line: 3, EndLine: 5, Message: "m"})
			},
			want:  "::warning endLine=5,file=app/Dockerfile,line=3,title=Stage%2C unused%3A 1::m\n",
			plain: "warning: app/Dockerfile:3: Stage, unused: 1: m\n",
		},
		"error": {
			do: func(r *Runner) {
				r.Annotate(Error, Annotation{})
				r.Annotate(Error, Annotation{Title: "only this", Line: 4})
			},
			want:  "::error::only this\n",
			plain: "error: only this\n",
		},
		"debug": {
			do:    func(r *Runner) { r.Debug("100%\n") },
			want:  "::debug::100%25%0A\n",
			plain: "debug: 100%\n\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, out := onGitHub(environ{"RUNNER_DEBUG": "1"})
			test.do(r)
			if diff := cmp.Diff(out.String(), test.want); diff != "" {
				t.Errorf("on GitHub (-got +want):\n%s", diff)
			}
			out = &bytes.Buffer{}
			test.do(New(Options{Getenv: environ{"RUNNER_DEBUG": "1"}.get, Stdout: out}))
			if diff := cmp.Diff(out.String(), test.plain); diff != "" {
				t.Errorf("plain (-got +want):\n%s", diff)
			}
		})
	}
}

func TestDebugOff(t *testing.T) {
	t.Parallel()
	r, out := onGitHub(nil)
	r.Debug("x")
	if out.Len() > 0 || r.DebugOn() {
		t.Errorf("got %q, want nothing", out)
	}
}

func TestAnnotationsFold(t *testing.T) {
	t.Parallel()
	r, out := onGitHub(nil)
	for i := range 13 {
		r.Annotate(Warning, Annotation{File: "Dockerfile", Line: i + 1, Message: "w"})
	}
	r.Annotate(Error, Annotation{Message: "e"})
	commands, text := runStream(t, out.String())
	if len(commands) != 11 {
		t.Errorf("got %d annotations, want 11", len(commands))
	}
	want := []string{"warning: Dockerfile:11: w", "warning: Dockerfile:12: w", "warning: Dockerfile:13: w"}
	if diff := cmp.Diff(text, want); diff != "" {
		t.Errorf("lines (-got +want):\n%s", diff)
	}
	if r.Folded(Warning) != 3 || r.Folded(Error) != 0 {
		t.Errorf("folded %d and %d, want 3 and 0", r.Folded(Warning), r.Folded(Error))
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env  environ
		name string
		want string
	}{
		"hyphens kept": {environ{"INPUT_TASK-DEFINITION": " td.json\n"}, "task-definition", "td.json"},
		"blank":        {environ{"INPUT_A_B": "x"}, "a b", "x"},
		"act":          {environ{"INPUT_A_B-C": "x"}, "a.b-c", "x"},
		"unset":        {environ{}, "image", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := New(Options{Getenv: test.env.get}).Input(test.name); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A library that panics, and an output that fails, must not end the step.
func TestPanicsStayInside(t *testing.T) {
	t.Parallel()
	env := environ{"GITHUB_ACTIONS": "true"}
	r := New(Options{Getenv: env.get, Stdout: brokenWriter{}})
	r.Group("x")
	r.Mask("y")
	r.Annotate(Error, Annotation{Message: "z"})
	if err := calmly(func() { panic("x") }); err == nil || !strings.Contains(err.Error(), "x") {
		t.Errorf("got %v, want the panic as an error", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// write gives the whole of text to w.
func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Errorf("wrote %d of %d bytes: %v", n, len(text), err)
	}
}

func TestUntrusted(t *testing.T) {
	t.Parallel()
	r, out := onGitHub(nil)
	u, v := r.Untrusted(), r.Untrusted()
	write(t, u, "half ")
	write(t, v, "::add-mask::x\r")
	write(t, v, "\n##[error]y\n")
	r.Line("::ours")
	write(t, u, "a line\r10%\r")
	r.Mask("secret")
	write(t, u, "\nlast")
	for range 2 {
		if err := errors.Join(u.Close(), v.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := u.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write after close: got %v, want %v", err, io.ErrClosedPipe)
	}
	commands, text := runStream(t, out.String())
	if diff := cmp.Diff(commands, []processed{{Name: "add-mask", Data: "secret"}}); diff != "" {
		t.Errorf("commands (-got +want):\n%s", diff)
	}
	want := []string{"::add-mask::x", "##[error]y", ": :ours", "half a line", "10%", "last"}
	if diff := cmp.Diff(text, want); diff != "" {
		t.Errorf("text (-got +want):\n%s", diff)
	}
	if n := strings.Count(out.String(), "::stop-commands::"); n != 2 {
		t.Errorf("stopped %d times, want 2", n)
	}
}

func TestUntrustedLongLine(t *testing.T) {
	t.Parallel()
	for name, sep := range map[string]string{"blanks": " ", "none": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, out := onGitHub(nil)
			u := r.Untrusted()
			want := strings.Repeat("0123456789"+sep, 60_000)
			write(t, u, want)
			if err := u.Close(); err != nil {
				t.Error(err)
			}
			_, text := runStream(t, out.String())
			if strings.Join(text, "") != want {
				t.Error("the text changed")
			}
			for i, line := range text {
				if len(line) > maxLine || i < len(text)-1 && !strings.HasSuffix(line, sep) {
					t.Errorf("line of %d bytes ends with %q", len(line), line[len(line)-3:])
				}
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	r, out := onGitHub(environ{"RUNNER_DEBUG": "1"})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			u := r.Untrusted()
			for j := range 50 {
				write(t, u, fmt.Sprintf("::error::%d %d\npart", i, j))
				r.Group("g")
				r.Line("::error::l")
				r.Mask(fmt.Sprint("mask", i, j))
				r.Debug("d")
				r.EndGroup()
			}
			_ = u.Close()
		})
	}
	wg.Wait()
	commands, _ := runStream(t, out.String())
	for _, c := range commands {
		if c.Name == "error" || c.Name == "group" && c.Data != "g" {
			t.Errorf("got through: %+v", c)
		}
	}
}

func FuzzUntrusted(f *testing.F) {
	for _, seed := range []string{
		"plain\n", "::error::x\n", "a\r::add-mask::x\r\n", "##[add-mask]x", "\x00::stop-commands::a\n::a::\n",
		"\u200b::warning::y\n:\u00ad:notice::z\n#\u200d#[debug]q]", "\xff\xfe::\xf0::group::\n", "::group::a\r\n::endgroup::", "%0A::error::%",
	} {
		f.Add(seed, uint8(3), false)
		f.Add(seed, uint8(0), true)
	}
	f.Fuzz(func(t *testing.T, data string, cut uint8, plain bool) {
		var out bytes.Buffer
		r := New(Options{Getenv: environ{"GITHUB_ACTIONS": "true"}.get, Stdout: &out, Plain: plain})
		u, v := r.Untrusted(), r.Untrusted()
		at := min(int(cut), len(data))
		for _, part := range []string{data[:at], data[at:]} {
			write(t, u, part)
			r.Line(data)
			write(t, v, part)
			r.Group(data)
		}
		r.Annotate(Error, Annotation{Title: data, File: data, Line: 1, Message: "m" + data})
		_ = u.Close()
		r.Line(data)
		_ = v.Close()
		r.Line(data)

		commands, _ := runStream(t, out.String())
		var got []string
		for _, c := range commands {
			got = append(got, c.Name)
		}
		want := []string{"group", "group", "error"}
		if plain {
			want = nil
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("commands (-got +want):\n%s\nstream:\n%q", diff, out.String())
		}
		if !plain && shapes(commands[2].Data) != shapes("m"+data) { // the model has dropped characters
			t.Errorf("message: got %q, want %q", commands[2].Data, "m"+data)
		}
	})
}
