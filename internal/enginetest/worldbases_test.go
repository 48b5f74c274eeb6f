package enginetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// worldBase is a base image of the worlds: BuildKit builds it from a Dockerfile in
// testdata/worlds/bases on Debian packages, so that a system is bootstrapped once.
type worldBase struct {
	// Name is repository:tag on Docker Hub.
	Name string
	// Dockerfile is its file's name without the ending.
	Dockerfile string
	// Contexts are named contexts: folders of this machine.
	Contexts map[string]string
	// key changes with all that the base is made of.
	key string
}

// rootBase is what all bases of the worlds stand on.
func rootBase() base {
	return base{
		Name:     "library/debian:bookworm-root",
		Packages: []string{"adduser", "ca-certificates"},
		Trust:    true,
		Config: v1.Config{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"bash"},
		},
	}
}

// worldBases makes the worlds' base images that the cache lacks, and serves them by
// the mirror. The daemon builds them in turn: later ones stand on the first.
func (b *buildkit) worldBases(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	root, err := rootBase().load(ctx, b.engine.cache)
	if err != nil {
		t.Fatal(err)
	}
	if err = b.engine.serveBase(ctx, rootBase().Name, root); err != nil {
		t.Fatal(err)
	}
	digest, err := root.Digest()
	if err != nil {
		t.Fatal(err)
	}
	machine, err := machineSettings(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := command(ctx, "go", "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	goversion, err := command(ctx, "go", "env", "GOVERSION")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"machine": machine.dir}
	key := digest.String() + machine.key
	for _, w := range []worldBase{
		{Name: "library/debian:bookworm-slim", Dockerfile: "debian", key: key},
		{Name: "library/node:18-bookworm-slim", Dockerfile: "node", Contexts: settings, key: key},
		{Name: "library/python:3.11-slim", Dockerfile: "python", Contexts: settings, key: key},
		{Name: "library/golang:1.26", Dockerfile: "golang", Contexts: map[string]string{"goroot": strings.TrimSpace(goroot)}, key: key + goversion},
		{Name: "library/nginx:stable", Dockerfile: "nginx", key: key},
	} {
		if err := b.worldBase(ctx, w); err != nil {
			t.Fatalf("base image %s: %v", w.Name, err)
		}
	}
}

// worldBase serves one base, which it makes before when the cache lacks it.
func (b *buildkit) worldBase(ctx context.Context, w worldBase) error {
	bases := filepath.Join("..", "..", "testdata", "worlds", "bases")
	hash := sha256.New()
	hash.Write([]byte(w.key + "\n"))
	// All of them stand on Debian's.
	for _, file := range []string{"debian", w.Dockerfile} {
		text, err := os.ReadFile(filepath.Join(bases, file+".Dockerfile"))
		if err != nil {
			return err
		}
		hash.Write(text)
	}
	dir := filepath.Join(b.engine.cache, fmt.Sprintf("%x", hash.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		img, err := onlyImage(dir)
		if err != nil {
			return err
		}
		return b.engine.serveBase(ctx, w.Name, img)
	}
	ref := b.engine.mirror + "/" + w.Name
	args := []string{
		"build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=dockerfile=" + bases, "--opt=filename=" + w.Dockerfile + ".Dockerfile",
		"--output=type=image,push=true,registry.insecure=true,name=" + ref,
	}
	for id, folder := range w.Contexts {
		args = append(args, "--local="+id+"="+folder, "--opt=context:"+id+"=local:"+id)
	}
	if _, err := b.daemon.Control(ctx, args...); err != nil {
		return err
	}
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return err
	}
	img, err := remote.Image(tag, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(b.engine.cache, "making-")
	if err != nil {
		return err
	}
	path, err := layout.Write(work, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err == nil {
		err = os.Rename(work, dir)
	}
	return errors.Join(err, os.RemoveAll(work))
}

// serveBase puts a base image where Docker Hub is looked for.
func (e *engine) serveBase(ctx context.Context, repository string, img v1.Image) error {
	ref, err := name.ParseReference(e.mirror+"/"+repository, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, img, remote.WithContext(ctx))
}

// settings are what the machine's own package managers are told, in a folder.
type settings struct {
	dir string
	// key changes with them.
	key string
}

// machineSettings writes npmrc and pip.conf: the certificates that Debian trusts,
// and the registries that this machine's own npm and pip ask, if it has them.
// Addresses with a password are left out: what is made here is kept.
func machineSettings(ctx context.Context, dir string) (settings, error) {
	npm := "cafile=/etc/ssl/certs/ca-certificates.crt\nupdate-notifier=false\n"
	pip := "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ndisable-pip-version-check = true\n"
	if registry, err := command(ctx, "npm", "config", "get", "registry"); err == nil {
		npm += setting("registry=", registry)
	}
	for _, place := range []string{"global.index-url", ":env:.index-url"} {
		if index, err := command(ctx, "python3", "-m", "pip", "config", "get", place); err == nil {
			pip += setting("index-url = ", index)
			break
		}
	}
	return settings{dir: dir, key: npm + pip}, errors.Join(
		os.WriteFile(filepath.Join(dir, "npmrc"), []byte(npm), 0o644),
		os.WriteFile(filepath.Join(dir, "pip.conf"), []byte(pip), 0o644))
}

func setting(key, address string) string {
	address = strings.TrimSpace(address)
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.User != nil {
		return ""
	}
	return key + address + "\n"
}
