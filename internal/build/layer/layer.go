// Package layer converts between OCI layer tars and folders.
//
// Apply unpacks a layer, Scan and Compare or Upper find what changed, Write and
// Pack make a layer of the changes. Equal input gives equal bytes: entries are
// sorted, times may be clamped, no user names are written.
//
// The format is the image specification's:
// https://github.com/opencontainers/image-spec/blob/main/layer.md
package layer

import (
	"strings"
)

// Kind says what happened to a path.
type Kind int

// The kinds of changes.
const (
	// Added paths did not exist before.
	Added Kind = iota + 1
	// Modified paths existed before, perhaps as another type of file.
	Modified
	// Deleted paths exist no more. What was below them is not listed.
	Deleted
)

// String gives the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Added:
		return "added"
	case Modified:
		return "modified"
	case Deleted:
		return "deleted"
	default:
		return "unknown"
	}
}

// Change is one difference between two states of a folder.
type Change struct {
	// Path is relative to the folder, slash-separated, without a leading "./".
	Path string
	Kind Kind
}

// The names that have a meaning of their own in a layer tar.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	// reservedPrefix begins the names of AUFS's own files, which old engines leaked into layers.
	reservedPrefix = ".wh..wh."
)

// xattrPrefix begins the PAX records that hold extended attributes.
const xattrPrefix = "SCHILY.xattr."

// carried reports whether a layer carries the extended attribute name.
// Labels of the machine (SELinux, IMA) and what overlayfs notes for itself
// are not part of an image, and trusted.* can only be read with privileges
// that one of the sandboxes lacks: the layer would depend on where it was built.
func carried(name string) bool {
	switch {
	case strings.HasPrefix(name, "user.overlay."), strings.Contains(name, "="):
		return false // PAX records cannot hold a "=" in a name.
	case strings.HasPrefix(name, "user."):
		return true
	}
	return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// walkLess orders paths as a walk does that visits a folder, then its children
// sorted by name: as if the separator were the smallest byte.
func walkLess(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

// below reports whether path lies below the folder dir.
func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}
