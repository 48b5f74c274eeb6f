package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Cache says where the results of build steps are kept.
type Cache struct {
	// Off keeps none, unless other fields say so. Otherwise, when From, To and
	// the other places are empty, they are kept beside the image.
	Off bool
	// From are references of registries: of caches, or of images that hold theirs.
	From []string
	To   []CacheTo
	// OtherFrom and OtherTo are places outside of registries.
	OtherFrom, OtherTo []CachePlace
	// Inline writes the results that the image's layers hold into its config.
	Inline bool
	// MountsOff does not keep the folders of RUN --mount=type=cache beside the
	// results. MountsMaxSize is how many bytes their files may have; 0 is the default.
	MountsOff     bool
	MountsMaxSize int64
}

// ByDefault says whether results are kept beside the image.
func (c Cache) ByDefault() bool {
	return !c.Off && !c.Inline && len(c.From)+len(c.To)+len(c.OtherFrom)+len(c.OtherTo) == 0
}

// CacheTo is a registry's place for the results of build steps.
type CacheTo struct {
	// Ref is a reference of a registry.
	Ref string
	// Max keeps the results of all stages, not only those of the image's layers.
	Max bool
}

// CachePlace is one outside of registries: a folder, or else GitHub's cache.
type CachePlace struct {
	// Folder is the path of an OCI layout, and Tag the name in it. Digest names a
	// manifest instead of Tag.
	Folder, Tag, Digest string
	// Actions is GitHub's cache service.
	Actions ActionsCache
	// Max is as in CacheTo.
	Max bool
}

// ActionsCache is a cache in GitHub's cache service.
type ActionsCache struct {
	// Scope tells caches of one repository apart.
	Scope string
	// URL and Token are those of the service; empty where the job has none.
	URL, Token string
	// Timeout is how long reading or writing may take.
	Timeout time.Duration
}

const (
	cacheForm = "Write lines of type=registry,ref=HOST/NAME:TAG, type=local, type=gha or, in cache-to, type=inline (docs/caching.md)."
	// actionsCacheTimeout is BuildKit's, and "buildkit" is its scope.
	actionsCacheTimeout = 10 * time.Minute
)

