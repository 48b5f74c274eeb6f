package layer

import (
	"context"
	"errors"
	"time"
)

// ScanOptions says how a folder is read. The zero value reads everything.
type ScanOptions struct {
	// Jobs bounds how many folders are read at once. Default: the number of CPUs.
	Jobs int
}

// Index is what a folder held at one time.
type Index struct {
	entries []entry
	latest  time.Time
}

type entry struct{ path string }

// Scan reads what root holds. It does not enter folders on other devices than
// root's, and leaves out sockets, which no layer can hold.
func Scan(ctx context.Context, root string, opts ScanOptions) (*Index, error) {
	return nil, errors.ErrUnsupported
}

// Len is the number of paths below the folder.
func (x *Index) Len() int { return len(x.entries) }

// Latest is the newest change time (ctime) of them; zero when there are none.
func (x *Index) Latest() time.Time { return x.latest }

// Settle waits until the clock of the filesystem that dir is on has ticked past
// x's newest change time, so that every later change in the scanned folder
// shows. It takes a few milliseconds at most.
func Settle(ctx context.Context, dir string, x *Index) error {
	return errors.ErrUnsupported
}

// Compare lists the changes from before to after, sorted.
//
// A regular file counts as modified when its inode, its change time or any of
// its attributes differ: its content is not read. For the paths in touched the
// change time is ignored: a sandbox renamed them. Other files count when their
// attributes differ. As with BuildKit, a folder's times alone are no change.
func Compare(before, after *Index, touched map[string]bool) []Change {
	return nil
}
