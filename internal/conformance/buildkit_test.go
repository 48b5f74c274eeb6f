package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/buildkitd"
	"github.com/towline/towline/internal/imagetest"
)

// oracle builds cases with BuildKit.
type oracle struct {
	daemon    *buildkitd.Daemon
	describer *imagetest.Describer
	server    string
	// layout is the bases' OCI layout.
	layout string
	// since is when the daemon started: what it has cached is younger.
	since time.Time
}

// startOracle runs BuildKit, with the bases in a registry, until the test ends.
func startOracle(t *testing.T, s *suite) *oracle {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := buildkitd.Programs(t.Context(), filepath.Join("..", ".."), cache)
	if err != nil {
		t.Fatal(err)
	}
	host := serve(t, "127.0.0.1", registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	if err = s.bases.push(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	o := &oracle{describer: s.describer, server: s.server, layout: filepath.Join(s.dir, "bases"), since: time.Now().Add(-time.Second)}
	if o.daemon, err = buildkitd.Start(t.Context(), buildkitd.Options{Bin: bin, Registry: host}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := o.daemon.Stop(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// cacheDir is where BuildKit's programs are kept between runs, as for the engine tests.
func cacheDir() (string, error) {
	dir := environ("TOWLINE_BASES")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(user, "towline", "bases")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// serve answers HTTP until the test ends, and gives host:port.
func serve(t *testing.T, address string, handler http.Handler) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

func (b *bases) push(ctx context.Context, host string) error {
	for _, base := range b.names {
		ref, err := name.ParseReference(host+"/library/"+base, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, b.images[base], remote.WithContext(ctx)); err != nil {
			return err
		}
	}
	ref, err := name.ParseReference(host+"/library/"+indexName, name.Insecure)
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, b.index, remote.WithContext(ctx))
}

func (o *oracle) build(ctx context.Context, c *testCase, dir string) *outcome {
	begin := time.Now()
	text, err := o.tryBuild(ctx, c, dir)
	out := &outcome{Text: text, Took: time.Since(begin)}
	if err != nil {
		out.Text, out.Error = failed, err.Error()
	}
	return out
}

func (o *oracle) tryBuild(ctx context.Context, c *testCase, dir string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("BuildKit takes more than two minutes"))
	defer cancel()
	if err := c.write(dir); err != nil {
		return "", err
	}
	image := filepath.Join(dir, "image")
	args, err := o.arguments(c, dir)
	if err != nil {
		return "", err
	}
	if _, err = o.daemon.Control(ctx, append(args, "--output=type=oci,tar=false,compression=uncompressed,dest="+image)...); err != nil {
		return "", err
	}
	index, err := layout.ImageIndexFromPath(image)
	if err != nil {
		return "", err
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		return "", fmt.Errorf("BuildKit's image: %d manifests: %w", len(manifest.Manifests), err)
	}
	if only := manifest.Manifests[0]; only.MediaType.IsIndex() {
		if index, err = index.ImageIndex(only.Digest); err != nil {
			return "", err
		}
		text, indexErr := describeIndex(o.describer, index, o.since)
		return hideServer(text, o.server), indexErr
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return "", err
	}
	text, err := o.describer.Describe(img, o.since)
	return hideServer(text, o.server), err
}

// arguments are buildctl's for a case.
func (o *oracle) arguments(c *testCase, dir string) ([]string, error) {
	args := []string{
		"build", "--progress=plain", "--frontend=dockerfile.v0",
		// Nothing of another case: its layers and contexts may have other times. And,
		// with a "cmdline", no other frontend for a "# syntax=" line.
		"--no-cache", "--opt=cmdline=built-in", "--opt=sharedkey:localdir:context=" + c.name,
	}
	option := func(key, value string) { args = append(args, "--opt="+key+"="+value) }
	named := c.pairs("arg")
	if len(c.all("server")) > 0 {
		named["SERVER"] = o.server
	}
	for _, key := range slices.Sorted(maps.Keys(named)) {
		option("build-arg:"+key, named[key])
	}
	for key, value := range c.pairs("label") {
		option("label:"+key, value)
	}
	for key, words := range map[string][]string{"add-hosts": c.words("add-host"), "ulimit": c.words("ulimit")} {
		if len(words) > 0 {
			option(key, strings.Join(words, ","))
		}
	}
	for _, key := range []string{"target", "shm-size", "platform"} {
		if value := c.one(key, ""); value != "" {
			option(key, value)
		}
	}
	args, err := o.contexts(args, c, dir)
	if err != nil {
		return nil, err
	}
	for _, words := range c.all("secret") {
		secret := filepath.Join(dir, "secret-"+words[0])
		if err := os.WriteFile(secret, []byte(words[1]), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--secret=id="+words[0]+",src="+secret)
	}
	// A RUN with the host's network wants to be allowed.
	return append(args, "--allow=network.host"), nil
}

// contexts adds what the build takes its files and keys from.
func (o *oracle) contexts(args []string, c *testCase, dir string) ([]string, error) {
	file := c.one("dockerfile", "Dockerfile")
	main, err := c.mainContext(o.server, dir, false)
	if err != nil {
		return nil, err
	}
	if main != "" {
		args = append(args, "--opt=context="+main, "--opt=filename="+file)
	} else {
		args = append(args, "--local=context="+contextPath(dir, ""), "--local=dockerfile="+filepath.Dir(contextPath(dir, file)), "--opt=filename="+filepath.Base(file))
	}
	for _, name := range c.words("context") {
		args = append(args, "--local="+name+"="+contextPath(dir, "@"+name),
			"--opt=context:"+name+"=local:"+name, "--opt=sharedkey:localdir:"+name+"="+c.name+"/"+name)
	}
	for _, words := range c.all("layout") {
		digest, err := digestOf(o.layout, words[1])
		if err != nil {
			return nil, err
		}
		args = append(args, "--oci-layout=bases="+o.layout, "--opt=context:"+words[0]+"=oci-layout://bases@"+digest)
	}
	for _, id := range c.words("ssh") {
		key, err := sshKey()
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, "key-"+id)
		if err := os.WriteFile(file, key, 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--ssh="+id+"="+file)
	}
	return args, nil
}

// digestOf finds a base in a layout.
func digestOf(dir, base string) (string, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return "", err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	for _, d := range manifest.Manifests {
		if d.Annotations[refName] == base {
			return d.Digest.String(), nil
		}
	}
	return "", fmt.Errorf("the layout has no %s", base)
}
