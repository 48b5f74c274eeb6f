package enginetest

import (
	"context"
	"io"
	"log"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/bases"
	"github.com/towline/towline/internal/imagetest"
)

// serveBases makes the base images that the cache lacks and serves them all as a
// registry that stands in for Docker Hub.
func (e *engine) serveBases(ctx context.Context) error {
	host, _, err := serve(e.gateway, func(string) http.Handler {
		return registry.New(
			registry.WithBlobHandler(registry.NewDiskBlobHandler(filepath.Join(e.cache, "blobs"))),
			registry.Logger(log.New(io.Discard, "", 0)))
	})
	if err != nil {
		return err
	}
	e.mirror = host
	return e.bases().Plain(ctx)
}

func (e *engine) bases() *bases.Store {
	return &bases.Store{
		Cache: e.cache, Root: filepath.Join("..", ".."), Mirror: e.mirror,
		Push: func(ctx context.Context, repository string, img v1.Image) error {
			ref, err := name.ParseReference(e.mirror+"/"+repository, name.Insecure)
			if err != nil {
				return err
			}
			return remote.Write(ref, img, remote.WithContext(ctx))
		},
	}
}

// The base images are what the other engine tests stand on: a mistake in them would
// look like a mistake of a builder.
func TestBases(t *testing.T) {
	t.Parallel()
	e := requireEngine(t)
	for _, repository := range []string{"library/busybox:1", "library/maven:3-eclipse-temurin-17", "library/eclipse-temurin:17-jre"} {
		ref, err := name.ParseReference(e.mirror+"/"+repository, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref, remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		files, err := imagetest.Flatten(img)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"bin/sh", "etc/passwd"} {
			if files[want] == nil && files["usr/"+want] == nil {
				t.Errorf("%s: no %s", repository, want)
			}
		}
		if files["etc/removed"] != nil || files["var/old/removed"] != nil {
			t.Errorf("%s: a whiteout has no effect", repository)
		}
	}
}
