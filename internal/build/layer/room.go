package layer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

// roomStep is how much may be taken between two looks at the disk, in bytes.
const roomStep = 16 << 20

// Room is what the filesystem of a folder has left. What strangers packed may be
// a thousand times as large as it was downloaded, so it is asked before each
// large file. It is not for several goroutines at once.
type Room struct {
	dir   string
	taken uint64
	free  func(dir string) (bytes, files uint64, known bool)
}

// NewRoom watches the filesystem that the folder dir is on.
func NewRoom(dir string) *Room { return &Room{dir: dir, free: freeSpace} }

// Take says that the file name of size bytes is to be written. It is an error
// that a user can read if the disk has no room for it.
func (r *Room) Take(name string, size int64) error {
	want := uint64(max(size, 0))
	if want < roomStep && r.taken+want < roomStep {
		r.taken += want
		return nil
	}
	r.taken = 0
	free, _, known := r.free(r.dir)
	if !known || want < free {
		return nil
	}
	return full(fmt.Errorf("disk full: the file %s has %s, and %s are free at %s", name, inBytes(want), inBytes(free), r.dir))
}

// Full explains an error that came from a full disk to the user, saying how much
// the filesystem of the folder dir has left, in the place of whatever else somebody
// took the error for. Other errors stay as they are, and so does one that Full has
// explained.
func Full(err error, dir string) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	if known, ok := errors.AsType[*problem.Error](err); ok {
		if known.Op == fullOp {
			return err
		}
		err = known.Err
	}
	bytes, files, known := freeSpace(dir)
	if !known {
		return full(fmt.Errorf("disk full: %w", err))
	}
	if files == 0 {
		return full(fmt.Errorf("disk full: the filesystem at %s has no inodes left: %w", dir, err))
	}
	return full(fmt.Errorf("disk full: %s are free at %s: %w", inBytes(bytes), dir, err))
}

// fullOp is what could not be done when the disk is full.
const fullOp = "write the image's files"

func full(err error) error {
	return &problem.Error{
		Op: fullOp, Err: err,
		Fix: "Remove what the job does not need from the runner's disk in a step before this one, use a runner with a larger disk, or use smaller images.",
	}
}

// freeSpace asks how many bytes and files a filesystem has left for users
// without privileges. Some filesystems do not know.
func freeSpace(dir string) (bytes, files uint64, known bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 {
		return 0, 0, false
	}
	files = st.Ffree
	if st.Files == 0 {
		files = 1 // Inodes are made as they are needed, as on btrfs.
	}
	return st.Bavail * uint64(st.Bsize), files, true
}

func inBytes(n uint64) string {
	for _, unit := range []struct {
		name string
		size uint64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
