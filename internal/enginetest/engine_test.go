package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// engine is what every engine test uses: a Docker engine, and a registry with
// the base images at an address that containers reach.
type engine struct {
	// gateway is the host's address on the engine's default network.
	gateway string
	// mirror is host:port of the registry that stands in for Docker Hub.
	mirror string
	// cache is where base images and BuildKit's binaries are kept between runs.
	cache string
}

// shared and action make the engine and the action's image once for all tests of
// this process.
var (
	shared = sync.OnceValues(newEngine)
	action = sync.OnceValues(buildAction)
	// made says that there is an image to remove.
	made atomic.Bool
)

// TestMain removes the action's image after the last test: each run makes another.
func TestMain(m *testing.M) {
	m.Run()
	if made.Load() {
		_, _ = command(context.Background(), "docker", "image", "prune", "--force", "--all", "--filter", "label=towline-enginetest")
	}
}

// requireEngine gives the engine, or ends the test.
func requireEngine(t *testing.T) *engine {
	t.Helper()
	if environ("TOWLINE_CI") != "1" {
		t.Skip("engine tests want a Docker engine, root and some minutes; they run with TOWLINE_CI=1")
	}
	e, err := shared()
	if err != nil {
		t.Fatalf("TOWLINE_CI=1 wants the engine tests to run: %v", err)
	}
	return e
}

// environ reads a setting of the engine tests.
func environ(name string) string {
	return os.Getenv(name) //nolint:forbidigo // The tests are started from a shell: nobody above could hand these over.
}

func newEngine() (*engine, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Minute, errors.New("no engine after 20 minutes"))
	defer cancel()
	e := &engine{cache: environ("TOWLINE_BASES")}
	if e.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		e.cache = filepath.Join(dir, "towline", "bases")
	}
	if err := os.MkdirAll(filepath.Join(e.cache, "blobs"), 0o755); err != nil {
		return nil, err
	}
	var err error
	if e.gateway, err = gateway(ctx); err != nil {
		return nil, err
	}
	if err = e.serveBases(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// command runs a program and gives what it wrote to its standard output.
func command(ctx context.Context, name string, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, name, args...))
}

func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(stdout.String()+stderr.String(), 30))
	}
	return stdout.String(), nil
}

// tail gives the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// gateway finds the host's address on Docker's default network. Older engines
// do not name it: then it is the network's first.
func gateway(ctx context.Context) (string, error) {
	out, err := command(ctx, "docker", "network", "inspect", "bridge",
		"--format", "{{range .IPAM.Config}}{{.Gateway}} {{.Subnet}}\n{{end}}")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		named, subnet, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if ip := net.ParseIP(named); ip != nil && ip.To4() != nil {
			return named, nil
		}
		ip, _, err := net.ParseCIDR(subnet)
		if err != nil || ip.To4() == nil {
			continue
		}
		first := ip.To4()
		first[3]++
		return first.String(), nil
	}
	return "", fmt.Errorf("docker's default network has no address: %q", out)
}

// buildAction compiles Towline as the action's Dockerfile does, builds the image and
// gives its ID.
func buildAction() (string, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Minute, errors.New("no image after 20 minutes"))
	defer cancel()
	dir, err := os.MkdirTemp("", "towline-image-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	root := filepath.Join("..", "..")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "towline"), ".")
	build.Dir = root
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if _, err = output(build); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(root, "testdata", "engine", "Dockerfile"))
	if err != nil {
		return "", err
	}
	if err = os.WriteFile(filepath.Join(dir, "Dockerfile"), text, 0o644); err != nil {
		return "", err
	}
	out, err := command(ctx, "docker", "build", "--quiet", "--label", "towline-enginetest", dir)
	if err != nil {
		return "", err
	}
	made.Store(true)
	return strings.TrimSpace(out), nil
}

// serve answers HTTP on a free port of one address of this machine until it is
// stopped. What answers may want to know where it is reached.
func serve(address string, handler func(host string) http.Handler) (host string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return "", nil, err
	}
	host = listener.Addr().String()
	server := &http.Server{Handler: handler(host), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	return host, func() { _ = server.Close() }, nil
}

// poll asks until the answer is yes, every 50 ms.
func poll(ctx context.Context, yes func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// get fetches a page until it is there, for at most two minutes.
func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("no answer from %s in 2 minutes", url))
	defer cancel()
	client := &http.Client{Timeout: 5 * time.Second}
	var body string
	err := poll(ctx, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		body = string(text)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return body, err
}
