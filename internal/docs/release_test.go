package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\n$`).Match(text) {
		t.Errorf("VERSION: got %q, want a line such as 1.2.3", text)
	}
}

// What a release leaves in the repository: a commit with the pinned image, a tag that
// stays, and a major version's tag that never goes back.
func TestReleaseCommit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	origin, work := filepath.Join(t.TempDir(), "origin.git"), filepath.Join(t.TempDir(), "work")
	run := func(dir, name string, args ...string) (string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	git := func(args ...string) string {
		t.Helper()
		out, err := run(work, "git", args...)
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	action, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../../.github/release-commit")
	if err != nil {
		t.Fatal(err)
	}
	if err = os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "--quiet", "--bare", origin)
	git("init", "--quiet", "--initial-branch=main")
	git("remote", "add", "origin", origin)
	if err = os.WriteFile(filepath.Join(work, "action.yml"), action, 0o644); err != nil {
		t.Fatal(err)
	}
	git("add", "action.yml")
	git("-c", "user.name=octocat", "-c", "user.email=octocat@example.invalid", "commit", "--quiet", "--message=one")
	git("checkout", "--quiet", "--detach")

	image := "ghcr.io/towline/towline@sha256:" + strings.Repeat("0a", 32)
	release := func(version, image string) (string, error) {
		git("checkout", "--quiet", "--force", "--detach", "main")
		return run(work, "bash", script, version, image)
	}
	for _, version := range []string{"1.9.0", "1.10.0", "1.9.1"} {
		if out, err := release(version, image); err != nil {
			t.Fatalf("release %s: %v\n%s", version, err, out)
		}
	}
	if got, want := git("ls-remote", origin, "refs/tags/v1"), git("rev-parse", "v1.10.0"); !strings.HasPrefix(got, want) {
		t.Errorf("v1: got %s, want %s, which is v1.10.0", got, want)
	}
	if got, want := git("show", "v1.9.1:action.yml")+"\n", strings.Replace(string(action), "image: Dockerfile", "image: docker://"+image, 1); got != want {
		t.Errorf("action.yml of v1.9.1: got\n%s", got)
	}
	refused := map[string][2]string{
		"there already":  {"1.10.0", image},
		"no version":     {"v1.11.0", image},
		"tag, no digest": {"1.11.0", "ghcr.io/towline/towline:1.11.0"},
	}
	for name, args := range refused {
		if out, err := release(args[0], args[1]); err == nil {
			t.Errorf("%s: released, want a refusal:\n%s", name, out)
		}
	}
}
