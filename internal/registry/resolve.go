package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/internal/problem"
)

// maxConfig bounds an image config. Real ones have a few KiB.
const maxConfig = 16 << 20

// Image is an image in a registry, for one platform.
type Image struct {
	// Ref is the whole name: "docker.io/library/alpine:3.20". A mirror does
	// not show in it.
	Ref string
	// Digest is that of the index or manifest which the tag names, for pinning.
	Digest v1.Hash
	// Config is the image config as it is stored.
	Config []byte
	// Image is the manifest for the platform. Its layers are fetched when read.
	Image v1.Image
}

// resolution is one answer of Resolve, kept. The mutex is held meanwhile.
type resolution struct {
	mu    sync.Mutex
	image *Image
}

// Resolve finds the image that ref names for platform; an empty platform is
// this machine's with Linux. Short names are Docker Hub's. A tag is looked up
// once in a client's life. Errors are *problem.Error; one for a platform that
// the image lacks lists those which it has.
//
// ctx ends the lookup only: layers may be read after it. Fetch takes its own.
func (c *Client) Resolve(ctx context.Context, ref string, platform v1.Platform) (*Image, error) {
	if platform.OS == "" {
		platform.OS = "linux"
	}
	if platform.Architecture == "" {
		platform.Architecture = runtime.GOARCH
	}
	parsed, err := c.parse(ctx, ref)
	if err != nil {
		return nil, err
	}
	key := parsed.Name() + " " + platform.String()
	c.mu.Lock()
	entry, ok := c.resolved[key]
	if !ok {
		entry = &resolution{}
		c.resolved[key] = entry
	}
	c.mu.Unlock()

	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.image != nil {
		return entry.image, nil
	}
	image, err := c.resolve(ctx, parsed, platform)
	if err != nil {
		return nil, err
	}
	entry.image = image
	c.mu.Lock()
	pinned := parsed.Context().Digest(image.Digest.String()).Name() + " " + platform.String()
	if _, ok := c.resolved[pinned]; !ok {
		c.resolved[pinned] = &resolution{image: &Image{
			Ref:    displayName(parsed.Context()) + "@" + image.Digest.String(),
			Digest: image.Digest, Config: image.Config, Image: image.Image,
		}}
	}
	c.mu.Unlock()
	return image, nil
}

// parse reads a reference, with the scheme that its registry speaks.
func (c *Client) parse(ctx context.Context, ref string) (name.Reference, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, &problem.Error{Op: fmt.Sprintf("read image name %q", ref), Err: err, Fix: "Write it as [HOST/]REPOSITORY[:TAG][@DIGEST], in lower case."}
	}
	plainHTTP, err := c.login(ctx, parsed.Context().RegistryStr())
	if err != nil {
		return nil, err
	}
	if plainHTTP {
		return name.ParseReference(ref, name.Insecure)
	}
	return parsed, nil
}

// displayName is repo as people write it: docker.io, not index.docker.io.
func displayName(repo name.Repository) string {
	if repo.RegistryStr() == name.DefaultRegistry {
		return "docker.io/" + repo.RepositoryStr()
	}
	return repo.Name()
}

// display is ref as people write it.
func display(ref name.Reference) string {
	if _, ok := ref.(name.Digest); ok {
		return displayName(ref.Context()) + "@" + ref.Identifier()
	}
	return displayName(ref.Context()) + ":" + ref.Identifier()
}

// candidates are the names to ask for ref: the mirror's, then its own.
func (c *Client) candidates(ctx context.Context, ref name.Reference) ([]name.Reference, error) {
	mirror, ok := c.mirrors[ref.Context().RegistryStr()]
	if !ok {
		return []name.Reference{ref}, nil
	}
	separator := ":"
	if _, isDigest := ref.(name.Digest); isDigest {
		separator = "@"
	}
	mirror = strings.TrimSuffix(mirror, "/") + "/" + ref.Context().RepositoryStr() + separator + ref.Identifier()
	mirrored, err := c.parse(ctx, mirror)
	if err != nil {
		return nil, err
	}
	return []name.Reference{mirrored, ref}, nil
}

