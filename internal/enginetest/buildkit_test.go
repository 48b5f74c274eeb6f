package enginetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/buildkitd"
)

// buildkit is a BuildKit daemon of the very version whose frontend Towline uses.
type buildkit struct {
	engine *engine
	daemon *buildkitd.Daemon
}

// startBuildkit builds BuildKit, or takes it from the cache, and runs its daemon
// until the test ends.
func startBuildkit(t *testing.T, e *engine) *buildkit {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("buildkitd wants root")
	}
	bin, err := buildkitd.Programs(t.Context(), filepath.Join("..", ".."), e.cache)
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := buildkitd.Start(t.Context(), buildkitd.Options{Bin: bin, Registry: e.mirror})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		log, err := daemon.Stop()
		if err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("buildkitd's last words:\n%s", tail(log, 20))
		}
	})
	return &buildkit{engine: e, daemon: daemon}
}

// build builds the Dockerfile in a folder and gives the image.
func (b *buildkit) build(t *testing.T, dir string, args map[string]string) v1.Image {
	t.Helper()
	ref := b.engine.mirror + "/buildkit/" + strings.ToLower(t.Name()) + ":latest"
	cmd := []string{
		"build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=context=" + dir, "--local=dockerfile=" + dir,
		"--output=type=image,push=true,registry.insecure=true,name=" + ref,
		// With it a "# syntax=" line fetches no other frontend.
		"--opt=cmdline=dockerfile.v0",
	}
	for key, value := range args {
		cmd = append(cmd, "--opt=build-arg:"+key+"="+value)
	}
	if _, err := b.daemon.Control(t.Context(), cmd...); err != nil {
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
