package solver

import (
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// vertex is one operation of a definition, as BuildKit's scheduler wants it.
type vertex struct {
	op      *pb.Op
	digest  digest.Digest
	options solver.VertexOptions
	inputs  []solver.Edge
	name    string
}

// Digest implements solver.Vertex.
func (v *vertex) Digest() digest.Digest { return v.digest }

// Sys implements solver.Vertex.
func (v *vertex) Sys() any { return v }

// Options implements solver.Vertex.
func (v *vertex) Options() solver.VertexOptions { return v.options }

// Inputs implements solver.Vertex.
func (v *vertex) Inputs() []solver.Edge { return v.inputs }

// Name implements solver.Vertex.
func (v *vertex) Name() string { return v.name }

// edgeKey names one output of a vertex.
type edgeKey struct {
	digest digest.Digest
	index  solver.Index
}

// graph is a loaded definition with what can be known before it runs.
type graph struct {
	root     solver.Edge
	vertices map[digest.Digest]*vertex
	// uses counts how often an output is asked for.
	uses map[edgeKey]int
	// result lists the outputs whose layers the result is made of.
	result map[edgeKey]bool
	// whole lists the outputs that somebody will look into or run on. The others
	// are only copied upon, so an outline of their base is enough.
	whole map[edgeKey]bool
}

// load turns an LLB definition into a graph. Its last operation only points to the result.
func load(def *pb.Definition) (*graph, error) {
	g := &graph{vertices: map[digest.Digest]*vertex{}, uses: map[edgeKey]int{}, result: map[edgeKey]bool{}, whole: map[edgeKey]bool{}}
	var order []*vertex
	for _, raw := range def.Def {
		var op pb.Op
		if err := op.Unmarshal(raw); err != nil {
			return nil, fmt.Errorf("definition: %w", err)
		}
		dgst := digest.FromBytes(raw)
		v := &vertex{op: &op, digest: dgst, name: opName(&op)}
		if meta := def.Metadata[string(dgst)]; meta != nil {
			v.options.IgnoreCache = meta.IgnoreCache
			v.options.Description = meta.Description
			v.options.ProgressGroup = meta.ProgressGroup
			if name := meta.Description["llb.customname"]; name != "" {
				v.name = name
			}
		}
		for _, in := range op.Inputs {
			from := g.vertices[digest.Digest(in.Digest)]
			if from == nil || in.Index < 0 {
				return nil, fmt.Errorf("definition: operation %s has no input %s", dgst, in.Digest)
			}
			v.inputs = append(v.inputs, solver.Edge{Vertex: from, Index: solver.Index(in.Index)})
		}
		g.vertices[dgst] = v
		order = append(order, v)
	}
	if len(order) == 0 {
		return nil, nil //nolint:nilnil // an empty definition is the empty filesystem
	}
	last := order[len(order)-1]
	if last.op.Op != nil || len(last.inputs) != 1 {
		return nil, fmt.Errorf("definition: the last operation must point to one result")
	}
	g.root = last.inputs[0]
	g.look(order[:len(order)-1])
	g.mark(g.root)
	return g, nil
}

// look counts the uses of each output, and walks backwards, so that an
// operation's consumers are known before the operation itself.
func (g *graph) look(order []*vertex) {
	for _, v := range slices.Backward(order) {
		for i, in := range v.inputs {
			key := keyOf(in)
			g.uses[key]++
			if g.needsWhole(v, i) {
				g.whole[key] = true
			}
		}
	}
}

// mark marks an output, and those whose layers it keeps, as part of the result.
func (g *graph) mark(e solver.Edge) {
	if g.result[keyOf(e)] {
		return
	}
	g.result[keyOf(e)] = true
	for _, in := range below(e) {
		g.mark(in)
	}
}

// below lists the states whose layers an output keeps: the one that it adds a
// layer to, or all that it merges.
func below(e solver.Edge) []solver.Edge {
	v, ok := e.Vertex.(*vertex)
	if !ok {
		return nil
	}
	input := -1
	switch op := v.op.Op.(type) {
	case *pb.Op_Merge:
		return v.inputs
	case *pb.Op_File:
		if len(op.File.Actions) > 0 {
			input = int(op.File.Actions[0].Input)
		}
	case *pb.Op_Exec:
		for _, m := range op.Exec.Mounts {
			if m.Dest == "/" && m.MountType == pb.MountType_BIND {
				input = int(m.Input)
			}
		}
	}
	if input < 0 || input >= len(v.inputs) {
		return nil
	}
	return v.inputs[input : input+1]
}

func (g *graph) needsWhole(v *vertex, input int) bool {
	if v.op.GetMerge() != nil {
		return g.whole[edgeKey{v.digest, 0}]
	}
	file := v.op.GetFile()
	if file == nil {
		return true
	}
	for _, action := range file.Actions {
		if int(action.SecondaryInput) == input {
			return true
		}
	}
	for output := range file.Actions {
		if g.whole[edgeKey{v.digest, solver.Index(output)}] {
			return true
		}
	}
	return false
}

func keyOf(e solver.Edge) edgeKey {
	return edgeKey{e.Vertex.Digest(), e.Index}
}

func opName(op *pb.Op) string {
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		return o.Source.Identifier
	case *pb.Op_Exec:
		return fmt.Sprintf("%q", o.Exec.Meta.Args)
	case *pb.Op_File:
		return "copy or make files"
	default:
		return fmt.Sprintf("%T", op.Op)
	}
}
