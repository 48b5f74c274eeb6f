package layer

import (
	"context"
	"errors"
	"io"
)

// ApplyOptions says how a layer is unpacked. The zero value unpacks everything
// upon the layers below.
type ApplyOptions struct {
	// Outline makes the tree without the files' content: regular files are made
	// empty, with their mode, owner, times, extended attributes and hard links,
	// but for those that Keep says true for.
	Outline bool
	// Keep is asked with Outline, by the path in the tar: relative and
	// slash-separated. Nil keeps none. A hard link's content comes with the name
	// that the tar has it under: see ApplyResult.Hollow.
	Keep func(path string) bool
	// Overlay makes the folder a layer of its own for overlayfs, with its
	// whiteouts: character device 0/0 and the attribute trusted.overlay.opaque.
	Overlay bool
	// UserXattr makes Overlay write user.overlay.opaque, for mounts with userxattr.
	UserXattr bool
	// Lower lists, topmost first, the folders of the layers below for Overlay: a
	// folder that the tar implies without an entry takes its mode, owner and
	// times from there.
	Lower []string
	// IgnoreOwner leaves every file to the caller, for user namespaces that map a
	// single ID. Devices are left out where they cannot be made.
	IgnoreOwner bool
}

// ApplyResult says what a layer held.
type ApplyResult struct {
	// Files counts the entries that were unpacked.
	Files int
	// Bytes counts the content that was written.
	Bytes int64
	// Hollow lists the names in the tar whose content Outline left out although
	// Keep wanted one of their hard links.
	Hollow []string
	// Lost lists, as "path: name", extended attributes that the filesystem or
	// missing privileges did not take.
	Lost []string
}

// Apply unpacks the uncompressed layer tar upon the folder root, which holds
// the layers below. It never touches anything outside root, whatever the tar's
// names and links say: links are resolved as if root were "/". The reader is
// read to its end. A name that leads out of root is an error.
func Apply(ctx context.Context, root string, r io.Reader, opts ApplyOptions) (ApplyResult, error) {
	return ApplyResult{}, errors.ErrUnsupported
}
