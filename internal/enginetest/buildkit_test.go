package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// buildkitModule is what the throw-away module builds buildkitd and buildctl from. Its
// version is go.mod's.
const buildkitModule = "github.com/moby/buildkit"

// buildkit is a BuildKit daemon of the very version whose frontend Towline uses.
type buildkit struct {
	engine *engine
	bin    string
	socket string
}

// startBuildkit builds BuildKit, or takes it from the cache, and runs its daemon
// until the test ends.
func startBuildkit(t *testing.T, e *engine) *buildkit {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("buildkitd wants root")
	}
	bin, err := buildkitBinaries(t.Context(), e.cache)
	if err != nil {
		t.Fatal(err)
	}
	// A short path: a socket's may have 107 bytes.
	dir, err := os.MkdirTemp("", "bk") //nolint:usetesting // the test's own folder has the test's name in its path
	if err != nil {
		t.Fatal(err)
	}
	b := &buildkit{engine: e, bin: bin, socket: filepath.Join(dir, "buildkitd.sock")}
	config := filepath.Join(dir, "buildkitd.toml")
	text := fmt.Sprintf("[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%q]\n  http = true\n", e.mirror, e.mirror)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	// The daemon gets a context of its own: t.Context ends before the clean-up, and
	// would kill it while it still has something mounted.
	daemon := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(bin, "buildkitd"),
		"--config", config, "--addr", "unix://"+b.socket, "--root", filepath.Join(dir, "state"),
		"--oci-worker=true", "--oci-worker-snapshotter=overlayfs", "--oci-worker-net=host", "--containerd-worker=false")
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- daemon.Wait() }()
	t.Cleanup(func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = <-done // 1 after a signal
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("buildkitd's last words:\n%s", tail(log.String(), 20))
		}
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("buildkitd not ready after 1 minute"))
	defer cancel()
	ready := func() bool {
		_, err := command(ctx, filepath.Join(bin, "buildctl"), "--addr", "unix://"+b.socket, "debug", "workers")
		return err == nil
	}
	if err := poll(ctx, ready); err != nil {
		t.Fatal(err)
	}
	return b
}

// build builds the Dockerfile in a folder and gives the image.
func (b *buildkit) build(t *testing.T, dir string, args map[string]string) v1.Image {
	t.Helper()
	ref := b.engine.mirror + "/buildkit/" + strings.ToLower(t.Name()) + ":latest"
	cmd := []string{
		"--addr", "unix://" + b.socket, "build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=context=" + dir, "--local=dockerfile=" + dir,
		"--output=type=image,push=true,registry.insecure=true,name=" + ref,
	}
	for key, value := range args {
		cmd = append(cmd, "--opt=build-arg:"+key+"="+value)
	}
	if _, err := command(t.Context(), filepath.Join(b.bin, "buildctl"), cmd...); err != nil {
		t.Fatal(err)
	}
	return pull(t, ref)
}

// pull gives an image of a registry that speaks HTTP.
func pull(t *testing.T, reference string, opts ...remote.Option) v1.Image {
	t.Helper()
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, append(opts, remote.WithContext(t.Context()))...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// buildkitBinaries gives the folder with buildkitd and buildctl. BuildKit's go.mod
// has directives that `go install module@version` refuses, so a throw-away module
// with our own versions builds them.
func buildkitBinaries(ctx context.Context, cache string) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", buildkitModule)
	list.Dir = filepath.Join("..", "..")
	version, err := output(list)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "buildkit-"+strings.TrimSpace(version))
	if _, err = os.Stat(bin); err == nil {
		return bin, nil
	}
	work, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(work, file), text, 0o644); err != nil {
			return "", err
		}
	}
	source := "package throwaway\n"
	for _, program := range []string{"buildctl", "buildkitd"} {
		source += fmt.Sprintf("import _ %q\n", buildkitModule+"/cmd/"+program)
	}
	// The constraint keeps the compiler from seeing imports of programs, and lets
	// `go mod tidy` see them.
	if err := os.WriteFile(filepath.Join(work, "throwaway.go"), []byte("//go:build ignore_me\n\n"+source), 0o644); err != nil {
		return "", err
	}
	steps := [][]string{{"mod", "edit", "-module=throwaway"}, {"mod", "tidy"}}
	for _, program := range []string{"buildctl", "buildkitd"} {
		steps = append(steps, []string{"build", "-o", filepath.Join("bin", program), buildkitModule + "/cmd/" + program})
	}
	for _, args := range steps {
		step := exec.CommandContext(ctx, "go", args...)
		step.Dir = work
		step.Env = append(step.Environ(), "CGO_ENABLED=0")
		if _, err := output(step); err != nil {
			return "", err
		}
	}
	return bin, os.Rename(filepath.Join(work, "bin"), bin)
}
