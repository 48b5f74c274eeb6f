package step_test

import (
	"io"
	stdlog "log"
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/step"
)

// proxy passes requests on to the cloud, a registry, a git server and a file, under
// names that nobody else knows.
type proxy struct {
	cloud    *emulator.Cloud
	registry http.Handler
	git      http.Handler

	mu    sync.Mutex
	hosts map[string]bool
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
	if r.URL.Host == "" || user != "me" || password != "hidden" {
		http.Error(w, "no", http.StatusProxyAuthRequired)
		return
	}
	p.mu.Lock()
	p.hosts[r.URL.Host] = true
	p.mu.Unlock()
	switch r.URL.Host {
	case "files.local":
		_, _ = io.WriteString(w, "from afar\n")
	case "git.local":
		p.git.ServeHTTP(w, r)
	case "registry.localhost":
		p.registry.ServeHTTP(w, r)
	default:
		p.cloud.ServeHTTP(w, r)
	}
}

// TestEverythingGoesThroughTheProxy does the whole step over sockets, where
// nothing can be reached but by the proxy of the input.
func TestEverythingGoesThroughTheProxy(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
			t.Fatal("TOWLINE_CI=1 wants builds to be tested, which needs root")
		}
		t.Skip("building keeps owners, which needs root")
	}
	p := &proxy{git: gitServer(t), hosts: map[string]bool{}, registry: registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	env := newEnvironment(t, map[string]string{
		"http-proxy": strings.Replace(server.URL, "://", "://me:hidden@", 1), "wait-for-service-stability": "false",
		"tags": "v2\nregistry.localhost/shop:v2",
	})
	env["NO_PROXY"] = "unrelated.example"
	writeFile(t, filepath.Join(env["GITHUB_WORKSPACE"], "Dockerfile"), []byte("FROM scratch\nADD http://files.local/file /\nADD http://git.local/tools.git /tools\n"))
	w := newWorld(t, env, "", "")
	p.cloud = w.cloud
	env["ACTIONS_ID_TOKEN_REQUEST_URL"], env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = w.cloud.IDTokenRequest("http://token.local")
	for _, service := range []string{"CLOUDWATCH_LOGS", "ECS", "STS"} {
		env["AWS_ENDPOINT_URL_"+service] = "http://" + strings.ToLower(service) + ".local"
	}
	env["AWS_ENDPOINT_URL_ECR"] = "http://ecr.local:8080" // a port shows that it is a stand-in for ECR's registry too
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := step.New(step.Options{Getenv: func(name string) string { return env[name] }, Stdout: &w.log, Executable: executable})
	code := s.End(s.Ship(t.Context()))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	text := w.log.String()
	if code != 0 {
		t.Fatalf("got exit code %d, want 0:\n%s", code, text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	want := []string{"cloudwatch_logs.local", "ecr.local:8080", "ecs.local", "files.local", "git.local", "registry.localhost", "registry.localhost:443", "sts.local", "token.local"}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(p.hosts)), want); diff != "" {
		t.Errorf("hosts that the proxy was asked for (-got +want):\n%s", diff)
	}
	for service, action := range map[string]string{"ecr": "DescribeRepositories", "registry": "PUT manifest"} {
		if len(w.cloud.Called(service, action)) == 0 {
			t.Errorf("no %s of %s came through the proxy", action, service)
		}
	}
	shown := strings.ReplaceAll(text, "::add-mask::hidden\n", "")
	shown = strings.ReplaceAll(shown, "::add-mask::"+env["INPUT_HTTP-PROXY"]+"\n", "")
	if strings.Contains(shown, "hidden") {
		t.Errorf("the proxy's password is in the log:\n%s", text)
	}
}

// gitServer serves a repository with one file, by git's own http-backend.
func gitServer(t *testing.T) http.Handler {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("there is no git program to serve repositories with")
	}
	dir := t.TempDir()
	environ := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}
	writeFile(t, filepath.Join(dir, "work", "tool"), []byte("from a repository\n"))
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"clone", "-q", "--bare", ".", "../tools.git"}} {
		git := exec.CommandContext(t.Context(), program, args...)
		git.Dir, git.Env = filepath.Join(dir, "work"), environ
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	return &cgi.Handler{
		Path: program, Args: []string{"http-backend"}, Root: "/", Env: append(environ, "GIT_PROJECT_ROOT="+dir, "GIT_HTTP_EXPORT_ALL=1"),
	}
}
