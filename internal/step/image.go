package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/registry"
	"github.com/towline/towline/internal/taskdef"
)

// product is the image that is pushed and deployed: one that was built, or an
// index of images that others have pushed.
type product struct {
	content    registry.Content
	descriptor v1.Descriptor
	// config is the digest of the only image's configuration; an index has none.
	config string
	// platforms are those that it can run on.
	platforms []v1.Platform
}

// imageID is the configuration's digest, or the index's, as docker build has it.
func (p *product) imageID() string {
	if p.config == "" {
		return p.descriptor.Digest.String()
	}
	return p.config
}

// finishBuild tells what was built, and keeps it to be pushed.
func (s *Step) finishBuild() error {
	content, err := s.built.Content(manifests(s.settings.Build.Manifests))
	if err != nil {
		return err
	}
	s.product = &product{descriptor: content.Descriptor}
	for _, image := range content.Images {
		digest, err := image.Digest()
		if err != nil {
			return fmt.Errorf("image: %w", err)
		}
		config, err := image.ConfigName()
		if err != nil {
			return fmt.Errorf("image: %w", err)
		}
		layers, err := image.Layers()
		if err != nil {
			return fmt.Errorf("image: %w", err)
		}
		platform := ""
		if len(content.Images) > 1 {
			platform = image.Platform.String()
		}
		size := imageSize(layers)
		s.report.Say("built", "image "+digest.String(), plural(len(layers), "layer"), size, platform)
		s.report.Fact("Size", size)
		s.product.content, s.product.config = image, config.String()
		s.product.platforms = append(s.product.platforms, image.Platform)
	}
	if content.Index != nil {
		s.product.content, s.product.config = content.Index, ""
		s.report.Say("built", "index "+content.Descriptor.Digest.String(), plural(len(content.Images), "platform"), s.attached())
	}
	return s.describeProduct()
}

// attached names the attestations of the product.
func (s *Step) attached() string {
	var kinds []string
	if s.settings.Build.Attestations.SBOM {
		kinds = append(kinds, "SBOM")
	}
	if s.settings.Build.Attestations.Provenance != "" {
		kinds = append(kinds, "provenance")
	}
	return strings.Join(kinds, " and ")
}

// imageSize is what an image's layers have together, compressed.
func imageSize(layers []v1.Layer) string {
	var sum int64
	for _, l := range layers {
		if size, err := l.Size(); err == nil {
			sum += size
		}
	}
	return fmt.Sprintf("%.1f MB", float64(sum)/1e6)
}

// names are the product's references: those that it is pushed to, or its tags.
func (s *Step) names() []string {
	if names := distinct(slices.Concat(s.refs, s.repositories)); len(names) > 0 {
		return names
	}
	var names []string
	for _, tag := range s.settings.Build.Tags {
		full := tag.String()
		if rest, hub := strings.CutPrefix(full, name.DefaultRegistry+"/"); hub {
			full = "docker.io/" + rest // as people, and docker build, write it
		}
		names = append(names, full)
	}
	return names
}

// describeProduct tells the digests of the product.
func (s *Step) describeProduct() error {
	p := s.product
	digest := p.descriptor.Digest.String()
	metadata := map[string]any{"containerimage.digest": digest, "containerimage.descriptor": p.descriptor}
	if p.config != "" {
		metadata["containerimage.config.digest"] = p.config
	}
	if names := s.names(); len(names) > 0 {
		metadata["image.name"] = strings.Join(names, ",")
	}
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	// For programs: it says nothing to people that the other outputs do not.
	if err := s.runner.SetOutput(inputs.OutputMetadata, string(encoded)); err != nil {
		return fmt.Errorf("output %s: %w", inputs.OutputMetadata, err)
	}
	s.report.Fact("Digest", digest)
	return s.output(map[string]string{inputs.OutputDigest: digest, inputs.OutputImageID: p.imageID()})
}

