package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Compression is how the new layers of an image are packed.
type Compression struct {
	// Kind is one of the Compression constants.
	Kind string
	// Level is 1 to 9 for gzip, 1 to 22 for zstd, 0 for the default.
	Level int
}

// The values of "compression".
const (
	CompressionGzip = "gzip"
	CompressionZstd = "zstd"
)

// maxLevel is the highest level of a compression.
func maxLevel(kind string) int {
	if kind == CompressionZstd {
		return 22
	}
	return 9
}

// compression reads what a line of "outputs" says; empty where it says nothing.
func (o *outputAttributes) compression() Compression {
	c := Compression{Kind: o.text("compression")}
	switch c.Kind {
	case "", CompressionGzip, CompressionZstd:
	default:
		o.problems = append(o.problems, fmt.Errorf("compression=%s: it is gzip or zstd", c.Kind))
		c.Kind = ""
	}
	v := o.text("compression-level")
	if v == "" {
		return c
	}
	level, err := strconv.Atoi(v)
	if err != nil || level < 1 || level > maxLevel(CompressionZstd) {
		o.problems = append(o.problems, fmt.Errorf("compression-level=%s: it is 1 to 9 for gzip, 1 to 22 for zstd", v))
		return c
	}
	c.Level = level
	return c
}

// compression joins what the input and the lines of "outputs" say: a layer is packed
// once, and all places get the same.
func (p *parser) compression(b *Build, lines []Compression) {
	const fix = "Write the same compression in all lines, or only the input \"compression\"."
	b.Compression.Kind = p.oneOf("compression", CompressionGzip, CompressionZstd)
	wanted := Compression{}
	if p.given("compression") {
		wanted.Kind = b.Compression.Kind
	}
	for _, c := range lines {
		if c.Kind != "" && wanted.Kind != "" && c.Kind != wanted.Kind || c.Level != 0 && wanted.Level != 0 && c.Level != wanted.Level {
			p.fail("outputs", "", fix, errors.New("layers are packed once, and this wants them in two ways"))
			return
		}
		wanted = Compression{Kind: cmp.Or(wanted.Kind, c.Kind), Level: cmp.Or(wanted.Level, c.Level)}
	}
	b.Compression = Compression{Kind: cmp.Or(wanted.Kind, b.Compression.Kind), Level: wanted.Level}
	if b.Compression.Level > maxLevel(b.Compression.Kind) {
		p.fail("outputs", "", "Write compression-level=1 to 9.", errors.New("gzip has 9 levels"))
	}
	docker := b.Manifests.DockerTypes || slices.ContainsFunc(b.Exports, func(e Export) bool { return e.Type == "docker" || e.Manifests.DockerTypes })
	if docker && b.Compression.Kind == CompressionZstd {
		p.fail("outputs", "", "Write type=oci without oci-mediatypes=false, or compress with gzip.", errors.New("type=docker and Docker's media types have no zstd"))
	}
}
