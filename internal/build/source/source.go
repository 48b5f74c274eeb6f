// Package source reads what a build starts from: the parts of local folders
// that it asks for, and the names of everything else.
//
// Local folders are seen as BuildKit's client and worker together see them;
// see client/solve.go, session/filesync and source/local in moby/buildkit.
package source

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/source/git"
	"github.com/towline/towline/internal/build/source/web"
	"github.com/towline/towline/internal/problem"
)

// Source is what a source vertex names: an Image, a Folder, a Layout, a
// Repository or a Download.
type Source interface{ source() }

// Image is docker-image://REF.
type Image struct {
	// Ref is a whole reference, mostly with a digest.
	Ref string
	// LayerLimit keeps only that many of the lowest layers; 0 keeps all.
	LayerLimit int
	// Checksum is the digest that the image must have, or empty.
	Checksum string
}

// Folder is local://NAME.
type Folder struct {
	// Name is that of a build context: "context", "dockerfile" or a named one.
	Name   string
	Filter Filter
}

// Layout is oci-layout://REF.
type Layout struct {
	// Ref is NAME@DIGEST; only the digest tells the image.
	Ref string
	// Store names the layout folder.
	Store string
	// LayerLimit keeps only that many of the lowest layers; 0 keeps all.
	LayerLimit int
}

// LayoutScheme begins the names of images in layouts.
const LayoutScheme = "oci-layout://"

// Name is the reference by which the image is asked for: oci-layout://STORE@DIGEST.
func (l Layout) Name() string {
	_, digest, _ := strings.Cut(l.Ref, "@")
	return LayoutScheme + l.Store + "@" + digest
}

// Repository is git://HOST/PATH#REF:FOLDER.
type Repository struct{ git.Repository }

// Download is a URL of http or https.
type Download struct{ web.Source }

func (Image) source()      {}
func (Folder) source()     {}
func (Layout) source()     {}
func (Repository) source() {}
func (Download) source()   {}

// Filter says which part of a folder is wanted. The zero Filter wants all.
type Filter struct {
	// Include are patterns of which a path or a parent must match one.
	Include []string
	// Exclude are .dockerignore's patterns, "!" exceptions among them.
	Exclude []string
	// Follow are paths, wildcards allowed, that are included together with
	// everything that a symbolic link on the way to them points at.
	Follow []string
}

// Parse reads a source vertex. Sources that this version cannot read are
// refused with a *problem.Error that names the instruction they come from.
func Parse(op *pb.SourceOp) (Source, error) {
	scheme, rest, ok := strings.Cut(op.GetIdentifier(), "://")
	if !ok || rest == "" {
		return nil, fmt.Errorf("source %q: it has no scheme or no name", op.GetIdentifier())
	}
	attrs := op.GetAttrs()
	switch scheme {
	case "docker-image":
		limit, err := layerLimit(attrs[pb.AttrImageLayerLimit])
		return Image{Ref: rest, LayerLimit: limit, Checksum: attrs[pb.AttrImageChecksum]}, err
	case "oci-layout":
		limit, err := layerLimit(attrs[pb.AttrOCILayoutLayerLimit])
		return Layout{Ref: rest, Store: attrs[pb.AttrOCILayoutStoreID], LayerLimit: limit}, err
	case "local":
		return folder(rest, attrs)
	case "git":
		r, err := git.Parse(op.GetIdentifier(), attrs)
		return Repository{r}, err
	case "http", "https":
		d, err := web.Parse(op.GetIdentifier(), attrs)
		return Download{d}, err
	}
	return nil, &problem.Error{
		Op: "read " + cleanURL(op.GetIdentifier()), Err: fmt.Errorf("sources of scheme %q are not supported", scheme),
		Fix: "Use an image, or a folder of the workspace.",
	}
}

// cleanURL leaves out what may be secret: user, password, query.
func cleanURL(identifier string) string {
	u, err := url.Parse(identifier)
	if err != nil {
		scheme, _, _ := strings.Cut(identifier, "://")
		return scheme + "://..."
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

func layerLimit(value string) (int, error) {
	if value == "" {
		return 0, nil
	}
	limit, err := strconv.Atoi(value)
	if err != nil || limit <= 0 {
		return 0, fmt.Errorf("layer limit %q: it is not a positive number", value)
	}
	return limit, nil
}

// folder reads a local source's attributes. Those that only say how BuildKit
// should transfer the files (session, unique, sharedkeyhint, differ) are of no
// consequence where nothing is transferred.
func folder(name string, attrs map[string]string) (Source, error) {
	f := Folder{Name: name}
	for attr, into := range map[string]*[]string{
		pb.AttrIncludePatterns: &f.Filter.Include,
		pb.AttrExcludePatterns: &f.Filter.Exclude,
		pb.AttrFollowPaths:     &f.Filter.Follow,
	} {
		if attrs[attr] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(attrs[attr]), into); err != nil {
			return nil, fmt.Errorf("source local://%s: attribute %s: %w", name, attr, err)
		}
	}
	if only, err := strconv.ParseBool(attrs[pb.AttrMetadataTransfer]); err == nil && only {
		return nil, fmt.Errorf("source local://%s: transfer of metadata alone is not supported", name)
	}
	return f, nil
}
