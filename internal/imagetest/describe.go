package imagetest

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Describer writes images down as text: two images that a container cannot tell
// apart have the same one.
type Describer struct {
	// Names stands for content that differs between machines, by its SHA-256.
	Names map[string]string
	// Context is the modification time of what is in build contexts. Of a folder it
	// is written as "run": when BuildKit transfers a context, the files that arrive
	// in a folder give it a new time, or not, depending on what comes first.
	Context time.Time
	// NoAttributes leaves out the extended attributes that BuildKit's layers lack:
	// all but the capabilities.
	NoAttributes bool

	bases []describedBase
}

type describedBase struct {
	name    string
	diffIDs []v1.Hash
	lines   map[string]string
}

// AddBase makes an image known under a name: of an image on top of it only the
// differences are written down.
func (d *Describer) AddBase(name string, img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("base %s: %w", name, err)
	}
	files, err := Flatten(img)
	if err != nil {
		return fmt.Errorf("base %s: %w", name, err)
	}
	d.bases = append(d.bases, describedBase{name, config.RootFS.DiffIDs, d.lines(files, time.Time{})})
	return nil
}

// Describe gives an image's config and history without times, its base, the
// number of its layers, and each path that is not as in the base. A modification
// time at or after since is written as "run": somebody wrote the file then. Others
// are given to the second, as BuildKit keeps them.
func (d *Describer) Describe(img v1.Image, since time.Time) (string, error) {
	doc, history, layers, err := parts(img)
	if err != nil {
		return "", err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("image config: %w", err)
	}
	files, err := Flatten(img)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		fmt.Fprintf(&out, "config %s = %s\n", key, doc[key])
	}
	for _, line := range history {
		fmt.Fprintf(&out, "history %s\n", line)
	}
	base := d.baseOf(config.RootFS.DiffIDs)
	fmt.Fprintf(&out, "layers %d\n", layers)
	if base.name != "" {
		fmt.Fprintf(&out, "on top of %s\n", base.name)
	}
	lines := d.lines(files, since)
	all := maps.Clone(lines)
	maps.Copy(all, base.lines)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		line, ok := lines[name]
		switch {
		case !ok:
			fmt.Fprintf(&out, "%s removed\n", quote("/"+name))
		case line != base.lines[name]:
			fmt.Fprintf(&out, "%s %s\n", quote("/"+name), line)
		}
	}
	return out.String(), nil
}

// baseOf finds the base with the most layers that an image starts with.
func (d *Describer) baseOf(diffIDs []v1.Hash) describedBase {
	var found describedBase
	for _, b := range d.bases {
		n := len(b.diffIDs)
		if n > len(found.diffIDs) && n <= len(diffIDs) && slices.Equal(b.diffIDs, diffIDs[:n]) {
			found = b
		}
	}
	return found
}

func (d *Describer) lines(files Tree, since time.Time) map[string]string {
	links := files.links()
	lines := make(map[string]string, len(files))
	for name, node := range files {
		lines[name] = d.line(node, links[name], since)
	}
	return lines
}

func (d *Describer) line(n *inode, links string, since time.Time) string {
	h := n.header
	words := []string{kind(h)}
	if h.Typeflag != tar.TypeSymlink {
		words = append(words, fmt.Sprintf("%04o", h.Mode&0o7777))
	}
	words = append(words, fmt.Sprintf("%d:%d", h.Uid, h.Gid))
	switch h.Typeflag {
	case tar.TypeReg:
		if name, ok := d.Names[n.sum]; ok {
			words = append(words, "content="+name)
			break
		}
		if n.text != "" || h.Size == 0 {
			words = append(words, "text="+strconv.Quote(n.text))
			break
		}
		words = append(words, "size="+strconv.FormatInt(h.Size, 10), "sha256="+n.sum[:16])
	case tar.TypeSymlink:
		words = append(words, "-> "+quote(h.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		words = append(words, fmt.Sprintf("device=%d:%d", h.Devmajor, h.Devminor))
	}
	when := h.ModTime.UTC().Truncate(time.Second).Format(time.RFC3339)
	if !since.IsZero() && (!h.ModTime.Before(since) || h.Typeflag == tar.TypeDir && h.ModTime.Unix() == d.Context.Unix()) {
		when = "run"
	}
	words = append(words, "mtime="+when)
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && (!d.NoAttributes || attr == "security.capability") {
			words = append(words, fmt.Sprintf("%s=%x", quote(attr), h.PAXRecords[key]))
		}
	}
	if links != "" {
		words = append(words, "links="+quote(links))
	}
	return strings.Join(words, " ")
}

// quote keeps a name to one line of UTF-8.
func quote(s string) string {
	quoted := strconv.Quote(s)
	if quoted[1:len(quoted)-1] == s && !strings.ContainsFunc(s, unicode.IsSpace) {
		return s
	}
	return quoted
}
