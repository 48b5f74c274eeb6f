package enginetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/imagetest"
)

// job is one step of a workflow that uses the action.
type job struct {
	// Workspace is what actions/checkout would have left, or a parent folder of it.
	Workspace string
	// With is the step's `with:`.
	With map[string]string
	// Env is what the workflow and the runner add to the environment.
	Env map[string]string
	// Keep leaves the stopped container until the test ends.
	Keep bool
}

// step is a step that runs.
type step struct {
	name    string
	cmd     *exec.Cmd
	log     lockedBuffer
	done    chan error
	started time.Time
	// commands is the host's folder with GITHUB_OUTPUT and its like.
	commands  string
	workspace string
}

// result is a step that has ended.
type result struct {
	Code    int
	Log     string
	Outputs map[string]string
	// Env is what the step left in GITHUB_ENV.
	Env     string
	Summary string
	Took    time.Duration
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// checkout copies a folder, with old modification times, to where a runner would
// have checked the repository out.
func checkout(t *testing.T, source string) string {
	t.Helper()
	workspace := filepath.Join(t.TempDir(), "shop", "shop")
	if err := os.CopyFS(workspace, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	settle(t, workspace)
	return workspace
}

// write makes a workspace of the given files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	workspace := filepath.Join(t.TempDir(), "shop", "shop")
	for name, text := range files {
		path := filepath.Join(workspace, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, workspace)
	return workspace
}

// settle gives a workspace to the user whom GitHub's runners work as, and all of
// it one time in the past: two builds of it can be compared.
func settle(t *testing.T, workspace string) {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(workspace, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	for _, path := range slices.Backward(paths) {
		err = errors.Join(err, os.Lchown(path, 1001, 1001), os.Chtimes(path, imagetest.Past(), imagetest.Past()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start runs the action with the very command that GitHub's runner gives: no
// privileges, no init, names of variables on the command line and their values in
// the client's environment, five mounts, Docker's default network.
func (e *engine) start(t *testing.T, j job) *step {
	t.Helper()
	image, err := action()
	if err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(filepath.Dir(filepath.Dir(j.Workspace)), "_temp")
	for _, dir := range []string{"_github_home", "_github_workflow", "_runner_file_commands"} {
		if err := os.MkdirAll(filepath.Join(temp, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	id := unique(t)
	s := &step{
		name: "towline_enginetest_" + id, done: make(chan error, 1), workspace: j.Workspace,
		commands: filepath.Join(temp, "_runner_file_commands"),
	}
	env := runnerEnv(j)
	for variable, file := range commandFiles() {
		if err := os.WriteFile(filepath.Join(s.commands, file+"_"+id), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		env[variable] = "/github/file_commands/" + file + "_" + id
	}
	if err := os.WriteFile(filepath.Join(temp, "_github_workflow", "event.json"), []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--name", s.name, "--label", "towline-enginetest", "--workdir", "/github/workspace"}
	if !j.Keep {
		args = append(args, "--rm")
	}
	for _, variable := range slices.Sorted(maps.Keys(env)) {
		args = append(args, "-e", variable)
	}
	args = append(args, "-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
		"-v", "/var/run/docker.sock:/var/run/docker.sock",
		"-v", temp+":/github/runner_temp",
		"-v", temp+"/_github_home:/github/home",
		"-v", temp+"/_github_workflow:/github/workflow",
		"-v", temp+"/_runner_file_commands:/github/file_commands",
		"-v", j.Workspace+":/github/workspace",
		image)
	ctx := context.WithoutCancel(t.Context())
	s.cmd = exec.CommandContext(ctx, "docker", args...)
	s.cmd.Env = s.cmd.Environ()
	for variable, value := range env {
		s.cmd.Env = append(s.cmd.Env, variable+"="+value)
	}
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.started = time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() { _, _ = command(ctx, "docker", "rm", "--force", "--volumes", s.name) })
	return s
}

// run runs the action to its end.
func (e *engine) run(t *testing.T, j job) result {
	t.Helper()
	return e.start(t, j).wait(t)
}

// wait waits for the step's end, for at most 20 minutes.
func (s *step) wait(t *testing.T) result {
	t.Helper()
	limit := time.NewTimer(20 * time.Minute)
	defer limit.Stop()
	var err error
	select {
	case err = <-s.done:
	case <-limit.C:
		t.Fatalf("step still runs after 20 minutes:\n%s", tail(s.log.String(), 60))
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{Code: s.cmd.ProcessState.ExitCode(), Log: s.log.String(), Took: time.Since(s.started)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the step's log, exit code %d after %s:\n%s", r.Code, r.Took.Round(time.Millisecond), tail(r.Log, 80))
		}
	})
	r.Outputs = outputs(t, s.file(t, "set_output"))
	r.Env = s.file(t, "set_env")
	r.Summary = s.file(t, "step_summary")
	return r
}

func (s *step) file(t *testing.T, command string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.commands, command+"_"+strings.TrimPrefix(s.name, "towline_enginetest_")))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// interrupt waits for a moment, sends SIGINT as a cancelled job does, and gives the
// result and how long the step took to end.
func (s *step) interrupt(t *testing.T, moment func() bool) (result, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, errors.New("the moment to interrupt never came"))
	defer cancel()
	err := poll(ctx, func() bool { return moment() || len(s.done) > 0 })
	if err != nil || len(s.done) > 0 {
		t.Fatalf("step not interrupted before its end (%v):\n%s", err, tail(s.log.String(), 60))
	}
	sent := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r := s.wait(t)
	return r, time.Since(sent)
}

func unique(t *testing.T) string {
	t.Helper()
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(id[:])
}

func commandFiles() map[string]string {
	return map[string]string{
		"GITHUB_OUTPUT": "set_output", "GITHUB_ENV": "set_env", "GITHUB_PATH": "add_path",
		"GITHUB_STATE": "save_state", "GITHUB_STEP_SUMMARY": "step_summary",
	}
}

// runnerEnv is the environment that the runner hands to a container action.
func runnerEnv(j job) map[string]string {
	env := map[string]string{
		"HOME": "/github/home", "GITHUB_WORKSPACE": "/github/workspace",
		"GITHUB_ACTION": "__towline_towline", "GITHUB_ACTION_REPOSITORY": "towline/towline", "GITHUB_ACTION_REF": "v1",
		"GITHUB_ACTOR": "octocat", "GITHUB_ACTOR_ID": "583231", "GITHUB_TRIGGERING_ACTOR": "octocat",
		"GITHUB_API_URL": "https://api.github.com", "GITHUB_GRAPHQL_URL": "https://api.github.com/graphql",
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_EVENT_NAME": "push",
		"GITHUB_EVENT_PATH": "/github/workflow/event.json", "GITHUB_JOB": "deploy",
		"GITHUB_BASE_REF": "", "GITHUB_HEAD_REF": "", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main",
		"GITHUB_REF_PROTECTED": "true", "GITHUB_REF_TYPE": "branch",
		"GITHUB_REPOSITORY": "acme/shop", "GITHUB_REPOSITORY_ID": "90210",
		"GITHUB_REPOSITORY_OWNER": "acme", "GITHUB_REPOSITORY_OWNER_ID": "7001", "GITHUB_RETENTION_DAYS": "90",
		"GITHUB_RUN_ID": "4711", "GITHUB_RUN_NUMBER": "12", "GITHUB_RUN_ATTEMPT": "1",
		"GITHUB_SHA": "8f3ad1c0b6a94b7f0c3d5e9a1f2b4c6d8e0f1a2b", "GITHUB_WORKFLOW": "deploy",
		"GITHUB_WORKFLOW_REF": "acme/shop/.github/workflows/deploy.yml@refs/heads/main",
		"GITHUB_WORKFLOW_SHA": "8f3ad1c0b6a94b7f0c3d5e9a1f2b4c6d8e0f1a2b",
		"RUNNER_OS":           "Linux", "RUNNER_ARCH": "X64", "RUNNER_NAME": "GitHub Actions 1",
		"RUNNER_ENVIRONMENT": "github-hosted", "RUNNER_TEMP": "/github/runner_temp",
		"RUNNER_TOOL_CACHE": "/opt/hostedtoolcache", "RUNNER_WORKSPACE": "/home/runner/work/shop",
		"ACTIONS_RUNTIME_TOKEN": runtimeToken, "ACTIONS_RUNTIME_URL": "https://pipelines.example.invalid/",
	}
	maps.Copy(env, j.Env)
	for input, value := range j.With {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(input, " ", "_"))] = value
	}
	return env
}

// runtimeToken is a secret that no RUN may see.
const runtimeToken = "runtime-token-that-no-run-may-see"

// outputs reads a GITHUB_OUTPUT file as the runner does.
func outputs(t *testing.T, text string) map[string]string {
	t.Helper()
	values := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines) && text != ""; i++ {
		line := lines[i]
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		if equals >= 0 && (heredoc < 0 || equals < heredoc) {
			values[line[:equals]] = line[equals+1:]
			continue
		}
		if heredoc < 0 {
			t.Fatalf("output file: invalid line %q", line)
		}
		end := slices.Index(lines[i+1:], line[heredoc+2:])
		if end < 0 {
			t.Fatalf("output file: no end of %q", line)
		}
		values[line[:heredoc]] = strings.Join(lines[i+1:i+1+end], "\n")
		i += end + 1
	}
	return values
}