// export writes what was built into the workspace.
func (s *Step) export(ctx context.Context) error {
	for _, e := range s.settings.Build.Exports {
		names := e.Names
		if len(names) == 0 {
			names = s.names()
		}
		err := s.built.Export(ctx, build.Export{
			Type: e.Type, Dest: e.Dest, Folder: e.Folder, Names: names, Manifests: manifests(e.Manifests),
		})
		if known, ok := errors.AsType[*problem.Error](err); ok && known.Value == e.Dest {
			known.Value, known.Err = s.relative(e.Dest), unpathed(known.Err)
		}
		if err != nil {
			return err
		}
		size := ""
		if info, err := os.Stat(e.Dest); err == nil && info.Mode().IsRegular() {
			size = fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)
		}
		s.report.Say("exported", e.Type, s.relative(e.Dest), size)
	}
	return nil
}

// manifests is what the inputs say of manifests, in the words of a build.
func manifests(m inputs.Manifests) build.ManifestOptions {
	o := build.ManifestOptions{DockerTypes: m.DockerTypes}
	for _, a := range m.Annotations {
		o.Annotations = append(o.Annotations, build.Annotation{Place: a.Place, Platform: a.Platform, Key: a.Key, Value: a.Value})
	}
	return o
}

// merge reads the images that others have pushed, which become one index. uris
// are the repositories' by their names.
func (s *Step) merge(ctx context.Context, uris map[string]string) error {
	var refs []string
	for _, d := range s.settings.Build.MergeDigests {
		refs = append(refs, uris[d.Repository.String()]+"@"+d.Digest)
	}
	annotations := map[string]string{}
	for _, a := range s.settings.Build.Annotations {
		annotations[a.Key] = a.Value
	}
	index, parts, err := s.registry.Merge(ctx, refs, annotations)
	if err != nil {
		return err
	}
	s.product = &product{content: index}
	if s.product.descriptor, err = describeIndex(index); err != nil {
		return err
	}
	for _, p := range parts {
		s.product.platforms = append(s.product.platforms, p.Platform)
		s.merged = append(s.merged, p.Ref)
	}
	return nil
}

func describeIndex(index v1.ImageIndex) (v1.Descriptor, error) {
	digest, err := index.Digest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("index: %w", err)
	}
	size, err := index.Size()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("index: %w", err)
	}
	media, err := index.MediaType()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("index: %w", err)
	}
	return v1.Descriptor{MediaType: media, Digest: digest, Size: size}, nil
}

// push puts the product under its tags, or into its repositories without any.
func (s *Step) push(ctx context.Context) error {
	if s.settings.Merges() {
		if err := s.describeProduct(); err != nil {
			return err
		}
	}
	if s.settings.Build.PushByDigest {
		return s.pushUntagged(ctx)
	}
	pushed, err := s.registry.Push(ctx, s.product.content, s.refs)
	if err != nil {
		return err
	}
	refs := make([]string, len(pushed.Tags))
	for i, tag := range pushed.Tags {
		refs[i] = tag.Ref
	}
	return s.pushed(refs)
}

func (s *Step) pushUntagged(ctx context.Context) error {
	if _, err := s.registry.PushUntagged(ctx, s.product.content, s.repositories); err != nil {
		return err
	}
	return s.pushed(s.repositories)
}

// pushed tells where the product is. names are references without its digest.
func (s *Step) pushed(names []string) error {
	s.deployable = taskdef.ImageReference(names[0], "", s.product.descriptor.Digest.String())
	s.did("image %s was pushed, the service was not updated", s.deployable)
	s.report.Fact("Image", s.deployable)
	host, _, _ := strings.Cut(names[0], "/")
	if _, _, isECR := registry.ECRHost(host); isECR || host == inputs.PublicHost {
		if err := s.outputRegistry([]string{host}); err != nil {
			return err
		}
	}
	outputs := map[string]string{inputs.OutputImage: s.deployable}
	if !s.settings.Build.PushByDigest {
		outputs[inputs.OutputTags] = strings.Join(names, "\n")
	}
	return s.output(outputs)
}

// platforms is what to build for; Parse has checked it.
func platforms(names []string) []v1.Platform {
	var all []v1.Platform
	for _, name := range names {
		if p, err := v1.ParsePlatform(name); err == nil && p != nil {
			all = append(all, *p)
		}
	}
	return all
}

// distinct drops what stands in list before.
func distinct(list []string) []string {
	var out []string
	for _, each := range list {
		if !slices.Contains(out, each) {
			out = append(out, each)
		}
	}
	return out
}
