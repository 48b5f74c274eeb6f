package layer

import (
	"context"
	"errors"
)

// Upper lists the changes that the upper folder of an overlayfs mount holds,
// sorted. lowers are the mount's lower folders, topmost first, or one folder:
// the merged view of them. Deleted content of opaque folders is listed path by
// path. A file that was copied up but has the same attributes and content is
// left out. Mounts with redirect_dir or metacopy are refused.
func Upper(ctx context.Context, upper string, lowers []string) ([]Change, error) {
	return nil, errors.ErrUnsupported
}
