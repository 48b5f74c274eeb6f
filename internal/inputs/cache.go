package inputs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
)

// Cache says where the results of build steps are kept.
type Cache struct {
	// Off keeps none, unless From or To say so. Otherwise, when both are empty,
	// they are kept beside the image.
	Off bool
	// From are references of registries.
	From []string
	To   []CacheTo
	// MountsOff does not keep the folders of RUN --mount=type=cache beside the
	// results. MountsMaxSize is how many bytes their files may have; 0 is the default.
	MountsOff     bool
	MountsMaxSize int64
}

// ByDefault says whether results are kept beside the image.
func (c Cache) ByDefault() bool { return !c.Off && len(c.From) == 0 && len(c.To) == 0 }

// CacheTo is a place for the results of build steps.
type CacheTo struct {
	// Ref is a reference of a registry.
	Ref string
	// Max keeps the results of all stages, not only those of the image's layers.
	Max bool
}

const cacheForm = "Write lines of type=registry,ref=HOST/NAME:TAG."

// cache reads where results come from and go to. Kinds of caches that only
// buildx's own builders offer are a notice: the default is used in their place.
func (p *parser) cache(s *Settings) {
	c := &s.Build.Cache
	elsewhere := ""
	each := func(input string, add func(o *outputAttributes, ref string)) {
		for _, entry := range p.list(input, false) {
			kind, err := p.cacheLine(entry.text, add)
			if err != nil {
				p.fail(input, entry.text, cacheForm, fmt.Errorf("line %d: %w", entry.line, err))
			}
			if kind != "registry" {
				elsewhere = kind
			}
		}
	}
	each("cache-from", func(_ *outputAttributes, ref string) { c.From = append(c.From, ref) })
	each("cache-to", func(o *outputAttributes, ref string) {
		c.To = append(c.To, CacheTo{Ref: ref, Max: o.text("mode") == "max"})
	})
	c.Off = !p.boolean("cache", true)
	p.cacheMounts(c)
	if elsewhere != "" && c.ByDefault() {
		s.Notices = append(s.Notices, fmt.Sprintf("caches of type %s are not offered: results of build steps are kept beside the image in its ECR repository instead", elsewhere))
	}
}

func (p *parser) cacheMounts(c *Cache) {
	c.MountsOff = !p.boolean("cache-mounts", true)
	if v := p.single("cache-mounts-max-size", "Write one size."); v != "" {
		size, err := units.RAMInBytes(v)
		if err != nil || size <= 0 {
			p.failf("cache-mounts-max-size", v, "Write a number of bytes with m or g behind it, such as 4g.", "not a size")
		}
		c.MountsMaxSize = size
	}
}

// cacheLine reads a line of buildx's cache-from or cache-to.
func (p *parser) cacheLine(line string, add func(o *outputAttributes, ref string)) (kind string, err error) {
	// A host may be nearly anything to the parser, even "type=registry,ref=HOST".
	if _, refErr := name.ParseReference(line, name.StrictValidation); refErr == nil && !strings.Contains(line, "=") {
		add(&outputAttributes{values: map[string]string{}, used: map[string]bool{}}, line)
		return "registry", nil
	}
	attributes, err := parseAttributes(line)
	if err != nil {
		return "registry", err
	}
	o := &outputAttributes{values: attributes, used: map[string]bool{}}
	kind = o.text("type")
	switch {
	case kind == "":
		return "registry", errors.New("no type")
	case kind != "registry" && slices.Contains([]string{"gha", "local", "inline", "s3", "azblob"}, kind):
		return kind, nil
	case kind != "registry":
		return "registry", fmt.Errorf("%q is not a type", kind)
	}
	ref := o.text("ref")
	if _, err := name.ParseReference(ref); err != nil {
		return kind, fmt.Errorf("ref: %w", err)
	}
	if mode := o.text("mode"); mode != "" && mode != "min" && mode != "max" {
		return kind, fmt.Errorf("mode is %q, neither min nor max", mode)
	}
	for _, only := range []string{"image-manifest", "oci-mediatypes"} {
		if on := o.flag(only); on != nil && !*on {
			return kind, fmt.Errorf("%s is always true", only)
		}
	}
	o.flag("ignore-error") // a fault of a cache never fails a build
	add(o, ref)
	return kind, errors.Join(append(o.problems, o.rest()...)...)
}
