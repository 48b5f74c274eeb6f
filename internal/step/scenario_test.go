package step_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/step"
)

var update = flag.Bool("update", false, "rewrite the expected results")

// TestMain is also what a RUN step starts, and keeps the SDK from the settings
// of whoever runs the tests.
func TestMain(m *testing.M) {
	if code, ok := sandbox.Main(os.Args); ok {
		os.Exit(code) //nolint:forbidigo // it is a RUN's process, not a test
	}
	for _, entry := range os.Environ() { //nolint:forbidigo // to clear it
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") || strings.Contains(strings.ToLower(name), "_proxy") {
			_ = os.Unsetenv(name)
		}
	}
	_ = os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	_ = os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	m.Run()
}

// TestScenarios runs the whole step for each testdata/scenarios/*.txtar, on
// virtual time, against the emulator. An archive says
//
//	comment      what happens to the user
//	with         inputs, NAME: value, laid over those of defaults; "|" stands for a line's end
//	world        what is different from a world in which all goes well; see newWorld
//	ws/PATH      files of the workspace
//
// and what comes of it:
//
//	want/log       the whole log as the runner gets it; digests, sizes and tokens are replaced
//	want/outputs   what the step's later neighbours read
//	want/env       the environment of later steps; without it, nothing is put there
//	want/summary   the job summary
//	want/changes   every request that could have changed something, and the exit code
//
// A user may make any of these mistakes, so read what they would read.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			requireRoot(t, archive)
			got := play(t, archive)
			if *update {
				rewrite(t, file, archive, got)
				return
			}
			for _, part := range parts() {
				if diff := cmp.Diff(strings.Split(got[part], "\n"), strings.Split(string(find(archive, part)), "\n")); diff != "" {
					t.Errorf("%s: got -, want +:\n%s", part, diff)
				}
			}
		})
	}
}

func parts() []string {
	return []string{"want/changes", "want/env", "want/log", "want/outputs", "want/summary"}
}

// requireRoot skips what builds an image: a build keeps owners.
func requireRoot(t *testing.T, archive *txtar.Archive) {
	t.Helper()
	if find(archive, "ws/Dockerfile") == nil || os.Geteuid() == 0 {
		return
	}
	if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
		t.Fatal("TOWLINE_CI=1 wants builds to be tested, which needs root")
	}
	t.Skip("building keeps owners, which needs root")
}

func find(archive *txtar.Archive, name string) []byte {
	for _, f := range archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func rewrite(t *testing.T, file string, archive *txtar.Archive, got map[string]string) {
	t.Helper()
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
	for _, part := range parts() {
		if part == "want/env" && got[part] == "" {
			continue
		}
		archive.Files = append(archive.Files, txtar.File{Name: part, Data: []byte(got[part])})
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
}

// defaults are the inputs of a step that does everything.
func defaults() map[string]string {
	return map[string]string{
		"aws-region": "eu-central-1", "role-to-assume": "arn:aws:iam::123456789012:role/deploy",
		"repository": "shop", "tags": "v2", "cluster": "prod", "service": "web", "container-name": "app",
	}
}

// play runs a scenario and gives its parts.
func play(t *testing.T, archive *txtar.Archive) map[string]string {
	t.Helper()
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	for _, f := range archive.Files {
		if path, ours := strings.CutPrefix(f.Name, "ws/"); ours {
			writeFile(t, filepath.Join(workspace, path), f.Data)
		}
	}
	if err := os.MkdirAll(workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	env := environment(dir, workspace)
	inputs := defaults()
	for line := range strings.Lines(string(find(archive, "with"))) {
		name, value, _ := strings.Cut(line, ":")
		inputs[name] = strings.ReplaceAll(strings.TrimSpace(value), "|", "\n")
	}
	for name, value := range inputs {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	var got map[string]string
	t.Run("bubble", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			t.Helper()
			w := newWorld(t, env, string(find(archive, "world")), string(find(archive, "definition.json")))
			code := w.run(t)
			if w.twice {
				w.reset(t)
				code = w.run(t)
			}
			got = w.outcome(t, code)
			settle(t)
		})
	})
	normalize := normalizer(dir, workspace, os.TempDir())
	several := strings.Contains(got["want/log"], "\nservice  ")
	for part, text := range got {
		if several {
			text = anyDeployment(text)
		}
		got[part] = normalize(text)
	}
	return got
}

// settle lets time pass for what ends by itself: BuildKit keeps a finished job
// for ten seconds.
func settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("waited"))
	defer cancel()
	<-ctx.Done()
}

