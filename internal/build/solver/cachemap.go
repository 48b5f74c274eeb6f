package solver

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/towline/towline/internal/build/source"
)

// CacheMap gives the operation's own part of its cache key: what it does,
// without its inputs. BuildKit's own operations say it, so that a cache of
// either is one for the other.
func (o *op) CacheMap(ctx context.Context, job solver.JobContext, index int) (*solver.CacheMap, bool, error) {
	var bk solver.Op
	var err error
	switch kind := o.vertex.op.Op.(type) {
	case *pb.Op_Source:
		return o.sourceMap(ctx)
	case *pb.Op_File:
		bk, err = ops.NewFileOp(o.vertex, kind, nil, nil, nil)
	case *pb.Op_Exec:
		bk, err = ops.NewExecOp(o.vertex, kind, o.vertex.op.Platform, nil, nil, nil, nil, nil, nil, false)
	case *pb.Op_Merge:
		bk, err = ops.NewMergeOp(o.vertex, kind, nil)
	default:
		err = fmt.Errorf("operation %T is not supported", kind)
	}
	if err != nil {
		return nil, false, o.locate(err)
	}
	m, done, err := bk.CacheMap(ctx, job, index)
	if err != nil {
		return nil, false, o.locate(err)
	}
	for i := range m.Deps {
		m.Deps[i].PreprocessFunc = nil // states are put on disk when they are looked into
		if !o.solver.caching() {
			m.Deps[i].ComputeDigestFunc = nil // nobody would find anything by it
		}
		m.Deps[i].ComputeDigestFunc = contentKey(m.Deps[i].ComputeDigestFunc)
	}
	return m, done, nil
}

// contentKey has no key for content that cannot be read, such as a file that is
// not there: the operation itself will fail on it, and say so at its line.
func contentKey(compute solver.ResultBasedCacheFunc) solver.ResultBasedCacheFunc {
	if compute == nil {
		return nil
	}
	return func(ctx context.Context, r solver.Result, g session.Group) (digest.Digest, error) {
		key, err := compute(ctx, r, g)
		if err != nil && ctx.Err() == nil {
			return "", nil
		}
		return key, err
	}
}

// sourceMap is the cache key of a source. What a folder of this machine holds is
// known by its content only, so its own key is of this build alone.
func (o *op) sourceMap(ctx context.Context) (*solver.CacheMap, bool, error) {
	src, ok := o.runner.(*sourceOp)
	if !ok {
		return nil, false, fmt.Errorf("operation of type %T", o.runner)
	}
	key, err := src.key(ctx)
	if err != nil {
		return nil, false, o.locate(err)
	}
	if key == "" {
		own := digest.FromString(o.solver.name + " " + o.vertex.digest.String())
		return &solver.CacheMap{Digest: digest.Digest("random:" + own.Encoded())}, true, nil
	}
	return &solver.CacheMap{Digest: digest.FromString("buildkit.source.v0:" + key)}, true, nil
}

// imageKey is BuildKit's key for an image: what its reference pins, and for which platform.
func imageKey(src source.Image, p v1.Platform) string {
	_, pin, _ := strings.Cut(src.Ref, "@")
	var limit *int
	if src.LayerLimit > 0 {
		limit = &src.LayerLimit
	}
	raw, err := json.Marshal(struct {
		Digest             string
		OS, Arch           string
		Variant, OSVersion string   `json:",omitempty"`
		OSFeatures         []string `json:",omitempty"`
		Limit              *int     `json:",omitempty"`
	}{pin, p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures, limit})
	if err != nil {
		return pin // strings and numbers can always be written
	}
	return digest.FromBytes(raw).String()
}
