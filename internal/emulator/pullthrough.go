package emulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// PullThrough is a rule of a pull-through cache: images below a prefix come from
// another registry when they are pulled for the first time.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
type PullThrough struct {
	// Account and Region are where the cache is. Default: those of the cloud.
	Account, Region string
	// Prefix is what the cached repositories are below: docker-hub.
	Prefix string
	// Upstream is the host of the registry that images come from.
	Upstream string
	// Transport reaches it.
	Transport http.RoundTripper
}

// AddPullThrough adds a rule.
func (c *Cloud) AddPullThrough(rule PullThrough) {
	if rule.Account == "" {
		rule.Account = c.opts.Account
	}
	if rule.Region == "" {
		rule.Region = c.opts.Region
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caches = append(c.caches, rule)
}

// imported is an image of the registry upstream, with all that it names.
type imported struct {
	// manifests are in the order in which they can be stored.
	manifests []*remote.Descriptor
	blobs     map[string][]byte
}

// pullThrough imports the image that a request asks for, if a rule is about its
// repository and it is not there yet. Nil: there is nothing to import.
func (c *Cloud) pullThrough(r *http.Request, who *principal, at home, o object) (*repository, error) {
	if o.kind != "manifest" || r.Method == http.MethodPut || at.public {
		return nil, nil //nolint:nilnil // nothing to import
	}
	c.mu.Lock()
	rule := c.ruleFor(at, o.repo)
	repo := c.reg.repos[repositoryKey{at, o.repo}]
	var denied error
	if rule != nil && repo == nil {
		denied = c.mayAt(who, at, o.repo, "ecr:CreateRepository")
	}
	if rule != nil && denied == nil && !repo.holds(o.ref) {
		denied = c.mayAt(who, at, o.repo, "ecr:BatchImportUpstreamImage")
	}
	c.mu.Unlock()
	if rule == nil || denied != nil || repo.holds(o.ref) {
		return nil, denied
	}
	image, err := rule.fetch(r.Context(), strings.TrimPrefix(o.repo, rule.Prefix+"/"), o.ref)
	if err != nil {
		return nil, rule.refusal(err, at, o)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if repo = c.reg.repos[repositoryKey{at, o.repo}]; repo == nil {
		repo = c.reg.add(at, Repository{Name: o.repo}, time.Now())
	}
	return repo, c.keep(repo, o.ref, image)
}

func (c *Cloud) ruleFor(at home, repository string) *PullThrough {
	for i, rule := range c.caches {
		if rule.Account == at.account && rule.Region == at.region && strings.HasPrefix(repository, rule.Prefix+"/") {
			return &c.caches[i]
		}
	}
	return nil
}

// holds says whether a tag or digest is there.
func (r *repository) holds(ref string) bool {
	if r == nil {
		return false
	}
	id := imageID{ImageTag: ref}
	if validDigest(ref) {
		id = imageID{ImageDigest: ref}
	}
	_, img := r.find(id)
	return img != nil
}

// refusal is what ECR says when the registry upstream gives nothing.
func (p *PullThrough) refusal(err error, at home, o object) error {
	answer, isAnswer := errors.AsType[*transport.Error](err)
	switch {
	case isAnswer && answer.StatusCode == http.StatusNotFound:
		return noRepository(at, o.repo)
	case isAnswer && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return &Error{Code: "DENIED", Status: http.StatusForbidden, Message: "The authentication to the upstream registry failed. Verify that the credentials are valid"} // assumed
	}
	return err
}

// fetch reads an image with all that it names.
func (p *PullThrough) fetch(ctx context.Context, repository, ref string) (*imported, error) {
	separator := ":"
	if validDigest(ref) {
		separator = "@"
	}
	parsed, err := name.ParseReference(p.Upstream + "/" + repository + separator + ref)
	if err != nil {
		return nil, err
	}
	image := &imported{blobs: map[string][]byte{}}
	return image, image.add(parsed, remote.WithTransport(p.Transport), remote.WithContext(ctx), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
}

func (i *imported) add(ref name.Reference, opts ...remote.Option) error {
	found, err := remote.Get(ref, opts...)
	if err != nil {
		return err
	}
	if found.MediaType.IsIndex() {
		err = i.addIndex(ref.Context(), found, opts)
	} else {
		err = i.addImage(found)
	}
	i.manifests = append(i.manifests, found)
	return err
}

func (i *imported) addIndex(repository name.Repository, found *remote.Descriptor, opts []remote.Option) error {
	list, err := v1.ParseIndexManifest(bytes.NewReader(found.Manifest))
	if err != nil {
		return err
	}
	for _, child := range list.Manifests {
		if err := i.add(repository.Digest(child.Digest.String()), opts...); err != nil {
			return err
		}
	}
	return nil
}

func (i *imported) addImage(found *remote.Descriptor) error {
	img, err := found.Image()
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, part := range append([]v1.Descriptor{manifest.Config}, manifest.Layers...) {
		layer, err := img.LayerByDigest(part.Digest)
		if err != nil {
			return err
		}
		content, err := layer.Compressed()
		if err != nil {
			return err
		}
		i.blobs[part.Digest.String()], err = io.ReadAll(content)
		if err = errors.Join(err, content.Close()); err != nil {
			return err
		}
	}
	return nil
}

// keep stores what was imported. c.mu is held.
func (c *Cloud) keep(repo *repository, ref string, image *imported) error {
	for digest, content := range image.blobs {
		blob, err := c.reg.blobs.create()
		if err != nil {
			return err
		}
		if _, err := blob.Write(content); err != nil {
			blob.discard()
			return err
		}
		if err := blob.keep(digest); err != nil {
			return err
		}
		repo.blobs[digest] = int64(len(content))
	}
	for i, manifest := range image.manifests {
		targets := []string{manifest.Digest.String()}
		if i == len(image.manifests)-1 && !validDigest(ref) {
			targets = append(targets, ref)
		}
		for _, target := range targets {
			if _, err := c.storeManifest(repo, target, string(manifest.MediaType), manifest.Manifest, time.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}
