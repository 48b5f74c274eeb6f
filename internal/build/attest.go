package build

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/util/attestation"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sbom"
)

// Attestations says what is attached to the images. The zero value attaches nothing.
type Attestations struct {
	// Provenance is how much the SLSA provenance says; empty: there is none.
	Provenance ProvenanceMode
	// Version is that of the predicate, v0.2 or v1. Default: v1.
	Version string
	// BuilderID is a URI for who built it. Default: none.
	BuilderID string
	// Reproducible is what the provenance says of the build; nothing checks it.
	Reproducible bool
	// SBOM lists the packages of each image.
	SBOM bool
}

// ProvenanceMode is how much a provenance says.
type ProvenanceMode string

// The modes are those of docker build.
const (
	// ProvenanceMin names base images, the frontend, the target and the platform.
	ProvenanceMin ProvenanceMode = "min"
	// ProvenanceMax names build arguments, labels, the ids of secrets and ssh keys,
	// and holds the Dockerfile too.
	ProvenanceMax ProvenanceMode = "max"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	// statementMedia is in-toto's media type of a statement.
	statementMedia types.MediaType = "application/vnd.in-toto+json"
	// annotationPredicate is a statement's, where its manifest names it.
	annotationPredicate = "in-toto.io/predicate-type"
)

// predicate is what an in-toto statement says of an image.
type predicate struct {
	kind string
	body json.RawMessage
}

// statement is an in-toto statement (in-toto/attestation, spec/v1/statement.md).
type statement struct {
	Type      string          `json:"_type"`
	Kind      string          `json:"predicateType"`
	Subject   []subject       `json:"subject"`
	Predicate json.RawMessage `json:"predicate"`
}

// subject is an image. Its name is always "_": an image of several tags stays
// the same image.
type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// attest finds out what is to be said of an image. Nothing in it depends on the
// time or the run.
func (o Options) attest(ctx context.Context, image *Image, known *images) error {
	if o.Attestations.SBOM {
		p, err := o.inventory(ctx, image)
		if err != nil {
			return fmt.Errorf("sbom: %w", err)
		}
		image.predicates = append(image.predicates, p)
	}
	if o.Attestations.Provenance != "" {
		p, err := o.provenance(image, known)
		if err != nil {
			return fmt.Errorf("provenance: %w", err)
		}
		image.predicates = append(image.predicates, p)
	}
	return nil
}

func (o Options) inventory(ctx context.Context, image *Image) (predicate, error) {
	view, err := image.view(ctx)
	if err != nil {
		return predicate{}, err
	}
	defer view.Release()
	found, err := sbom.Scan(ctx, view.Path)
	if err != nil {
		return predicate{}, err
	}
	for _, file := range found.Unread {
		o.Progress.Emit(progress.Warning{Message: "the SBOM lacks packages", Detail: "/" + file + " is not understood: rpm's packages are not listed"})
	}
	config, err := image.ConfigFile()
	if err != nil {
		return predicate{}, err
	}
	name, err := image.ConfigName()
	if err != nil {
		return predicate{}, err
	}
	body, err := found.SPDX(name.String(), config.Created.Time)
	return predicate{kind: sbom.PredicateType, body: body}, err
}

// provenance is in BuildKit's form, so that what reads BuildKit's reads ours.
func (o Options) provenance(image *Image, known *images) (predicate, error) {
	c := &provenance.Capture{
		TargetPlatform: platformID(image.Platform), NetworkAccess: true, IncompleteMaterials: true,
		Request: provenancetypes.Parameters{Frontend: "dockerfile.v0", Args: map[string]string{"filename": cmp.Or(o.Display, o.File)}},
		Sources: provenancetypes.Sources{Images: known.sources(image.Platform), Local: []provenancetypes.LocalSource{{Name: "context"}}},
	}
	if o.Target != "" {
		c.Request.Args["target"] = o.Target
	}
	full := o.Attestations.Provenance == ProvenanceMax
	if full {
		o.request(&c.Request)
	}
	p, err := provenance.NewPredicate(c)
	if err != nil {
		return predicate{}, err
	}
	// What differs from machine to machine does not belong in what two machines
	// are to build alike.
	p.BuildDefinition.InternalParameters.BuilderPlatform = platformID(o.Machine)
	p.RunDetails.Builder.ID = o.Attestations.BuilderID
	p.RunDetails.Metadata.Reproducible = o.Attestations.Reproducible
	p.RunDetails.Metadata.Completeness.Request = full
	if text, readErr := os.ReadFile(o.File); full && readErr == nil && isFolder(o.Context) {
		p.RunDetails.Metadata.BuildKitMetadata.Source = &provenancetypes.Source{
			Infos: []provenancetypes.SourceInfo{{Filename: cmp.Or(o.Display, o.File), Language: "Dockerfile", Data: text}},
		}
	}
	made := predicate{kind: "https://slsa.dev/provenance/v1"}
	var body any = p
	if o.Attestations.Version == string(provenancetypes.ProvenanceSLSA02) {
		made.kind, body = "https://slsa.dev/provenance/v0.2", p.ConvertToSLSA02()
	}
	made.body, err = json.Marshal(body)
	return made, err
}

