package rehearse

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/problem"
)

// theBase is the only image in the registry of base images.
const theBase = "library/rehearsal-base"

// serveBases is a registry in which every image is the same one.
func serveBases(dir string) (host string, stop func(), err error) {
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("registry: %w", err)
	}
	one := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)), registry.Logger(quiet()))
	host, stop, err = serve(everyImage(one))
	if err != nil {
		return "", nil, err
	}
	if err := pushBase(host + "/" + theBase + ":latest"); err != nil {
		stop()
		return "", nil, err
	}
	return host, stop, nil
}

// everyImage answers for all names and tags with the base. A digest is what it is:
// no other image can stand in for it.
func everyImage(one http.Handler) http.Handler {
	path := regexp.MustCompile(`^/v2/.+/(manifests|blobs)/([^/]+)$`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := path.FindStringSubmatch(r.URL.Path); m != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			if m[1] == "manifests" && !strings.Contains(m[2], ":") {
				m[2] = "latest"
			}
			r = r.Clone(r.Context())
			r.URL.Path = "/v2/" + theBase + "/" + m[1] + "/" + m[2]
		}
		one.ServeHTTP(w, r)
	})
}

// pushBase makes the base image from this machine's own shell, a few commands and
// their libraries, and pushes it to ref, for both of ECS's architectures. What is
// executed is this machine's in both.
func pushBase(ref string) error {
	content, err := baseContent()
	if err != nil {
		return &problem.Error{
			Op: "make a base image from this machine's shell", Err: err,
			Fix: "Install a shell and coreutils with their libraries in the usual folders (Debian: apt-get install dash coreutils sed), or rehearse a Dockerfile of your own without --offline: towline rehearse DIR.",
		}
	}
	var index v1.ImageIndex = empty.Index
	for _, architecture := range []string{"amd64", "arm64"} {
		image, imageErr := baseImage(content, architecture)
		if imageErr != nil {
			return fmt.Errorf("base image: %w", imageErr)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("base image: %w", err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		return fmt.Errorf("base image: %w", err)
	}
	return nil
}
