package git

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

// server holds repositories and serves them over the smart protocol, by git's own
// http-backend.
type server struct {
	*httptest.Server
	dir string
	// token, when it is not empty, is the password that requests need.
	token string
	// requests counts what came in for each repository.
	authorized map[string]string
}

func newServer(t *testing.T) *server {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("there is no git program to serve repositories with")
	}
	s := &server{dir: t.TempDir(), authorized: map[string]string{}}
	backend := &cgi.Handler{
		Path: program, Args: []string{"http-backend"}, Root: "/",
		Env: append(gitEnv(), "GIT_PROJECT_ROOT="+s.dir, "GIT_HTTP_EXPORT_ALL=1"),
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		if s.token != "" && subtle.ConstantTimeCompare([]byte(password), []byte(s.token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if to, ok := strings.CutPrefix(r.URL.Path, "/moved/"); ok {
			http.Redirect(w, r, "/"+to+"?"+r.URL.RawQuery, http.StatusFound)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func gitEnv() []string {
	return []string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), //nolint:forbidigo // where git is
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.org",
		"GIT_AUTHOR_DATE=1600000000 +0200", "GIT_COMMITTER_DATE=1600000100 +0200", "GIT_TERMINAL_PROMPT=0",
	}
}

// run calls git in a folder of the server.
func (s *server) run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "protocol.file.allow=always", "-c", "safe.directory=*"}, args...)...)
	cmd.Dir, cmd.Env = filepath.Join(s.dir, dir), gitEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes a commit with files in a repository, which is made when missing,
// and gives the commit's name. A file whose content begins with -> is a link; one
// whose name ends in .sh can be executed.
func (s *server) commit(t *testing.T, repo string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(s.dir, repo)
	if _, err := os.Stat(dir); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s.run(t, repo, "init", "-q", "-b", "main")
	}
	for name, content := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			if err := os.Symlink(target, at); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if err := os.WriteFile(at, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, repo, "add", "-A")
	s.run(t, repo, "commit", "-q", "-m", "change")
	return s.run(t, repo, "rev-parse", "HEAD")
}

