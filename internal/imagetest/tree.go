package imagetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// inode is a file of whatever kind. Hard links are several paths with one inode.
type inode struct {
	header *tar.Header
	sum    string
	// text is the content of a short file of printable text.
	text string
}

// Tree is a root filesystem by paths without a leading slash, "" for the root itself.
type Tree map[string]*inode

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// Flatten applies an image's layers one over the other.
func Flatten(img v1.Image) (Tree, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("image layers: %w", err)
	}
	files := Tree{}
	for i, layer := range layers {
		rc, err := layer.Uncompressed()
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		err = files.apply(rc)
		if closeErr := rc.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return files, nil
}

// apply puts one layer over the tree.
func (t Tree) apply(r io.Reader) error {
	lower := maps.Clone(t)
	tr := tar.NewReader(r)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		dir, base := path.Split(name)
		switch {
		case base == opaque:
			t.removeLower(lower, dir)
		case strings.HasPrefix(base, whiteout):
			hidden := dir + strings.TrimPrefix(base, whiteout)
			delete(t, hidden)
			t.removeLower(lower, hidden+"/")
		default:
			if err := t.add(name, header, tr); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
}

// removeLower removes what lower layers hold below the folder prefix, and keeps what
// this layer has put there already.
func (t Tree) removeLower(lower Tree, prefix string) {
	for name, node := range lower {
		if strings.HasPrefix(name, prefix) && name != prefix && t[name] == node {
			delete(t, name)
		}
	}
}

func (t Tree) add(name string, header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeLink {
		target := strings.TrimPrefix(path.Clean("/"+header.Linkname), "/")
		node, ok := t[target]
		if !ok {
			return fmt.Errorf("hard link to %s, which is not there", target)
		}
		t[name] = node
		return nil
	}
	hash := sha256.New()
	var short bytes.Buffer
	if header.Size <= maxText {
		content = io.TeeReader(content, &short)
	}
	if _, err := io.Copy(hash, content); err != nil {
		return err
	}
	if old, ok := t[name]; ok && old.header.Typeflag == tar.TypeDir && header.Typeflag != tar.TypeDir {
		maps.DeleteFunc(t, func(p string, _ *inode) bool { return strings.HasPrefix(p, name+"/") })
	}
	node := &inode{header: header}
	if header.Typeflag == tar.TypeReg {
		node.sum = hex.EncodeToString(hash.Sum(nil))
		if isText(short.String()) {
			node.text = short.String()
		}
	}
	t[name] = node
	return nil
}

// maxText is how long a content may be to be shown, in bytes.
const maxText = 200

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) })
}

// links gives for each inode with several paths all of them, by the first one.
func (t Tree) links() map[string]string {
	groups := map[*inode][]string{}
	for name, node := range t {
		groups[node] = append(groups[node], name)
	}
	links := map[string]string{}
	for _, names := range groups {
		if len(names) < 2 {
			continue
		}
		slices.Sort(names)
		links[names[0]] = strings.Join(names, " ")
	}
	return links
}

func compareTrees(got, want Tree, opts CompareOptions) []Difference {
	diffs := compareMaps("hard links of", got.links(), want.links())
	all := maps.Clone(got)
	maps.Copy(all, want)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		where := "file " + name
		g, w := got[name], want[name]
		switch {
		case g == nil:
			diffs = append(diffs, Difference{where, none, kind(w.header)})
		case w == nil:
			diffs = append(diffs, Difference{where, kind(g.header), none})
		default:
			if opts.AnyContent != nil && opts.AnyContent(name) {
				g, w = g.withoutContent(), w.withoutContent()
			}
			diffs = append(diffs, compareMaps(where, g.facts(), w.facts())...)
			gt, wt := g.header.ModTime, w.header.ModTime
			if !sameTime(gt, wt, opts.Since) {
				diffs = append(diffs, Difference{
					where + " modified", gt.UTC().Format(time.RFC3339Nano), wt.UTC().Format(time.RFC3339Nano),
				})
			}
		}
	}
	return diffs
}

func (n *inode) withoutContent() *inode {
	header := *n.header
	header.Size = 0
	return &inode{header: &header}
}

// facts are what is compared of a file, times and hard links aside.
func (n *inode) facts() map[string]string {
	h := n.header
	facts := map[string]string{
		"kind":  kind(h),
		"mode":  fmt.Sprintf("%04o", h.Mode&0o7777),
		"owner": fmt.Sprintf("%d:%d", h.Uid, h.Gid),
	}
	switch h.Typeflag {
	case tar.TypeReg:
		facts["size"] = fmt.Sprint(h.Size)
		facts["sha256"] = n.sum
	case tar.TypeSymlink:
		facts["target"] = h.Linkname
		delete(facts, "mode") // Linux gives links none.
	case tar.TypeChar, tar.TypeBlock:
		facts["device"] = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	}
	for key, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			facts["xattr "+attr] = hex.EncodeToString([]byte(value))
		}
	}
	return facts
}

func kind(h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "folder"
	case tar.TypeSymlink:
		return "link"
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeFifo:
		return "fifo"
	default:
		return fmt.Sprintf("type %q", h.Typeflag)
	}
}

// sameTime compares to the second, which is what every tar format can hold.
func sameTime(a, b, since time.Time) bool {
	if !since.IsZero() && !a.Before(since) && !b.Before(since) {
		return true
	}
	return a.Unix() == b.Unix()
}
