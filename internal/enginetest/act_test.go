package enginetest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A whole workflow by a runner that is not ours: nektos/act evaluates the
// expressions, builds the action from its action.yml, starts it, and hands its
// outputs to a later step and to a later job. Where GitHub's OIDC provider and AWS
// would be, there is the emulator.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// uses is how the workflow names the action, context where the application is.
		uses, context string
	}{
		"published action": {uses: "towline/towline@v1", context: "."},
		"local action":     {uses: "./", context: "app"},
	}
	requireEngine(t)
	sweepAct(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := requireEngine(t)
			act := requireAct(t)
			c := newCloud(t, e)
			folder := actionFolder(t)
			workspace := checkout(t, filepath.Join("..", "..", "testdata", "demo"))
			if tt.uses == "./" {
				workspace = filepath.Join(t.TempDir(), "shop")
				copyFolder(t, folder, workspace)
				copyFolder(t, filepath.Join("..", "..", "testdata", "demo"), filepath.Join(workspace, tt.context))
			}
			id := unique(t)
			workflow(t, workspace, map[string]string{
				"@id@": id, "@action@": tt.uses, "@context@": tt.context, "@role@": c.role, "@mirror@": e.mirror,
			})
			log := act.run(t, c, workspace, "--local-repository", "towline/towline@v1="+folder)
			image := said(t, log, "later: image=")
			if digest := said(t, log, "later: digest="); !strings.HasSuffix(image, "@"+digest) || digest == "" {
				t.Errorf("outputs of the step: got image %q and digest %q, want one at the other's end", image, digest)
			}
			if got := said(t, log, "later: status="); got != "succeeded" {
				t.Errorf("output deployment-status: got %q, want succeeded", got)
			}
			if got := said(t, log, "next job: image="); got != image {
				t.Errorf("output of the job: got %q, want %q", got, image)
			}
			checkAnswer(t, c.image(t, image), "", "Hello from Towline")
		})
	}
}

// sweepAct removes, when the test has ended, the images and the volume that act
// leaves behind, those aside that were there before.
func sweepAct(t *testing.T) {
	t.Helper()
	list := func() map[string][]string {
		left := map[string][]string{}
		for kind, args := range map[string][]string{
			"image":  {"image", "ls", "--filter", "reference=act-*-dockeraction", "--filter", "reference=act-dockeraction", "--format", "{{.Repository}}:{{.Tag}}"},
			"volume": {"volume", "ls", "--filter", "name=^act-toolcache$", "--format", "{{.Name}}"},
		} {
			out, err := command(context.WithoutCancel(t.Context()), "docker", args...)
			if err != nil {
				t.Error(err)
			}
			left[kind] = strings.Fields(out)
		}
		return left
	}
	before := list()
	t.Cleanup(func() {
		for kind, names := range list() {
			for _, name := range names {
				if slices.Contains(before[kind], name) {
					continue
				}
				if _, err := command(context.WithoutCancel(t.Context()), "docker", kind, "rm", name); err != nil {
					t.Logf("act left a %s behind: %v", kind, err)
				}
			}
		}
	})
}

// workflow makes a workspace a repository of git with the workflow of the quick
// start, in which words are replaced.
func workflow(t *testing.T, workspace string, words map[string]string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "testdata", "engine", "quickstart", "workflow.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for word, value := range words {
		if !strings.Contains(text, word) {
			t.Fatalf("workflow: no %s", word)
		}
		text = strings.ReplaceAll(text, word, value)
	}
	path := filepath.Join(workspace, ".github", "workflows", "deploy.yml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	commit(t, workspace)
}

// commit makes a folder a repository of git with one commit of all that is in it.
func commit(t *testing.T, dir string) {
	t.Helper()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"remote", "add", "origin", "https://github.com/acme/shop.git"},
		{"add", "--all", "--force"},
		{"-c", "user.name=octocat", "-c", "user.email=octocat@example.invalid", "commit", "--quiet", "--message=all"},
	} {
		if _, err := command(t.Context(), "git", append([]string{"-c", "safe.directory=*", "-C", dir}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
}

// actionFolder is this repository as far as a workflow uses it: action.yml, and a
// Dockerfile that needs nothing from the internet.
func actionFolder(t *testing.T) string {
	t.Helper()
	image, err := action()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "towline")
	if err = os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"action.yml", filepath.Join("testdata", "engine", "Dockerfile")} {
		text, readErr := os.ReadFile(filepath.Join("..", "..", path))
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err = os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	container, err := command(t.Context(), "docker", "create", image)
	if err != nil {
		t.Fatal(err)
	}
	container = strings.TrimSpace(container)
	_, err = command(t.Context(), "docker", "cp", container+":/towline/towline", filepath.Join(dir, "towline"))
	_, gone := command(t.Context(), "docker", "rm", "--volumes", container)
	if err = errors.Join(err, gone); err != nil {
		t.Fatal(err)
	}
	commit(t, dir)
	return dir
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(to, ".git")); err != nil {
		t.Fatal(err)
	}
}

// said gives what follows a prefix in the log, which act puts the job's name before.
func said(t *testing.T, log, prefix string) string {
	t.Helper()
	for line := range strings.Lines(log) {
		if before, value, ok := strings.Cut(line, prefix); ok && strings.HasSuffix(strings.TrimSpace(before), "|") {
			return strings.TrimSpace(value)
		}
	}
	t.Errorf("log: no %q", prefix)
	return ""
}

// runner is nektos/act with an image that jobs run in.
type runner struct {
	path, image string
}

// requireAct finds act, which .ci/run installs, or fails the test.
func requireAct(t *testing.T) runner {
	t.Helper()
	path, err := exec.LookPath("act")
	if err != nil {
		t.Fatalf("TOWLINE_CI=1 wants workflows to run: %v; go install github.com/nektos/act@VERSION, as in .ci/run", err)
	}
	e := requireEngine(t)
	ref, err := name.ParseReference(e.mirror+"/library/eclipse-temurin:17-jre", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("towline-enginetest-runner-" + unique(t) + ":latest")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "runner.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t.Context(), "docker", "load", "--quiet", "--input", file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = command(context.WithoutCancel(t.Context()), "docker", "rmi", "--force", tag.String())
	})
	return runner{path: path, image: tag.String()}
}

// run runs the workflow of a workspace as for a push, and gives act's log.
func (r runner) run(t *testing.T, c *cloud, workspace string, more ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 15*time.Minute, errors.New("workflow still runs after 15 minutes"))
	defer cancel()
	home := t.TempDir()
	// Without this file act asks which image jobs are to run in.
	if err := os.WriteFile(filepath.Join(home, ".actrc"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	url, token := c.IDTokenRequest(c.url)
	args := append([]string{
		"push", "--pull=false", "--rm", "--network=bridge", "--no-cache-server",
		"--platform", "ubuntu-24.04=" + r.image, "--action-cache-path", filepath.Join(home, "actions"),
		"--env", "AWS_ENDPOINT_URL=" + c.url,
		"--env", "ACTIONS_ID_TOKEN_REQUEST_URL=" + url, "--env", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + token,
	}, more...)
	cmd := exec.CommandContext(ctx, r.path, args...)
	cmd.Dir = workspace
	cmd.Env = append(cmd.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	out, err := cmd.CombinedOutput()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("act's log:\n%s", tail(string(out), 120))
		}
	})
	if err != nil {
		t.Fatalf("%s: %v (%v)", strings.Join(cmd.Args[:2], " "), err, context.Cause(ctx))
	}
	return string(out)
}
