package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/internal/build/dockerfile"
	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/build/solver"
)

const (
	// inlineField of an image config holds the records of a cache whose layers are
	// the image's, in base64 (buildkit, cache/remotecache/inline).
	inlineField = "moby.buildkit.cache.v0"

	annotationDiffID  = "containerd.io/uncompressed"
	annotationCreated = "buildkit/createdat"
)

// solverCacheMode is what the solver has to keep in mind of its steps.
func (o Options) solverCacheMode() CacheMode {
	if o.CacheMode == "" && o.CacheInline {
		return CacheMax
	}
	return o.CacheMode
}

// keep is what the cache beside the images keeps. Beside inline ones, that of
// CacheMin keeps as much as they do: a build that finds a step in either knows the
// same of those before it, and writes the same image.
func (o Options) keep(images []*Image) solver.Keep {
	if !o.CacheInline || o.CacheMode != CacheMin {
		return solver.Keep{Mode: o.CacheMode}
	}
	own := map[v1.Hash]bool{}
	for _, image := range images {
		for _, l := range image.layers {
			if diffID, err := l.DiffID(); err == nil {
				own[diffID] = true
			}
		}
	}
	return solver.Keep{DiffIDs: own}
}

// inlineCache writes into a result's config which steps its layers come from.
func inlineCache(ctx context.Context, s *solver.Solver, result *dockerfile.Result, layers []v1.Layer, at clock) error {
	if len(layers) == 0 {
		return nil
	}
	own := map[v1.Hash]bool{}
	for _, l := range layers {
		diffID, err := l.DiffID()
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		own[diffID] = true
	}
	left, err := s.Export(ctx, []*snapshot.Ref{result.Ref}, at.now, solver.Keep{DiffIDs: own})
	if err != nil {
		return err
	}
	if result.Epoch != nil {
		at = clock{now: *result.Epoch} // as assemble does
	}
	records, err := inlineRecords(ctx, left, layers, at)
	if err != nil || records == nil {
		return err
	}
	fields := map[string]json.RawMessage{}
	if err = json.Unmarshal(result.Config, &fields); err != nil {
		return fmt.Errorf("image config: %w", err)
	}
	if fields[inlineField], err = json.Marshal(records); err != nil {
		return err
	}
	result.Config, err = json.Marshal(fields)
	return err
}

// inlineRecords are those of a cache whose results are made of the image's layers,
// which they name by their places. Times are those of the layers, so that a build
// that found everything in its cache writes the same.
func inlineRecords(ctx context.Context, left Cache, layers []v1.Layer, at clock) ([]byte, error) {
	places := map[digest.Digest]int{}
	held := cacheimport.DescriptorProvider{}
	for i, l := range layers {
		d, err := partial.Descriptor(l)
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		blob := digest.Digest(d.Digest.String())
		places[blob] = i
		held[blob] = cacheimport.DescriptorProviderPair{Descriptor: ocispec.Descriptor{MediaType: string(d.MediaType), Digest: blob, Size: d.Size}}
	}
	chains := cacheimport.NewCacheChains()
	if err := cacheimport.Parse(left.Config, held, chains); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	config, _, err := chains.Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if len(config.Layers) == 0 {
		return nil, nil
	}
	for i := range config.Records {
		if err = placeResults(&config.Records[i], config.Layers, places, func(top int) time.Time { return at.of(layers[top]) }); err != nil {
			return nil, err
		}
	}
	return json.Marshal(config.Records)
}

// placeResults makes the results of a record name layers by their places in the
// image: the topmost one if those below it are the image's, or else each of them.
func placeResults(r *cachetypes.CacheRecord, all []cachetypes.CacheLayer, places map[digest.Digest]int, made func(top int) time.Time) error {
	results := r.Results
	r.Results = nil
	for _, whole := range results {
		chain := []int{}
		below := true
		for next := whole.LayerIndex; next >= 0; next = all[next].ParentIndex {
			place, ok := places[all[next].Blob]
			if !ok {
				return fmt.Errorf("cache: layer %s is not in the image", all[next].Blob)
			}
			chain = append(chain, place)
		}
		slices.Reverse(chain)
		for i, place := range chain {
			below = below && place == i
		}
		top := chain[len(chain)-1]
		if below {
			r.Results = append(r.Results, cachetypes.CacheResult{LayerIndex: top, CreatedAt: made(top)})
		} else {
			r.ChainedResults = append(r.ChainedResults, cachetypes.ChainedResult{LayerIndexes: chain, CreatedAt: made(top)})
		}
	}
	return nil
}

// inlined is what a cache needs of an image config.
type inlined struct {
	Cache  []byte `json:"moby.buildkit.cache.v0"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history"`
}

// readInline reads the cache in an image's config.
func readInline(image v1.Image, manifest *v1.Manifest) (Cache, error) {
	raw, err := image.RawConfigFile()
	if err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	layers, err := image.Layers()
	if err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	return inlineOf(raw, manifest, layers)
}

func inlineOf(raw []byte, manifest *v1.Manifest, layers []v1.Layer) (Cache, error) {
	var image inlined
	if err := json.Unmarshal(raw, &image); err != nil {
		return Cache{}, fmt.Errorf("cache: image config: %w", err)
	}
	if image.Cache == nil {
		return Cache{}, errors.New("cache: neither a build cache nor an image that holds one (cache-to: type=inline)")
	}
	if len(image.RootFS.DiffIDs) != len(manifest.Layers) || len(layers) != len(manifest.Layers) {
		return Cache{}, fmt.Errorf("cache: %d layers have %d diff IDs", len(manifest.Layers), len(image.RootFS.DiffIDs))
	}
	var made []*time.Time
	for _, h := range image.History {
		if !h.EmptyLayer {
			made = append(made, h.Created)
		}
	}
	c := Cache{Layers: layers}
	var config cachetypes.CacheConfig
	if err := json.Unmarshal(image.Cache, &config.Records); err != nil {
		return Cache{}, fmt.Errorf("cache: image config: %w", err)
	}
	for i, d := range manifest.Layers {
		d.Annotations = map[string]string{annotationDiffID: image.RootFS.DiffIDs[i]}
		if len(made) == len(manifest.Layers) && made[i] != nil {
			d.Annotations[annotationCreated] = made[i].UTC().Format(time.RFC3339Nano)
		}
		c.Descriptors = append(c.Descriptors, d)
		config.Layers = append(config.Layers, cachetypes.CacheLayer{Blob: digest.Digest(d.Digest.String()), ParentIndex: i - 1})
	}
	var err error
	if c.Config, err = json.Marshal(config); err != nil {
		return Cache{}, fmt.Errorf("cache: %w", err)
	}
	return c, nil
}
