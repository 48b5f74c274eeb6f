package bases

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/buildkitd"
)

// Built is a base image that BuildKit builds from a Dockerfile, mostly on other base
// images, so that a system is bootstrapped once.
type Built struct {
	// Name is repository:tag on Docker Hub.
	Name string
	// Dockerfile is its file's name without the ending, in Dir.
	Dockerfile string
	// Dir is the folder of the Dockerfile. Default: testdata/worlds/bases.
	Dir string
	// Contexts are named contexts: folders of this machine.
	Contexts map[string]string
	// Key changes with all that the base is made of besides its Dockerfile.
	Key string
}

// rootBase is what all bases of the worlds stand on.
func rootBase() plain {
	return plain{
		Name:     "library/debian:bookworm-root",
		Packages: []string{"adduser", "ca-certificates"},
		Trust:    true,
		Config: v1.Config{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"bash"},
		},
	}
}

// worlds lists the worlds' base images; the first is what the others stand on, and
// stands on the one that it serves. temp is a folder for their contexts.
func (s *Store) worlds(ctx context.Context, temp string) ([]Built, error) {
	root, err := rootBase().load(ctx, s.Cache)
	if err != nil {
		return nil, err
	}
	if err = s.Push(ctx, rootBase().Name, root); err != nil {
		return nil, err
	}
	digest, err := root.Digest()
	if err != nil {
		return nil, err
	}
	machine, err := machineSettings(ctx, temp)
	if err != nil {
		return nil, err
	}
	goroot, err := command(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goversion, err := command(ctx, "go", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	settings := map[string]string{"machine": machine.dir}
	key := digest.String() + machine.key
	return []Built{
		{Name: "library/debian:bookworm-slim", Dockerfile: "debian", Key: key},
		{Name: "library/node:18-bookworm-slim", Dockerfile: "node", Contexts: settings, Key: key},
		{Name: "library/python:3.11-slim", Dockerfile: "python", Contexts: settings, Key: key},
		{Name: "library/golang:1.26", Dockerfile: "golang", Contexts: map[string]string{"goroot": strings.TrimSpace(goroot)}, Key: key + goversion},
		{Name: "library/nginx:stable", Dockerfile: "nginx", Key: key},
	}, nil
}

// Build serves one base, which it makes before when the cache lacks it.
func (s *Store) Build(ctx context.Context, daemon *buildkitd.Daemon, w Built) error {
	hash := sha256.New()
	hash.Write([]byte(w.Key + "\n"))
	dockerfiles := w.Dir
	if dockerfiles == "" {
		dockerfiles = s.dockerfiles()
	}
	// All of them stand on Debian's.
	for _, file := range []string{filepath.Join(s.dockerfiles(), "debian"), filepath.Join(dockerfiles, w.Dockerfile)} {
		text, err := os.ReadFile(file + ".Dockerfile") //nolint:gosec // of this repository
		if err != nil {
			return err
		}
		hash.Write(text)
	}
	dir := filepath.Join(s.Cache, fmt.Sprintf("%x", hash.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		img, err := onlyImage(dir)
		if err != nil {
			return err
		}
		return s.Push(ctx, w.Name, img)
	}
	ref := s.Mirror + "/" + w.Name
	args := []string{
		"build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=dockerfile=" + dockerfiles, "--opt=filename=" + w.Dockerfile + ".Dockerfile",
		"--output=type=image,push=true,registry.insecure=true,name=" + ref,
	}
	for id, folder := range w.Contexts {
		args = append(args, "--local="+id+"="+folder, "--opt=context:"+id+"=local:"+id)
	}
	if _, err := daemon.Control(ctx, args...); err != nil {
		return err
	}
	return s.keep(ctx, ref, dir)
}

// keep takes an image from the registry into a folder of the cache.
func (s *Store) keep(ctx context.Context, ref, dir string) error {
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return err
	}
	img, err := remote.Image(tag, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(s.Cache, "making-")
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
			return writeSettings(dir, npm, pip+setting("index-url = ", index))
		}
	}
	return writeSettings(dir, npm, pip)
}

func writeSettings(dir, npm, pip string) (settings, error) {
	return settings{dir: dir, key: npm + pip}, errors.Join(
		os.WriteFile(filepath.Join(dir, "npmrc"), []byte(npm), 0o644),    //nolint:gosec // goes into images
		os.WriteFile(filepath.Join(dir, "pip.conf"), []byte(pip), 0o644)) //nolint:gosec // goes into images
}

func setting(key, address string) string {
	address = strings.TrimSpace(address)
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.User != nil {
		return ""
	}
	return key + address + "\n"
}