// checkoutAll resolves and checks out, and lists what came.
func checkoutAll(t *testing.T, f *Fetcher, r Repository) (Commit, map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	dest := filepath.Join(dir, "dest")
	if err := os.Mkdir(dest, 0o755); err != nil {
		t.Fatal(err)
	}
	commit, err := f.Resolve(t.Context(), r)
	if err != nil {
		return commit, nil, err
	}
	if err := f.Checkout(t.Context(), r, commit, filepath.Join(dir, "work"), dest); err != nil {
		return commit, nil, err
	}
	return commit, tree(t, dest), nil
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.Name() == ".git":
			found[rel] = "kept"
			return filepath.SkipDir
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			found[rel] = "->" + target
			return err
		case info.IsDir():
			found[rel] = info.Mode().String()
		default:
			content, err := os.ReadFile(path)
			found[rel] = fmt.Sprintf("%v %s", info.Mode(), content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCheckout(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.commit(t, "app.git", map[string]string{"a.txt": "one", "run.sh": "#!/bin/sh\n", "sub/deep/b.txt": "b", "link": "->sub/deep", "sub/out": "->/etc/passwd"})
	s.run(t, "app.git", "tag", "v1")
	s.run(t, "app.git", "tag", "-a", "-m", "tagged", "annotated")
	tag := s.run(t, "app.git", "rev-parse", "annotated")
	s.run(t, "app.git", "branch", "both")
	second := s.commit(t, "app.git", map[string]string{"a.txt": "two"})
	s.run(t, "app.git", "tag", "both")
	s.run(t, "app.git", "update-ref", "refs/pull/7/head", first)
	remote := s.URL + "/app.git"
	all := func(a string) map[string]string {
		return map[string]string{
			"a.txt": "-rw-r--r-- " + a, "run.sh": "-rwxr-xr-x #!/bin/sh\n", "link": "->sub/deep", "sub": "drwxr-xr-x",
			"sub/deep": "drwxr-xr-x", "sub/deep/b.txt": "-rw-r--r-- b", "sub/out": "->/etc/passwd",
		}
	}
	tests := map[string]struct {
		repo   Repository
		commit Commit
		want   map[string]string
		err    string
	}{
		"default branch": {repo: Repository{}, commit: Commit{Ref: "refs/heads/main", Hash: second}, want: all("two")},
		"branch":         {repo: Repository{Ref: "main"}, commit: Commit{Ref: "refs/heads/main", Hash: second}, want: all("two")},
		"tag":            {repo: Repository{Ref: "v1"}, commit: Commit{Ref: "refs/tags/v1", Hash: first}, want: all("one")},
		"annotated tag":  {repo: Repository{Ref: "annotated"}, commit: Commit{Ref: "refs/tags/annotated", Hash: tag, Peeled: first}, want: all("one")},
		"whole tag":      {repo: Repository{Ref: "refs/tags/v1"}, commit: Commit{Ref: "refs/tags/v1", Hash: first}, want: all("one")},
		"branch before tag": {
			repo: Repository{Ref: "both"}, commit: Commit{Ref: "refs/heads/both", Hash: first}, want: all("one"),
		},
		"pull request":     {repo: Repository{Ref: "refs/pull/7/head"}, commit: Commit{Ref: "refs/pull/7/head", Hash: first}, want: all("one")},
		"commit":           {repo: Repository{Ref: second}, commit: Commit{Ref: second, Hash: second}, want: all("two")},
		"commit inside":    {repo: Repository{Ref: first}, commit: Commit{Ref: first, Hash: first}, want: all("one")},
		"checksum":         {repo: Repository{Ref: "main", Checksum: second[:8]}, commit: Commit{Ref: "refs/heads/main", Hash: second}, want: all("two")},
		"checksum of peel": {repo: Repository{Ref: "annotated", Checksum: first}, commit: Commit{Ref: "refs/tags/annotated", Hash: tag, Peeled: first}, want: all("one")},
		"by commit":        {repo: Repository{Ref: "main", Checksum: first, FetchByCommit: true}, commit: Commit{Ref: "refs/heads/main", Hash: first}, want: all("one")},
		"folder":           {repo: Repository{Subdir: "sub/deep"}, commit: Commit{Ref: "refs/heads/main", Hash: second}, want: map[string]string{"b.txt": "-rw-r--r-- b"}},
		"folder, kept":     {repo: Repository{Subdir: "sub/deep", KeepGitDir: true}, commit: Commit{Ref: "refs/heads/main", Hash: second}, want: map[string]string{"b.txt": "-rw-r--r-- b"}},
		"folder by link":   {repo: Repository{Subdir: "link"}, err: "link is not a folder"},
		"folder missing":   {repo: Repository{Subdir: "sub/none"}, err: "sub/none does not exist at commit " + second},
		"no such ref":      {repo: Repository{Ref: "nope"}, err: "repository does not contain ref nope"},
		"part of a commit": {repo: Repository{Ref: first[:8]}, err: "repository does not contain ref " + first[:8]},
		"no such commit":   {repo: Repository{Ref: strings.Repeat("ab", 20)}, err: "does not contain commit abab"},
		"other checksum":   {repo: Repository{Ref: "main", Checksum: first}, err: "expected checksum to match " + first + ", got " + second},
		"other of two":     {repo: Repository{Ref: "annotated", Checksum: second}, err: "got " + tag + " or " + first},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.repo.Remote = remote
			commit, got, err := checkoutAll(t, &Fetcher{}, test.repo)
			if test.err != "" {
				var p *problem.Error
				if !errors.As(err, &p) || !strings.Contains(err.Error(), test.err) || p.Fix == "" {
					t.Errorf("error %v, want a problem with %q and a remedy", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(commit, test.commit); diff != "" {
				t.Errorf("commit: got -, want +:\n%s", diff)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("files: got -, want +:\n%s", diff)
			}
		})
	}
}

func TestSubmodules(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.commit(t, "leaf.git", map[string]string{"leaf.txt": "leaf", "in/x": "x"})
	s.commit(t, "mid.git", map[string]string{"mid.txt": "mid"})
	s.run(t, "mid.git", "submodule", "add", "-q", "--name", "leaf", s.URL+"/leaf.git", "parts/leaf")
	s.commit(t, "mid.git", map[string]string{})
	s.commit(t, "top.git", map[string]string{"top.txt": "top"})
	s.run(t, "top.git", "submodule", "add", "-q", s.URL+"/mid.git", "mid")
	s.run(t, "top.git", "config", "-f", ".gitmodules", "submodule.mid.url", "../mid.git")
	s.commit(t, "top.git", map[string]string{})
	s.commit(t, "mid.git", map[string]string{"mid.txt": "later"})

	whole := map[string]string{
		".gitmodules": "", "top.txt": "-rw-r--r-- top", "mid": "drwxr-xr-x", "mid/.gitmodules": "", "mid/mid.txt": "-rw-r--r-- mid",
		"mid/parts": "drwxr-xr-x", "mid/parts/leaf": "drwxr-xr-x", "mid/parts/leaf/leaf.txt": "-rw-r--r-- leaf",
		"mid/parts/leaf/in": "drwxr-xr-x", "mid/parts/leaf/in/x": "-rw-r--r-- x",
	}
	tests := map[string]struct {
		repo Repository
		want map[string]string
	}{
		"all of them":      {want: whole},
		"none":             {repo: Repository{SkipSubmodules: true}, want: map[string]string{".gitmodules": "", "top.txt": "-rw-r--r-- top", "mid": "drwxr-xr-x"}},
		"folder in inside": {repo: Repository{Subdir: "mid/parts/leaf/in"}, want: map[string]string{"x": "-rw-r--r-- x"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.repo.Remote = s.URL + "/top.git"
			_, got, err := checkoutAll(t, &Fetcher{}, test.repo)
			if err != nil {
				t.Fatal(err)
			}
			for file := range got {
				if filepath.Base(file) == ".gitmodules" {
					got[file] = ""
				}
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestKeptGitDir(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.commit(t, "app.git", map[string]string{"a.txt": "one", "run.sh": "#!/bin/sh\n", "d/link": "->a"})
	head := s.commit(t, "app.git", map[string]string{"a.txt": "two"})
	s.run(t, "app.git", "tag", "-a", "-m", "tagged", "v2")
	for ref, kept := range map[string]string{
		"": head + " refs/tags/main", "main": head + " refs/tags/main", head: "",
		"v2": s.run(t, "app.git", "rev-parse", "v2") + " refs/tags/v2", "refs/heads/main": head + " refs/heads/main",
	} {
		t.Run("ref "+ref, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			dest := filepath.Join(dir, "dest")
			if err := os.Mkdir(dest, 0o755); err != nil {
				t.Fatal(err)
			}
			f := &Fetcher{}
			r := Repository{Remote: strings.Replace(s.URL, "http://", "http://user:hidden@", 1) + "/app.git", Ref: ref, KeepGitDir: true}
			commit, err := f.Resolve(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Checkout(t.Context(), r, commit, filepath.Join(dir, "work"), dest); err != nil {
				t.Fatal(err)
			}
			ask := func(args ...string) string {
				cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*"}, args...)...)
				cmd.Dir, cmd.Env = dest, gitEnv()
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("git %v: %v\n%s", args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			if got := ask("rev-parse", "HEAD"); got != head {
				t.Errorf("HEAD is %s, want %s", got, head)
			}
			if got := ask("status", "--porcelain"); got != "" {
				t.Errorf("status: %s", got)
			}
			if got := ask("rev-list", "--count", "HEAD"); got != "1" {
				t.Errorf("history has %s commits, want 1", got)
			}
			if got := ask("for-each-ref", "--format=%(objectname) %(refname)"); got != kept {
				t.Errorf("references %q, want %q", got, kept)
			}
			if got := ask("config", "remote.origin.url"); strings.Contains(got, "hidden") || strings.Contains(got, "user") {
				t.Errorf("the password was kept: %s", got)
			}
			ask("fsck", "--strict")
		})
	}
}

func TestCommitTime(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.commit(t, "app.git", map[string]string{"d/a.txt": "one", "d/link": "->nowhere"})
	dir := t.TempDir()
	f := &Fetcher{}
	r := Repository{Remote: s.URL + "/app.git", CommitTime: true}
	commit, err := f.Resolve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(dir, "dest")
	if err := os.Mkdir(dest, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Checkout(t.Context(), r, commit, filepath.Join(dir, "work"), dest); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "d", "d/a.txt", "d/link"} {
		info, err := os.Lstat(filepath.Join(dest, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.ModTime().Unix(); got != 1600000100 {
			t.Errorf("%s has time %d", name, got)
		}
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	head := s.commit(t, "app.git", map[string]string{"a": "a"})
	s.run(t, "app.git", "tag", "-a", "-m", "tagged", "v1")
	f := &Fetcher{}
	r := Repository{Remote: s.URL + "/app.git", Ref: "v1"}
	commit, err := f.Resolve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	found, raw, tag, err := f.Objects(t.Context(), r, commit, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if found.Peeled != head {
		t.Errorf("commit %s, want %s", found.Peeled, head)
	}
	if got := s.run(t, "app.git", "cat-file", "commit", head); strings.TrimSpace(string(raw)) != got {
		t.Errorf("commit %q, want %q", raw, got)
	}
	if got := s.run(t, "app.git", "cat-file", "tag", "v1"); strings.TrimSpace(string(tag)) != got {
		t.Errorf("tag %q, want %q", tag, got)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped by a test")
	cancel(cause)
	_, err := (&Fetcher{}).Resolve(ctx, Repository{Remote: "http://127.0.0.1:1/a.git"})
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
}
