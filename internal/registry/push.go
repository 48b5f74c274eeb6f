package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/problem"
)

// Pushed says what a push did.
type Pushed struct {
	// Digest is the manifest's.
	Digest v1.Hash
	// Size is that of config and layers in bytes, compressed.
	Size int64
	// Tags are the full references in the order given, without doubles.
	Tags []Tag
}

// Tag is one tag that names the image now.
type Tag struct {
	// Ref is HOST/NAME:TAG, Repository is HOST/NAME.
	Ref, Repository string
	// Existed: the tag named the image before.
	Existed bool
}

// Content is what can be pushed: a v1.Image or a v1.ImageIndex.
type Content interface {
	Digest() (v1.Hash, error)
	MediaType() (types.MediaType, error)
	RawManifest() ([]byte, error)
}

// Push puts content under every reference: blobs that a repository lacks, the
// manifests by digest (those that an index names before the index), then the
// tags. What is there already is left alone. A tag that is immutable and names
// another image is a *problem.Error of input "tags". References without a tag
// get "latest".
func (c *Client) Push(ctx context.Context, content Content, refs []string) (*Pushed, error) {
	tags, err := c.parseTags(ctx, refs)
	if err != nil {
		return nil, err
	}
	pushed, err := measure(content)
	if err != nil {
		return nil, err
	}
	var done []name.Repository
	for _, tag := range tags {
		if !slices.Contains(done, tag.Context()) {
			same := slices.DeleteFunc(slices.Clone(tags), func(t name.Tag) bool { return t.Context() != tag.Context() })
			if err := c.checkMutable(ctx, pushed.Digest, same); err != nil {
				return nil, err
			}
			if err := c.pushContent(ctx, content, tag.Context(), done); err != nil {
				return nil, err
			}
			done = append(done, tag.Context())
		}
		existed, err := c.pushTag(ctx, content, pushed.Digest, tag)
		if err != nil {
			return nil, err
		}
		pushed.Tags = append(pushed.Tags, Tag{Ref: display(tag), Repository: displayName(tag.Context()), Existed: existed})
	}
	return pushed, nil
}

// PushUntagged puts content into repositories (HOST/NAME) by its digest alone,
// for others to name it: Pushed has no tags.
func (c *Client) PushUntagged(ctx context.Context, content Content, repositories []string) (*Pushed, error) {
	pushed, err := measure(content)
	if err != nil {
		return nil, err
	}
	var done []name.Repository
	for _, repository := range repositories {
		parsed, err := c.parse(ctx, repository)
		if err != nil {
			return nil, err
		}
		if slices.Contains(done, parsed.Context()) {
			continue
		}
		if err := c.pushContent(ctx, content, parsed.Context(), done); err != nil {
			return nil, err
		}
		done = append(done, parsed.Context())
	}
	return pushed, nil
}

// measure is a Pushed before anything was pushed.
func measure(content Content) (*Pushed, error) {
	digest, err := content.Digest()
	if err != nil {
		return nil, fmt.Errorf("image to push: %w", err)
	}
	pushed := &Pushed{Digest: digest}
	if pushed.Size, err = contentSize(content); err != nil {
		return nil, fmt.Errorf("image %s: %w", digest, err)
	}
	return pushed, nil
}

