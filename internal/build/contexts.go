package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/towline/towline/internal/build/dockerfile"
	"github.com/towline/towline/internal/build/source"
	"github.com/towline/towline/internal/problem"
)

// contexts are the build's inputs in the words of frontend and solver.
type contexts struct {
	// remote is the main context where it is none of folders: a URL.
	remote string
	// named are the frontend's words for named contexts.
	named map[string]string
	// folders are the local sources by their names, uploads files by theirs.
	folders, uploads map[string]string
	// layouts finds images in local layouts, and the others in registries.
	layouts layouts
	// open are files that stay open until the result is closed. In place, a RUN
	// moves folders of this machine aside, but what is open remains readable.
	open []io.Closer
}

// Close ends the use of files that are open.
func (c *contexts) Close() {
	for _, file := range c.open {
		_ = file.Close() // read only
	}
}

// contexts looks at what was given as contexts.
func (o Options) contexts() (*contexts, error) {
	c := &contexts{named: map[string]string{}, folders: map[string]string{}, uploads: map[string]string{}, layouts: layouts{Images: o.Images, stores: map[string]store{}}}
	err := c.main(o)
	for _, name := range slices.Sorted(maps.Keys(o.Contexts)) {
		if err == nil {
			err = c.add(name, o.Contexts[name])
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *contexts) main(o Options) error {
	if dockerfile.Remote(o.Context) {
		c.remote = o.Context
		return nil
	}
	if info, err := os.Stat(o.Context); err == nil && info.Mode().IsRegular() {
		// As docker build does it with an archive on standard input: the frontend
		// downloads it, and decides whether it is an archive or a lone Dockerfile.
		path, err := c.hold(o.Context)
		c.uploads[dockerfile.ContextSource] = path
		c.remote = "http://buildkit-session/" + dockerfile.ContextSource
		return err
	}
	c.folders[dockerfile.ContextSource] = o.Context
	c.folders[dockerfile.FileSource] = filepath.Dir(o.File)
	return nil
}

// filename is the Dockerfile's path in the source that holds it.
func (c *contexts) filename(file string) string {
	if c.remote != "" {
		return file
	}
	return filepath.Base(file)
}

// hold opens a file or folder, and gives a path that leads there as long as it
// is open.
func (c *contexts) hold(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the user named it
	if err != nil {
		return "", err
	}
	c.open = append(c.open, f)
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())), nil
}

// add takes a named context in.
func (c *contexts) add(name, value string) error {
	fail := func(err error, fix string) error {
		return &problem.Error{Op: "read build context " + name, Input: "build-contexts", Err: err, Fix: fix}
	}
	// The frontend looks for names as Docker spells images: no docker.io/library/, no :latest.
	key := name
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		key = strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	} else if !strings.Contains(name, "::") {
		return fail(err, "Use a name of small letters, digits, dots, dashes and underscores.")
	}
	switch {
	case strings.HasPrefix(value, "docker-image://") || dockerfile.Remote(value):
		c.named[key] = value
		return nil
	case strings.HasPrefix(value, "oci-layout://"):
		word, err := c.layout(strings.TrimPrefix(value, "oci-layout://"))
		if err != nil {
			return fail(err, "Write it as oci-layout://FOLDER:TAG or oci-layout://FOLDER@sha256:DIGEST, with the path of an OCI layout, relative to the workspace.")
		}
		c.named[key] = word
		return nil
	}
	info, err := os.Stat(value)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder")
	}
	if err != nil {
		return fail(err, "Give a folder of the workspace, docker-image://REFERENCE, oci-layout://FOLDER:TAG, or the URL of a git repository or file.")
	}
	local := "named-" + key
	c.folders[local] = value
	c.named[key] = "local:" + local
	return nil
}

// layout opens an OCI layout and gives the frontend's word for one of its images.
func (c *contexts) layout(value string) (string, error) {
	dir, digest, hasDigest := strings.Cut(value, "@")
	tag := ""
	if colon := strings.LastIndex(dir, ":"); colon > strings.LastIndex(dir, "/") {
		dir, tag = dir[:colon], dir[colon+1:]
	}
	path, err := c.hold(dir)
	if err != nil {
		return "", err
	}
	index, err := layout.ImageIndexFromPath(path)
	if err != nil {
		return "", fmt.Errorf("%s is not an OCI layout: %w", dir, err)
	}
	if !hasDigest {
		if digest, err = tagged(index, tag); err != nil {
			return "", fmt.Errorf("layout %s: %w", dir, err)
		}
	}
	if _, err := v1.NewHash(digest); err != nil {
		return "", fmt.Errorf("layout %s: digest %q: %w", dir, digest, err)
	}
	name := "layout-" + strconv.Itoa(len(c.layouts.stores))
	c.layouts.stores[name] = store{dir: dir, index: index}
	return "oci-layout://" + name + "@" + digest, nil
}

// refName is the annotation that holds a tag in a layout (image-spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// tagged finds the digest of a tag, by default "latest", or the only image's.
func tagged(index v1.ImageIndex, tag string) (string, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	wanted := tag
	if wanted == "" {
		wanted = "latest"
	}
	for _, d := range manifest.Manifests {
		if d.Annotations[refName] == wanted {
			return d.Digest.String(), nil
		}
	}
	if tag == "" && len(manifest.Manifests) == 1 {
		return manifest.Manifests[0].Digest.String(), nil
	}
	return "", fmt.Errorf("it has no image with the tag %q", wanted)
}

// layouts finds images in layouts, and asks Images for the others.
type layouts struct {
	Images
	stores map[string]store
}

// store is an open layout.
type store struct {
	dir   string
	index v1.ImageIndex
}

// Resolve gives the image of source.Layout.Name, or of a reference.
func (l layouts) Resolve(ctx context.Context, ref string, platform v1.Platform) (v1.Hash, v1.Image, error) {
	name, ok := strings.CutPrefix(ref, source.LayoutScheme)
	if !ok {
		return l.Images.Resolve(ctx, ref, platform)
	}
	name, digest, _ := strings.Cut(name, "@")
	digest, _, _ = strings.Cut(digest, "@") // the frontend may have pinned it once more
	hash, err := v1.NewHash(digest)
	found, ok := l.stores[name]
	if err != nil || !ok {
		return v1.Hash{}, nil, fmt.Errorf("there is no layout %s", ref)
	}
	image, err := find(found.index, hash, platform)
	if err == nil && image == nil {
		err = fmt.Errorf("it has no image %s for %s", digest, platform.String())
	}
	if err != nil {
		return v1.Hash{}, nil, &problem.Error{
			Op: "read layout " + found.dir, Input: "build-contexts", Err: err, Fix: "Name an image that the layout has, for the platform that is built.",
		}
	}
	return hash, image, nil
}

// find looks for an image by its own digest, or by an index's and the platform.
func find(index v1.ImageIndex, hash v1.Hash, platform v1.Platform) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		switch {
		case d.MediaType.IsImage() && d.Digest == hash:
			return index.Image(hash)
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if d.Digest == hash {
				return choose(inner, platform)
			}
			if image, err := find(inner, hash, platform); image != nil || err != nil {
				return image, err
			}
		}
	}
	return nil, nil //nolint:nilnil // it is not there
}

// choose takes the image for a platform out of an index.
func choose(index v1.ImageIndex, platform v1.Platform) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		if d.MediaType.IsImage() && d.Platform != nil && d.Platform.Satisfies(platform) {
			return index.Image(d.Digest)
		}
	}
	return nil, nil //nolint:nilnil // it is not there
}
