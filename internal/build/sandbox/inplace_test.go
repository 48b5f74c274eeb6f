package sandbox

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	secret  = "hunter2-of-the-workflow"
	idToken = "request-token-of-the-job"
)

// step and report are testdata/inplace's Step and Report.
type step struct {
	Sandbox  string
	Script   string
	Process  Process
	Mounts   []Mount
	CancelOn string
}

type report struct {
	Output, Error, Signal string
	Code                  int
	Name, Warning         string
	Result                Result
	Tree, Top, Etc, State []string
	Hosts                 string
	Sources               map[string]string
	Processes             []string
}

// container is an image with testdata/inplace as Towline.
type container struct{ image, dir string }

func docker(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "INPUT_SECRET="+secret, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+idToken)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	if stderr.Len() > 0 && args[0] == "run" {
		t.Logf("docker run: %s", stderr.String())
	}
	return string(out)
}

func newContainer(t *testing.T) container {
	t.Helper()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		unfit(t, "needs a static busybox at /bin/busybox: "+err.Error())
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "version").CombinedOutput(); err != nil {
		unfit(t, "needs a Docker engine: "+string(out))
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "towline"), "./testdata/inplace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"busybox":    busybox,
		"applets":    []byte(applets),
		"Dockerfile": []byte("FROM scratch\nCOPY towline busybox applets /towline/\nCOPY state /towline/state/\nENTRYPOINT [\"/towline/towline\"]\n"),
		"state/.new": nil,
	} {
		write(t, dir, name, string(content))
	}
	c := container{image: "towline-sandbox-test:" + strings.ToLower(filepath.Base(filepath.Dir(dir))), dir: dir}
	docker(t, dir, "build", "-q", "-t", c.image, ".")
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", c.image).Run() }) //nolint:noctx // the test's context has ended
	return c
}

// run starts the image as GitHub's runner starts a container action.
func (c container) run(t *testing.T, steps ...step) []report {
	t.Helper()
	temp := t.TempDir()
	for _, dir := range []string{"_github_home", "_github_workflow", "_runner_file_commands"} {
		if err := os.Mkdir(filepath.Join(temp, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, temp, "_runner_file_commands/set_env", "ALREADY=there\n")
	workspace := t.TempDir()
	write(t, workspace, "src/main.c", "int main;\n")
	write(t, workspace, "file", "of the workspace\n")
	encoded, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	out := docker(t, c.dir, "run", "--workdir", "/github/workspace", "--rm",
		"-e", "INPUT_SECRET", "-e", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "-e", "INPUT_STEPS="+string(encoded),
		"-e", "INPUT_GUARD=/github/file_commands/set_env /github/file_commands/add_path",
		"-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
		"-v", "/var/run/docker.sock:/var/run/docker.sock",
		"-v", temp+":/github/runner_temp",
		"-v", filepath.Join(temp, "_github_home")+":/github/home",
		"-v", filepath.Join(temp, "_github_workflow")+":/github/workflow",
		"-v", filepath.Join(temp, "_runner_file_commands")+":/github/file_commands",
		"-v", workspace+":/github/workspace",
		c.image)
	var reports []report
	for line := range strings.Lines(out) {
		var r report
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		reports = append(reports, r)
	}
	if len(reports) != len(steps) {
		t.Fatalf("%d reports of %d steps:\n%s", len(reports), len(steps), out)
	}
	env, err := os.ReadFile(filepath.Join(temp, "_runner_file_commands/set_env"))
	if err != nil || string(env) != "ALREADY=there\n" {
		t.Errorf("GITHUB_ENV is %q, %v", env, err)
	}
	for i, r := range reports {
		r.checkOwn(t, i)
	}
	return reports
}

// checkOwn checks that the container is as it was.
func (r *report) checkOwn(t *testing.T, i int) {
	t.Helper()
	if diff := cmp.Diff([]string{".dockerenv", "dev", "etc", "github", "proc", "sys", "towline", "var"}, r.Top); diff != "" {
		t.Errorf("step %d: / (-want +got):\n%s", i, diff)
	}
	if diff := cmp.Diff([]string{"hostname", "hosts", "mtab", "resolv.conf"}, r.Etc); diff != "" {
		t.Errorf("step %d: /etc (-want +got):\n%s", i, diff)
	}
	if diff := cmp.Diff([]string{".new", "cache", "other", "root"}, r.State); diff != "" {
		t.Errorf("step %d: /towline/state (-want +got):\n%s", i, diff)
	}
	if len(r.Processes) > 0 {
		t.Errorf("step %d: left running: %v", i, r.Processes)
	}
	if strings.Contains(r.Hosts, "evil") || !strings.Contains(r.Hosts, "localhost") {
		t.Errorf("step %d: /etc/hosts: %s", i, r.Hosts)
	}
	for _, hidden := range []string{secret, idToken} {
		if strings.Contains(r.Output, hidden) {
			t.Errorf("step %d: the command found %s:\n%s", i, hidden, r.Output)
		}
	}
	if slices.ContainsFunc(r.Tree, func(line string) bool { return strings.Contains(line, "towline") }) {
		t.Errorf("step %d: something of Towline's in the root filesystem: %v", i, r.Tree)
	}
}

func TestInPlace(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	r := c.run(t,
		step{Script: "id; ls -la /; ls -la /etc; env; cat /proc/mounts; ls -la /dev; grep -i -e cap -e seccomp -e nonew /proc/self/status; pwd; touch /newdir"},
		step{Script: "cat /proc/1/environ; head -c 10 /proc/1/mem; ls -l /proc/1/fd /proc/1/; cat /proc/*/environ; find / -xdev | head -300"},
	)
	for _, r := range r {
		t.Logf("%s %s %d %s\n%s\n%v\n%v", r.Name, r.Warning, r.Code, r.Error, r.Output, r.Tree, r.Result)
	}
}