func (c *Client) resolve(ctx context.Context, ref name.Reference, platform v1.Platform) (*Image, error) {
	refs, err := c.candidates(ctx, ref)
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, candidate := range refs {
		image, resolveErr := c.resolveAt(ctx, candidate, refs[i+1:], platform)
		if resolveErr == nil {
			image.Ref = display(ref)
			return image, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failed = append(failed, explain(resolveErr, "pull image "+display(ref), candidate.Context()))
	}
	// The registry's own answer counts; the mirror's is a remark to it.
	err = failed[len(failed)-1]
	if known, ok := errors.AsType[*problem.Error](err); ok && len(failed) > 1 {
		known.Detail = append(known.Detail, "The mirror said: "+failed[0].Error())
	}
	return nil, err
}

// resolveAt resolves ref where it points. others are further names of the
// same image, from whose repositories a layer may come.
func (c *Client) resolveAt(ctx context.Context, ref name.Reference, others []name.Reference, platform v1.Platform) (*Image, error) {
	got, err := c.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	top := got.Digest
	for depth := 0; got.MediaType.IsIndex(); depth++ {
		if depth == 4 {
			return nil, fmt.Errorf("index %s: indexes are nested too deep", got.Digest)
		}
		desc, choiceErr := choose(got.Manifest, platform)
		if choiceErr != nil {
			return nil, choiceErr
		}
		if got, err = c.get(ctx, ref.Context().Digest(desc.Digest.String())); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
	}
	image, err := c.imageOf(ctx, ref, others, got)
	if err != nil {
		return nil, err
	}
	return &Image{Digest: top, Config: image.core.config, Image: image}, nil
}

// imageOf is the image whose manifest was got from where ref points.
func (c *Client) imageOf(ctx context.Context, ref name.Reference, others []name.Reference, got *remote.Descriptor) (*mountable, error) {
	if got.MediaType.IsSchema1() {
		return nil, &problem.Error{
			Op: "pull image " + display(ref), Err: errors.New("its manifest is of Docker's schema 1, which is no longer in use"),
			Fix: "Push the image anew with a current tool.",
		}
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", got.Digest, err)
	}
	core := &pulled{
		client: c, manifest: got.Manifest, media: got.MediaType, parsed: manifest,
		refs:   []name.Digest{ref.Context().Digest(got.Digest.String())},
		detach: func() context.Context { return context.WithoutCancel(ctx) },
	}
	for _, other := range others {
		core.refs = append(core.refs, other.Context().Digest(got.Digest.String()))
	}
	if core.config, err = c.config(ctx, ref.Context(), manifest); err != nil {
		return nil, fmt.Errorf("config %s: %w", manifest.Config.Digest, err)
	}
	full, err := partial.CompressedToImage(core)
	if err != nil {
		return nil, err
	}
	return &mountable{Image: full, core: core, origin: core.refs[0]}, nil
}

// get fetches a manifest or index.
func (c *Client) get(ctx context.Context, ref name.Reference) (got *remote.Descriptor, err error) {
	err = try(ctx, func(ctx context.Context) error {
		got, err = c.puller.Get(ctx, ref)
		return err
	})
	return got, err
}

// config fetches the image config, or takes it from the manifest.
func (c *Client) config(ctx context.Context, repo name.Repository, manifest *v1.Manifest) (config []byte, err error) {
	desc := manifest.Config
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("it has %d bytes, more than %d", desc.Size, maxConfig)
	}
	if desc.Data != nil {
		if got, _, hashErr := v1.SHA256(bytes.NewReader(desc.Data)); hashErr == nil && got == desc.Digest {
			return desc.Data, nil
		}
	}
	err = try(ctx, func(ctx context.Context) error {
		blob, openErr := c.blob(ctx, repo, desc)
		if openErr != nil {
			return openErr
		}
		defer func() { _ = blob.Close() }()
		config, openErr = io.ReadAll(io.LimitReader(blob, maxConfig))
		return openErr
	})
	return config, err
}

// choose picks the entry of an index that runs on platform best, by the rules
// of containerd: arm/v7 runs on arm64, amd64 on amd64/v3.
func choose(index []byte, platform v1.Platform) (v1.Descriptor, error) {
	parsed, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return v1.Descriptor{}, err
	}
	matcher := platforms.Only(spec(platform))
	var fitting []v1.Descriptor
	var offered []string
	for _, desc := range parsed.Manifests {
		if !desc.MediaType.IsImage() && !desc.MediaType.IsIndex() {
			continue
		}
		if desc.Platform == nil {
			// Nobody says what it is for: the only choice, or none.
			if len(parsed.Manifests) == 1 {
				return desc, nil
			}
			continue
		}
		if desc.Platform.OS == "unknown" { // an attestation
			continue
		}
		offered = append(offered, platforms.Format(spec(*desc.Platform)))
		if matcher.Match(spec(*desc.Platform)) {
			fitting = append(fitting, desc)
		}
	}
	if len(fitting) == 0 {
		slices.Sort(offered)
		return v1.Descriptor{}, &missingPlatformError{want: platforms.Format(spec(platform)), have: slices.Compact(offered)}
	}
	slices.SortStableFunc(fitting, func(a, b v1.Descriptor) int {
		switch {
		case matcher.Less(spec(*a.Platform), spec(*b.Platform)):
			return -1
		case matcher.Less(spec(*b.Platform), spec(*a.Platform)):
			return 1
		}
		return 0
	})
	return fitting[0], nil
}

func spec(p v1.Platform) ocispec.Platform {
	return platforms.Normalize(ocispec.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	})
}

// missingPlatformError says that an index has nothing for a platform.
type missingPlatformError struct {
	want string
	have []string
}

// Error implements error.
func (e *missingPlatformError) Error() string {
	if len(e.have) == 0 {
		return fmt.Sprintf("there is no image for %s in the index, nor for any other platform", e.want)
	}
	return fmt.Sprintf("there is no image for %s; the index has %s", e.want, strings.Join(e.have, ", "))
}

// isStatus says whether a registry answered with status.
func isStatus(err error, status int) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == status
}

// head gives the digest that ref has in its registry, or nil.
func (c *Client) head(ctx context.Context, ref name.Reference) (found *v1.Hash, err error) {
	err = try(ctx, func(ctx context.Context) error {
		desc, headErr := c.puller.Head(ctx, ref)
		if headErr == nil {
			found = &desc.Digest
		}
		return headErr
	})
	// Registries hide what one may not read behind 403, and a role that may
	// only push has no right to look: the PUT will tell.
	if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusForbidden) {
		return nil, nil
	}
	return found, err
}