// cache reads where results come from and go to.
func (p *parser) cache(s *Settings) {
	c := &s.Build.Cache
	var packed []Compression
	for _, input := range []string{"cache-from", "cache-to"} {
		for _, entry := range p.list(input, false) {
			if packing, err := p.cacheLine(c, entry.text, input == "cache-to"); err != nil {
				shown := entry.text
				if strings.Contains(shown, "token=") {
					shown = ""
				}
				p.fail(input, shown, cacheForm, fmt.Errorf("line %d: %w", entry.line, err))
			} else if packing != (Compression{}) && packing != s.Build.Compression {
				packed = append(packed, packing)
			}
		}
	}
	c.Off = !p.boolean("cache", true)
	p.cacheMounts(c)
	if len(packed) > 0 {
		s.Notices = append(s.Notices, "the layers of the cache are those of the image, so they are compressed as the input \"compression\" says, and not as cache-to does")
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

// cacheLine reads a line of buildx's cache-from, or of its cache-to, and gives the
// compression that it asks for.
func (p *parser) cacheLine(c *Cache, line string, to bool) (Compression, error) {
	// A host may be nearly anything to the parser, even "type=registry,ref=HOST".
	if _, err := name.ParseReference(line, name.StrictValidation); err == nil && !strings.Contains(line, "=") {
		c.add(line, false, to)
		return Compression{}, nil
	}
	attributes, err := parseAttributes(line)
	if err != nil {
		return Compression{}, err
	}
	o := &outputAttributes{values: attributes, used: map[string]bool{}}
	o.flag("ignore-error") // a fault of a cache never fails a build
	isMax := to && o.cacheMode()
	switch kind := o.text("type"); {
	case kind == "":
		return Compression{}, errors.New("no type")
	case kind == "registry":
		ref := o.text("ref")
		if _, refErr := name.ParseReference(ref); refErr != nil {
			return Compression{}, fmt.Errorf("ref: %w", refErr)
		}
		o.cacheForm(to)
		c.add(ref, isMax, to)
	case kind == "inline" && to:
		if isMax {
			return Compression{}, errors.New("mode=max: an image holds its own layers only; add a line of type=registry for those of all stages")
		}
		o.packing()
		c.Inline = true
	case kind == "inline":
		return Compression{}, errors.New("a cache inside of an image is read with type=registry,ref=IMAGE")
	case kind == "local":
		p.cacheFolder(c, o, isMax, to)
	case kind == "gha":
		p.cacheActions(c, o, isMax, to)
	case kind == "s3" || kind == "azblob":
		return Compression{}, fmt.Errorf("type=%s is not offered: use type=registry with a repository of ECR, which the deploying role reaches already, or leave both inputs out to keep the cache beside the image", kind)
	default:
		return Compression{}, fmt.Errorf("%q is not a type", kind)
	}
	return o.packed, errors.Join(append(o.problems, o.rest()...)...)
}

func (c *Cache) add(ref string, isMax, to bool) {
	if to {
		c.To = append(c.To, CacheTo{Ref: ref, Max: isMax})
	} else {
		c.From = append(c.From, ref)
	}
}

func (c *Cache) addPlace(place CachePlace, to bool) {
	if to {
		c.OtherTo = append(c.OtherTo, place)
	} else {
		c.OtherFrom = append(c.OtherFrom, place)
	}
}

// cacheMode says whether the mode is max.
func (o *outputAttributes) cacheMode() bool {
	mode := o.text("mode")
	if mode != "" && mode != "min" && mode != "max" {
		o.problems = append(o.problems, fmt.Errorf("mode is %q, neither min nor max", mode))
	}
	return mode == "max"
}

// cacheForm reads in which form a cache is written. There is one.
func (o *outputAttributes) cacheForm(to bool) {
	if !to {
		return
	}
	for _, only := range []string{"image-manifest", "oci-mediatypes"} {
		if on := o.flag(only); on != nil && !*on {
			o.problems = append(o.problems, fmt.Errorf("%s is always true", only))
		}
	}
	o.packing()
}

// packing reads how layers are compressed: they are those of the image.
func (o *outputAttributes) packing() {
	o.packed = o.compression()
	o.flag("force-compression") // a base's layers stay as they are
}

// cacheFolder reads the attributes of type=local.
func (p *parser) cacheFolder(c *Cache, o *outputAttributes, isMax, to bool) {
	key := "src"
	if to {
		key = "dest"
	}
	place := CachePlace{Folder: o.text(key), Tag: cmp.Or(o.text("tag"), "latest"), Max: isMax}
	if place.Folder == "" {
		o.problems = append(o.problems, fmt.Errorf("no %s=FOLDER", key))
		return
	}
	place.Folder = p.path(place.Folder)
	if to {
		o.cacheForm(to)
	} else if place.Digest = o.text("digest"); place.Digest != "" {
		if _, err := v1.NewHash(place.Digest); err != nil {
			o.problems = append(o.problems, fmt.Errorf("digest: %w", err))
		}
	}
	c.addPlace(place, to)
}

// cacheActions reads the attributes of type=gha.
func (p *parser) cacheActions(c *Cache, o *outputAttributes, isMax, to bool) {
	for _, unneeded := range []string{"url", "repository", "ghtoken"} { // of the service's first version, and of its REST API
		o.text(unneeded)
	}
	if version := o.text("version"); version != "" && version != "2" {
		o.problems = append(o.problems, fmt.Errorf("version=%s: GitHub has shut down all but version 2 of its cache service", version))
	}
	place := CachePlace{Max: isMax, Actions: ActionsCache{
		Scope: cmp.Or(o.text("scope"), "buildkit"), Timeout: actionsCacheTimeout,
		URL: cmp.Or(o.text("url_v2"), p.env("ACTIONS_RESULTS_URL")), Token: cmp.Or(o.text("token"), p.env("ACTIONS_RUNTIME_TOKEN")),
	}}
	if v := o.text("timeout"); v != "" {
		timeout, err := time.ParseDuration(v)
		if err != nil || timeout <= 0 {
			o.problems = append(o.problems, fmt.Errorf("timeout=%s is no duration such as 5m", v))
		}
		place.Actions.Timeout = timeout
	}
	if strings.Contains(place.Actions.Scope, ",") || len(place.Actions.Scope) > 400 {
		o.problems = append(o.problems, errors.New("scope: at most 400 characters, and no comma"))
	}
	c.addPlace(place, to)
}