func (c *Client) parseTags(ctx context.Context, refs []string) ([]name.Tag, error) {
	var tags []name.Tag
	for _, ref := range refs {
		parsed, err := c.parse(ctx, ref)
		if known, ok := errors.AsType[*problem.Error](err); ok {
			known.Input = cmp.Or(known.Input, "tags")
		}
		if err != nil {
			return nil, err
		}
		tag, ok := parsed.(name.Tag)
		if !ok {
			return nil, &problem.Error{
				Op: "push image", Input: "tags", Value: ref,
				Err: errors.New("an image is pushed under tags, not under a digest"), Fix: "Leave the digest out.",
			}
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return nil, &problem.Error{Op: "push image", Input: "tags", Err: errors.New("there is no tag to push to")}
	}
	return tags, nil
}

// contentSize adds up configs and layers.
func contentSize(content Content) (size int64, err error) {
	if index, ok := content.(v1.ImageIndex); ok {
		err = eachChild(index, func(child Content) error {
			n, childErr := contentSize(child)
			size += n
			return childErr
		})
		return size, err
	}
	raw, err := content.RawManifest()
	if err != nil {
		return 0, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	size = manifest.Config.Size
	for _, desc := range manifest.Layers {
		size += desc.Size
	}
	return size, nil
}

// eachChild visits what an index names, in its order.
func eachChild(index v1.ImageIndex, visit func(Content) error) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, desc := range manifest.Manifests {
		var child Content
		if desc.MediaType.IsIndex() {
			child, err = index.ImageIndex(desc.Digest)
		} else {
			child, err = index.Image(desc.Digest)
		}
		if err != nil {
			return err
		}
		if err := visit(child); err != nil {
			return err
		}
	}
	return nil
}

// checkMutable refuses before anything is uploaded what ECR would refuse in
// the end: moving an immutable tag. tags are all of one repository.
func (c *Client) checkMutable(ctx context.Context, digest v1.Hash, tags []name.Tag) error {
	repo := tags[0].Context()
	login := c.logins.known(repo.RegistryStr())
	if !login.ecr || c.opts.ECR == nil {
		return nil
	}
	c.mu.Lock()
	settings := c.settings[displayName(repo)]
	c.mu.Unlock()
	for _, tag := range tags {
		have, err := c.head(ctx, tag)
		if err != nil {
			return explain(err, "push image", repo)
		}
		if have == nil || *have == digest {
			continue
		}
		if settings == nil {
			settings = c.Targets(ctx, []string{displayName(repo)})[0].Settings
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if settings == nil {
				return nil // a role need not be able to describe: the PUT will tell
			}
		}
		if settings.Immutable(tag.TagStr()) {
			return immutableTag(tag, *have, digest, errors.New("the repository's tags are immutable"))
		}
	}
	return nil
}

func immutableTag(tag name.Tag, have, want v1.Hash, err error) *problem.Error {
	return &problem.Error{
		Op: "push tag", Input: "tags", Value: display(tag),
		Err: fmt.Errorf("the tag names %s already and cannot be moved to %s: %w", have, want, err),
		Fix: fixImmutable,
	}
}

const fixImmutable = "Use a tag that is new for each image, such as the commit's SHA, or make this tag mutable in the repository's settings."

// pushContent puts content into repo by its digest, all that it names first.
// Blobs may be mounted from the repositories of the same registry in done, which
// have them all.
func (c *Client) pushContent(ctx context.Context, content Content, repo name.Repository, done []name.Repository) error {
	digest, err := content.Digest()
	if err != nil {
		return err
	}
	object := "manifest " + digest.String()
	if _, ok := content.(v1.ImageIndex); ok {
		object = "index " + digest.String()
	}
	ref := repo.Digest(digest.String())
	start := time.Now()
	have, err := c.head(ctx, ref)
	if err != nil {
		return explain(fmt.Errorf("%s: %w", object, err), "push image", repo)
	}
	manifest, err := content.RawManifest()
	if err != nil {
		return err
	}
	event := Event{Kind: KindExists, Object: object, Repository: displayName(repo), Size: int64(len(manifest))}
	if have != nil {
		// It was only accepted when all that it names was there.
		c.opts.Events(event)
		return nil
	}
	if err := c.pushParts(ctx, content, repo, done); err != nil {
		return err
	}
	if err := try(ctx, func(ctx context.Context) error { return c.pusher.Put(ctx, ref, content) }); err != nil {
		return explain(fmt.Errorf("%s: %w", object, err), "push image", repo)
	}
	event.Kind, event.Duration = KindPushed, time.Since(start)
	c.opts.Events(event)
	return nil
}

// pushParts pushes what content names: an image's blobs, an index's manifests.
func (c *Client) pushParts(ctx context.Context, content Content, repo name.Repository, done []name.Repository) error {
	switch content := content.(type) {
	case v1.ImageIndex:
		return eachChild(content, func(child Content) error { return c.pushContent(ctx, child, repo, done) })
	case v1.Image:
		return c.pushBlobs(ctx, content, repo, done)
	}
	return fmt.Errorf("%T is neither an image nor an index", content)
}

// pushBlobs puts layers and config into repo, several at once. They are told in
// their order, each as soon as those before it are done.
func (c *Client) pushBlobs(ctx context.Context, img v1.Image, repo name.Repository, done []name.Repository) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return err
	}
	blobs := append(slices.Clone(layers), config)
	told := make([]chan *Event, len(blobs))
	for i := range told {
		told[i] = make(chan *Event, 1)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Jobs + 1)
	group.Go(func() error {
		for _, each := range told {
			select {
			case event := <-each:
				if event != nil {
					c.opts.Events(*event)
				}
			case <-ctx.Done():
				return nil // the upload that failed says why
			}
		}
		return nil
	})
	for i, l := range blobs {
		what := "layer"
		if i == len(layers) {
			what = "config"
		}
		group.Go(func() error {
			event, err := c.upload(ctx, repo, what, l, done)
			told[i] <- event
			return err
		})
	}
	return group.Wait()
}

