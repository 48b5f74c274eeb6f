package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// served is when the files of the server were modified.
func served() time.Time { return time.Date(2021, 6, 7, 8, 9, 10, 0, time.UTC) }

// fileServer has some files and a git repository for ADD.
func fileServer(t *testing.T) http.Handler {
	t.Helper()
	dir := t.TempDir()
	packed := filepath.Join(dir, "packed")
	var archive bytes.Buffer
	err := errors.Join(writeFile(filepath.Join(packed, "sub", "file"), []byte("packed\n")), settle(packed), packTo(&archive, "gz", packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"/hello.txt": "hello\n", "/script.sh": "#!/bin/sh\necho served\n", "/archive.tar.gz": archive.String()}
	git := repository(t, dir)
	contexts := newContextServer(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch text, ok := files[r.URL.Path]; {
		case ok:
			http.ServeContent(w, r, r.URL.Path, served(), strings.NewReader(text))
		case strings.HasPrefix(r.URL.Path, "/repo.git"):
			git.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, contextsPath):
			contexts.ServeHTTP(w, r)
		case r.URL.Path == "/undated":
			_, _ = w.Write([]byte("undated\n"))
		case r.URL.Path == "/named":
			w.Header().Set("Content-Disposition", `attachment; filename="given.txt"`)
			_, _ = w.Write([]byte("named\n"))
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/hello.txt", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
}

// repository serves a git repository with a branch, a tag, a link and a program.
func repository(t *testing.T, dir string) http.Handler {
	t.Helper()
	work := filepath.Join(dir, "work")
	err := errors.Join(
		writeFile(filepath.Join(work, "readme"), []byte("of the tag\n")),
		writeFile(filepath.Join(work, "sub", "deep"), []byte("deep\n")),
		writeFile(filepath.Join(work, "sub", "program"), []byte("#!/bin/sh\n")),
		os.Chmod(filepath.Join(work, "sub", "program"), 0o755),
		os.Symlink("sub/deep", filepath.Join(work, "link")),
	)
	if err != nil {
		t.Fatal(err)
	}
	git := findGit(t)
	err = errors.Join(
		git.run(t.Context(), work, "init", "--quiet", "--initial-branch=main"), git.run(t.Context(), work, "add", "."),
		git.run(t.Context(), work, "commit", "--quiet", "--message=one"), git.run(t.Context(), work, "tag", "v1"),
		writeFile(filepath.Join(work, "readme"), []byte("of the branch\n")),
		git.run(t.Context(), work, "commit", "--quiet", "--all", "--message=two"), git.publish(t.Context(), work, filepath.Join(dir, "repo.git")),
	)
	if err != nil {
		t.Fatal(err)
	}
	return git.serve(dir, "")
}

// gitProgram is git itself.
type gitProgram string

func findGit(t *testing.T) gitProgram {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		unfit(t, "needs git: "+err.Error())
	}
	return gitProgram(program)
}

// run runs git in a folder. What it commits has the same digest every time.
func (g gitProgram) run(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, string(g), args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=2021-06-07T08:09:10Z",
		"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org", "GIT_COMMITTER_DATE=2021-06-07T08:09:10Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// publish makes a bare repository of the one in work.
func (g gitProgram) publish(ctx context.Context, work, bare string) error {
	return errors.Join(
		g.run(ctx, work, "clone", "--quiet", "--bare", work, bare),
		g.run(ctx, work, "--git-dir", bare, "config", "uploadpack.allowAnySHA1InWant", "true"),
	)
}

// serve answers for the bare repositories in dir.
func (g gitProgram) serve(dir, prefix string) http.Handler {
	return &cgi.Handler{
		Path: string(g), Args: []string{"http-backend"}, Root: prefix,
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
}
