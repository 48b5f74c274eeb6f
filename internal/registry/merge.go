package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/problem"
)

// Part is one manifest of an index to be.
type Part struct {
	// Ref is HOST/NAME@DIGEST.
	Ref string
	// Platform is what its index, or else its config, says.
	Platform v1.Platform

	image       v1.Image
	annotations map[string]string
}

// attestation says whether the part describes another one, as BuildKit's
// provenance and SBOMs do, instead of being an image.
func (p *Part) attestation() bool { return p.Platform.OS == "unknown" }

// Merge makes one index of images that are in registries already, such as those
// that the runners of a matrix pushed by digest. An index among them is taken
// apart. Two images for one platform are a *problem.Error of input
// "merge-digests". Annotations are the index's own. Nothing is written: Push
// does that, and takes along what its repository lacks.
func (c *Client) Merge(ctx context.Context, refs []string, annotations map[string]string) (v1.ImageIndex, []*Part, error) {
	found := make([][]*Part, len(refs))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Jobs)
	for i, ref := range refs {
		group.Go(func() (err error) {
			found[i], err = c.parts(groupCtx, ref)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var parts []*Part
	known := map[string]string{}
	for _, each := range found {
		for _, p := range each {
			platform := p.Platform.String()
			if before, twice := known[platform]; twice && !p.attestation() {
				return nil, nil, &problem.Error{
					Op: "merge images", Input: "merge-digests", Value: p.Ref,
					Err: fmt.Errorf("it is for %s, as %s is", platform, before),
					Fix: "Give one digest for each platform.",
				}
			}
			known[platform] = p.Ref
			parts = append(parts, p)
		}
	}
	return indexOf(parts, annotations), parts, nil
}

func indexOf(parts []*Part, annotations map[string]string) v1.ImageIndex {
	var index v1.ImageIndex = empty.Index
	for _, p := range parts {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: bare{p.image}, Descriptor: v1.Descriptor{Platform: &p.Platform, Annotations: p.annotations},
		})
	}
	if len(annotations) > 0 {
		if annotated, ok := mutate.Annotations(index, annotations).(v1.ImageIndex); ok {
			return annotated
		}
	}
	return index
}

// bare is an image whose descriptor names no artifact type: for images the
// config's media type says it, and BuildKit writes none.
type bare struct{ v1.Image }

// ArtifactType hides what partial.Descriptor would make one of.
func (bare) ArtifactType() (string, error) { return "", nil }

// parts gives the manifest that ref names, or those that its index names.
func (c *Client) parts(ctx context.Context, ref string) ([]*Part, error) {
	parsed, err := c.parse(ctx, ref)
	if known, ok := errors.AsType[*problem.Error](err); ok {
		known.Input = "merge-digests"
	}
	if err != nil {
		return nil, err
	}
	failed := func(err error) error {
		err = explain(err, "pull image "+display(parsed), parsed.Context())
		if shared, ok := errors.AsType[*problem.Error](err); ok { // a refused login concerns several parts
			own := *shared
			known := &own
			err = known
			known.Input, known.Value = "merge-digests", display(parsed)
			if known.Fix == "Check the image's name and tag." {
				known.Fix = "Check that the job which built it has pushed it, and to this repository."
			}
		}
		return err
	}
	top, err := c.get(ctx, parsed)
	if err != nil {
		return nil, failed(err)
	}
	if !top.MediaType.IsIndex() {
		part, partErr := c.part(ctx, parsed, top, v1.Descriptor{})
		if partErr != nil {
			return nil, failed(partErr)
		}
		return []*Part{part}, nil
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(top.Manifest))
	if err != nil {
		return nil, failed(fmt.Errorf("index %s: %w", top.Digest, err))
	}
	var parts []*Part
	for _, desc := range index.Manifests {
		child := parsed.Context().Digest(desc.Digest.String())
		got, err := c.get(ctx, child)
		if err == nil && got.MediaType.IsIndex() {
			err = errors.New("an index in an index cannot be merged")
		}
		if err != nil {
			return nil, failed(fmt.Errorf("manifest %s: %w", desc.Digest, err))
		}
		part, err := c.part(ctx, child, got, desc)
		if err != nil {
			return nil, failed(err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// part is the image that got is, with the platform that desc or its config says.
func (c *Client) part(ctx context.Context, ref name.Reference, got *remote.Descriptor, desc v1.Descriptor) (*Part, error) {
	image, err := c.imageOf(ctx, ref, nil, got)
	if err != nil {
		return nil, err
	}
	p := &Part{Ref: displayName(ref.Context()) + "@" + got.Digest.String(), image: image, annotations: desc.Annotations}
	if desc.Platform != nil {
		p.Platform = *desc.Platform
		return p, nil
	}
	config, err := partial.ConfigFile(image)
	if err != nil {
		return nil, fmt.Errorf("config of %s: %w", got.Digest, err)
	}
	if config.Platform() == nil || config.OS == "" || config.Architecture == "" {
		return nil, fmt.Errorf("manifest %s: its config names no platform", got.Digest)
	}
	p.Platform = *config.Platform()
	return p, nil
}