func environment(dir, workspace string) map[string]string {
	return map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": workspace, "GITHUB_REPOSITORY": "acme/shop",
		"GITHUB_SHA": "8f3ad1c0b6a94b7f0c3d5e9a1f2b4c6d8e0f1a2b", "GITHUB_RUN_ID": "4711", "GITHUB_RUN_ATTEMPT": "1",
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
		"GITHUB_ENV": filepath.Join(dir, "env"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NO_COLOR": "1",
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// run is one step, as main does it.
func (w *world) run(t *testing.T) int {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	w.log.watch(w, cancel)
	s := step.New(step.Options{
		Getenv: func(name string) string { return w.env[name] }, Stdout: &w.log,
		Transport: w.transport(), Executable: executable,
	})
	code := s.End(s.Ship(ctx))
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return code
}

// log is what the step writes; texts in it set things off.
type log struct {
	mu       sync.Mutex
	text     bytes.Buffer
	triggers []trigger
}

type trigger struct {
	text string
	do   func()
}

// Write implements io.Writer.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(p)
	for i, tr := range l.triggers {
		if tr.do != nil && bytes.Contains(l.text.Bytes(), []byte(tr.text)) {
			l.triggers[i].do = nil
			tr.do()
		}
	}
	return n, err
}

// String is what was written so far: a request that nobody waits for any more may
// still mask what it brings.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// reset forgets what was written.
func (l *log) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// watch arms the world's triggers.
func (l *log) watch(w *world, cancel context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.stop = func() { w.cancelledAt = time.Now(); cancel(&step.CancelledError{Signal: os.Interrupt}) }
	if w.cancelAt != "" {
		l.triggers = append(l.triggers, trigger{w.cancelAt, w.stop})
	}
	if w.supersedeAt != "" {
		l.triggers = append(l.triggers, trigger{w.supersedeAt, w.supersede})
	}
}

// outcome gives the parts of what came of the run, and checks what holds of all.
func (w *world) outcome(t *testing.T, code int) map[string]string {
	t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(w.env[name])
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(data)
	}
	text := w.log.String()
	failures, stopped := 0, ""
	for line := range strings.Lines(text) {
		token, stops := strings.CutPrefix(line, "::stop-commands::")
		switch {
		case stopped != "" && line == "::"+stopped:
			stopped = ""
		case stopped == "" && stops:
			stopped = strings.TrimSpace(token) + "::\n"
		case stopped == "" && strings.HasPrefix(line, "::error"):
			failures++
			if len(line) > 4096 {
				t.Errorf("an annotation has %d characters; GitHub cuts it at 4096", len(line))
			}
		}
	}
	if stopped != "" {
		t.Error("the runner still does not listen to commands at the end")
	}
	for _, tr := range w.log.triggers {
		if tr.do != nil {
			t.Errorf("the log never has %q in it", tr.text)
		}
	}
	if w.env["INPUT_DRY-RUN"] == "true" {
		w.onlyRead(t)
	}
	want := w.errors
	if code == 0 {
		want = 0
	}
	if failures != want {
		t.Errorf("got %d error annotations with exit code %d, want %d", failures, code, want)
	}
	for _, noise := range []string{"%!", "<nil>", "context canceled", "context deadline exceeded", "operation error", "https response error", "runtime error", "SDK 20"} {
		if strings.Contains(text, noise) {
			t.Errorf("the log has %q in it, which is Go's and not the user's language", noise)
		}
	}
	return map[string]string{
		"want/log": text, "want/outputs": read("GITHUB_OUTPUT"), "want/summary": read("GITHUB_STEP_SUMMARY"),
		"want/env":     read("GITHUB_ENV"),
		"want/changes": w.changes() + fmt.Sprintf("exit code %d\n", code),
	}
}

// onlyRead fails for any request that is not a read.
func (w *world) onlyRead(t *testing.T) {
	t.Helper()
	reads := regexp.MustCompile(`^(GET|HEAD|Get|Describe|List|BatchGet|BatchCheck|Simulate|AssumeRole)`)
	for _, call := range w.cloud.Calls()[w.skipCalls:] {
		if !reads.MatchString(call.Action) {
			t.Errorf("a dry run made the request %s %s", call.Service, call.Action)
		}
	}
	for host, other := range w.others {
		if n := other.writes(); n != 0 {
			t.Errorf("a dry run wrote to %s %d times", host, n)
		}
	}
}

// changes lists the requests that write, in the order of their first time.
func (w *world) changes() string {
	writes := []string{
		"POST upload", "PUT upload", "MOUNT blob", "PUT manifest", "CreateRepository",
		"RegisterTaskDefinition", "UpdateService", "StopServiceDeployment", "DeregisterTaskDefinition",
		"CreateDeployment", "StopDeployment", "ContinueDeployment", "RunTask", "StopTask",
	}
	counts, refused := map[string]int{}, map[string]bool{}
	var order []string
	cancelled := 0
	for _, call := range w.cloud.Calls()[w.skipCalls:] {
		if call.Action == "DELETE upload" {
			cancelled++
		}
	}
	for _, call := range w.cloud.Calls()[w.skipCalls:] {
		// The probe of upload rights begins an upload, which it cancels, and asks
		// for what no registry can do.
		if !slices.Contains(writes, call.Action) || strings.Contains(call.Path, "/00000000-") || strings.HasSuffix(call.Path, "/sha256:"+strings.Repeat("0", 64)) {
			continue
		}
		if call.Action == "POST upload" && call.Status == http.StatusAccepted && cancelled > 0 {
			cancelled--
			continue
		}
		name := call.Service + " " + call.Action
		if call.ErrorCode != "" {
			name += " " + call.ErrorCode
			refused[name] = true
		}
		if counts[name] == 0 {
			order = append(order, name)
		}
		counts[name]++
	}
	var b strings.Builder
	for _, name := range order {
		if refused[name] {
			fmt.Fprintf(&b, "refused: %s\n", name) // how often it is tried is chance
			continue
		}
		fmt.Fprintf(&b, "%d %s\n", counts[name], name)
	}
	for _, call := range w.cloud.Calls()[w.skipCalls:] {
		if slices.Contains(w.shown, call.Action) {
			fmt.Fprintf(&b, "%s %s\n", call.Action, call.Request)
		}
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(w.env["GITHUB_OUTPUT"]), "task-definition-*.json"))
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			fmt.Fprintf(&b, "%s:\n%s", filepath.Base(file), text)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(w.others)) {
		if n := w.others[host].writes(); n > 0 {
			fmt.Fprintf(&b, "%d writes to %s\n", n, host)
		}
	}
	return b.String()
}