// request adds what was asked of the build. Secrets and keys are named only.
func (o Options) request(p *provenancetypes.Parameters) {
	for key, value := range o.BuildArgs {
		p.Args["build-arg:"+key] = value
	}
	for key, value := range o.Labels {
		p.Args["label:"+key] = value
	}
	for _, id := range slices.Sorted(maps.Keys(o.Secrets)) {
		p.Secrets = append(p.Secrets, &provenancetypes.Secret{ID: id, Optional: true})
	}
	for _, id := range slices.Sorted(maps.Keys(o.SSH)) {
		p.SSH = append(p.SSH, &provenancetypes.SSH{ID: id, Optional: true})
	}
}

// sources are the images that were looked up for a platform, pinned.
func (i *images) sources(platform v1.Platform) []provenancetypes.ImageSource {
	i.mu.Lock()
	defer i.mu.Unlock()
	var list []provenancetypes.ImageSource
	for key, r := range i.known {
		if r.err != nil || r.image == nil || strings.Contains(key.ref, "@") && slices.ContainsFunc(slices.Collect(maps.Keys(i.known)), func(k imageKey) bool {
			return k.platform == key.platform && k.ref+"@"+r.digest.String() == key.ref
		}) {
			continue
		}
		p, err := v1.ParsePlatform(key.platform)
		if err != nil || p.OS != platform.OS || p.Architecture != platform.Architecture {
			continue
		}
		ref, _, _ := strings.Cut(key.ref, "@")
		list = append(list, provenancetypes.ImageSource{
			Ref:      ref + "@" + r.digest.String(),
			Platform: &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}, Digest: digest.Digest(r.digest.String()),
		})
	}
	slices.SortFunc(list, func(a, b provenancetypes.ImageSource) int { return strings.Compare(a.Ref, b.Ref) })
	return list
}

// attestation is the manifest that holds an image's statements, as BuildKit
// writes it, or nil where nothing is said of the image. about is the image's descriptor.
func (i *Image) attestation(about v1.Descriptor) (*Image, v1.Descriptor, error) {
	if len(i.predicates) == 0 {
		return nil, v1.Descriptor{}, nil
	}
	var layers []v1.Layer
	var descriptors []v1.Descriptor
	config := ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, p := range i.predicates {
		data, err := json.Marshal(statement{
			Type: statementType, Kind: p.kind, Predicate: p.body,
			Subject: []subject{{Name: "_", Digest: map[string]string{about.Digest.Algorithm: about.Digest.Hex}}},
		})
		if err != nil {
			return nil, v1.Descriptor{}, fmt.Errorf("attestation: %w", err)
		}
		l := static.NewLayer(data, statementMedia)
		sum := digest.FromBytes(data)
		layers = append(layers, l)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, sum)
		descriptors = append(descriptors, v1.Descriptor{
			MediaType: statementMedia, Digest: v1.Hash{Algorithm: sum.Algorithm().String(), Hex: sum.Encoded()}, Size: int64(len(data)),
			Annotations: map[string]string{annotationPredicate: p.kind},
		})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("attestation: %w", err)
	}
	out, err := storedImage(types.OCIConfigJSON, raw, layers, descriptors)
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	out.Platform = v1.Platform{OS: "unknown", Architecture: "unknown"}
	sum := digest.FromBytes(out.manifest)
	return out, v1.Descriptor{
		MediaType: out.media, Digest: v1.Hash{Algorithm: sum.Algorithm().String(), Hex: sum.Encoded()}, Size: int64(len(out.manifest)),
		Platform: &out.Platform,
		Annotations: map[string]string{
			attestation.DockerAnnotationReferenceType:   attestation.DockerAnnotationReferenceTypeDefault,
			attestation.DockerAnnotationReferenceDigest: about.Digest.String(),
		},
	}, nil
}

// attested says whether the index is needed for attestations. Docker's media
// types have no place for them.
func (c *Content) attested(opts ManifestOptions) bool {
	return !opts.DockerTypes && slices.ContainsFunc(c.Images, func(i *Image) bool { return len(i.predicates) > 0 })
}

// attest names, behind the images of the index, what is attested of each.
func (i *Index) attest(index *v1.IndexManifest, opts ManifestOptions) error {
	if opts.DockerTypes {
		return nil
	}
	for n, image := range i.images {
		manifest, descriptor, err := image.attestation(index.Manifests[n])
		if err != nil {
			return err
		}
		if manifest != nil {
			i.attestations = append(i.attestations, manifest)
			index.Manifests = append(index.Manifests, descriptor)
		}
	}
	return nil
}