// Upload puts one layer into repository (HOST/NAME), so that it need not wait
// for the image that it is part of. A layer that is there, or can be mounted,
// is not uploaded. What was done is told by the Push that finds the layer there.
func (c *Client) Upload(ctx context.Context, repository string, l v1.Layer) error {
	parsed, err := c.parse(ctx, repository)
	if err != nil {
		return err
	}
	event, err := c.put(ctx, parsed.Context(), "layer", l, nil)
	if err != nil || event == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.early[event.Repository+" "+event.Object] = *event
	return nil
}

// upload puts a blob into repo, and gives what there is to tell of it.
func (c *Client) upload(ctx context.Context, repo name.Repository, what string, l v1.Layer, done []name.Repository) (*Event, error) {
	event, err := c.put(ctx, repo, what, l, done)
	if err != nil || event == nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if early, ok := c.early[event.Repository+" "+event.Object]; ok && event.Kind == KindExists {
		event = &early
	}
	return event, nil
}

// put puts a blob into repo. There is no event for a blob that is never uploaded.
func (c *Client) put(ctx context.Context, repo name.Repository, what string, l v1.Layer, done []name.Repository) (*Event, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	object := what + " " + digest.String()
	size, err := l.Size()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	media, err := l.MediaType()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	if what == "layer" && !media.IsDistributable() {
		return nil, nil //nolint:nilnil // a foreign layer: it is only named, never uploaded
	}
	l = c.withOrigin(bind(ctx, l), digest, repo, done)
	start := time.Now()
	event := Event{Kind: KindPushed, Object: object, Repository: displayName(repo), Size: size}
	err = try(ctx, func(ctx context.Context) error {
		if uploadErr := c.pusher.Upload(ctx, repo, l); uploadErr != nil {
			return uploadErr
		}
		seen, _ := ctx.Value(sightKey{}).(*sight)
		seen.mu.Lock()
		defer seen.mu.Unlock()
		switch {
		case seen.mounted:
			event.Kind = KindMounted
		case seen.exists, !seen.any:
			event.Kind = KindExists // or uploaded by this client before
		}
		return nil
	})
	if err != nil {
		return nil, explain(fmt.Errorf("%s: %w", object, err), "push image", repo)
	}
	event.Duration = time.Since(start)
	return &event, nil
}

// withOrigin says where on repo's registry the layer can be mounted from: where
// it was pulled, or a repository to which the image has just been pushed.
// Elsewhere the registry cannot look, and is not asked to.
func (c *Client) withOrigin(l v1.Layer, digest v1.Hash, repo name.Repository, done []name.Repository) v1.Layer {
	if m, ok := l.(*remote.MountableLayer); ok {
		if from := m.Reference.Context(); from.RegistryStr() == repo.RegistryStr() && from != repo {
			return m
		}
		l = m.Layer
	}
	for _, from := range done {
		if from.RegistryStr() == repo.RegistryStr() {
			return &remote.MountableLayer{Layer: l, Reference: from.Digest(digest.String())}
		}
	}
	return l
}

// pushTag points tag at the manifest, which is in the repository.
func (c *Client) pushTag(ctx context.Context, content Content, digest v1.Hash, tag name.Tag) (existed bool, err error) {
	start := time.Now()
	event := Event{Kind: KindExists, Object: "tag " + display(tag), Repository: displayName(tag.Context())}
	have, err := c.head(ctx, tag)
	if err != nil {
		return false, explain(fmt.Errorf("tag %s: %w", tag.TagStr(), err), "push image", tag.Context())
	}
	if have != nil && *have == digest {
		c.opts.Events(event)
		return true, nil
	}
	err = try(ctx, func(ctx context.Context) error { return c.pusher.Put(ctx, tag, content) })
	if err != nil && isImmutable(err) {
		// Somebody may have been quicker with the same image.
		now, headErr := c.head(ctx, tag)
		if headErr == nil && now != nil && *now == digest {
			c.opts.Events(event)
			return true, nil
		}
		if headErr == nil && now != nil {
			return false, immutableTag(tag, *now, digest, err)
		}
	}
	if err != nil {
		return false, explain(fmt.Errorf("tag %s: %w", tag.TagStr(), err), "push image", tag.Context())
	}
	event.Kind, event.Duration = KindPushed, time.Since(start)
	c.opts.Events(event)
	return false, nil
}
