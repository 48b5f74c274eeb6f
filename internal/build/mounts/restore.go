package mounts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// restoreJobs is how many packs are fetched and unpacked at once.
const restoreJobs = 4

// sum is a SHA-256.
type sum [sha256.Size]byte

// piece is where a chunk goes.
type piece struct {
	entry  int
	offset int64
}

// restorer puts an index on disk.
type restorer struct {
	set   *Set
	index *index
	root  *os.Root
	// pieces has the places of each chunk, sizes its bytes.
	pieces [][]piece
	sizes  []int64
}

// fill puts what x lists into dir, and says what the files are like then.
func (s *Set) fill(ctx context.Context, x *index, dir string) (*footprint, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // its files are closed
	r := &restorer{set: s, index: x, root: root}
	if r.sizes, err = x.sizes(); err != nil {
		return nil, err
	}
	r.pieces = make([][]piece, len(r.sizes))
	for i, e := range x.Entries {
		if err := r.begin(i, e); err != nil {
			return nil, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(restoreJobs)
	first := 0
	for _, p := range x.Packs {
		from := first
		first += len(p.Chunks)
		group.Go(func() error {
			if err := r.unpack(ctx, p, from); err != nil {
				return fmt.Errorf("pack %s: %w", p.Blob, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return footprintOf(dir, x)
}

// begin makes folders and links, and the files that come in several pieces or in none.
func (r *restorer) begin(i int, e entry) error {
	var at int64
	for _, c := range e.Chunks {
		r.pieces[c] = append(r.pieces[c], piece{i, at})
		at += r.sizes[c]
	}
	switch {
	case e.Path == ".":
		return nil
	case e.Kind == kindFolder:
		return r.root.Mkdir(e.Path, 0o700)
	case e.Kind == kindLink:
		return r.root.Symlink(e.Link, e.Path)
	case e.Kind == kindFile && len(e.Chunks) != 1:
		f, err := r.root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return nil
}

// unpack writes the chunks of one pack, the first of which is number from.
func (r *restorer) unpack(ctx context.Context, p pack, from int) error {
	wanted := slices.ContainsFunc(r.pieces[from:from+len(p.Chunks)], func(to []piece) bool { return len(to) > 0 })
	if !wanted {
		return nil
	}
	in, err := r.set.open(ctx, p.Blob)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	buf := make([]byte, 0, 64<<10)
	for i, c := range p.Chunks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buf = slices.Grow(buf[:0], int(c.Size))[:c.Size]
		if _, err := io.ReadFull(in, buf); err != nil {
			return err
		}
		if got := sha256.Sum256(buf); !bytes.Equal(got[:], c.Sum) {
			return fmt.Errorf("chunk %d is %x, not %x", i, got, c.Sum)
		}
		for _, to := range r.pieces[from+i] {
			if err := r.put(to, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes a piece of a file, and all else about a file that has only one.
func (r *restorer) put(to piece, data []byte) error {
	e := r.index.Entries[to.entry]
	if len(e.Chunks) > 1 {
		f, err := r.root.OpenFile(e.Path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(data, to.offset)
		return errors.Join(err, f.Close())
	}
	f, err := r.root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = r.dress(f, e)
	}
	return errors.Join(err, f.Close())
}

// dress gives an open file or folder its owner, mode and time.
func (r *restorer) dress(f *os.File, e entry) error {
	fd := int(f.Fd())
	if !r.set.opts.IgnoreOwner && (e.UID != 0 || e.GID != 0) {
		if err := unix.Fchown(fd, e.UID, e.GID); err != nil {
			return fmt.Errorf("%s: owner %d:%d: %w", e.Path, e.UID, e.GID, err)
		}
	}
	if err := unix.Fchmod(fd, e.Mode&0o7777); err != nil {
		return fmt.Errorf("%s: mode %o: %w", e.Path, e.Mode, err)
	}
	t := unix.NsecToTimeval(e.Time)
	if err := unix.Futimes(fd, []unix.Timeval{t, t}); err != nil {
		return fmt.Errorf("%s: time: %w", e.Path, err)
	}
	return nil
}

// finish does what is left once all content is there: folders come last, inner
// ones first, as they may forbid to enter and their times change with what is in them.
func (r *restorer) finish() error {
	for _, e := range r.index.Entries {
		var err error
		switch {
		case e.Kind == kindHard:
			err = r.root.Link(e.Link, e.Path)
		case e.Kind == kindLink && !r.set.opts.IgnoreOwner:
			err = r.root.Lchown(e.Path, e.UID, e.GID)
		case e.Kind == kindFile && len(e.Chunks) != 1:
			err = r.dressAt(e)
		}
		if err != nil {
			return err
		}
	}
	for _, e := range slices.Backward(r.index.Entries) {
		if e.Kind != kindFolder {
			continue
		}
		if err := r.dressAt(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *restorer) dressAt(e entry) error {
	f, err := r.root.Open(e.Path)
	if err != nil {
		return err
	}
	return errors.Join(r.dress(f, e), f.Close())
}

// footprint is how a restored folder's files looked to the filesystem: one that
// looks the same later has not been written to.
type footprint struct {
	files map[string]identity
	// settled is the filesystem's clock when all was there. A file that was changed
	// in the same tick may be changed once more without showing it.
	settled time.Time
}

type identity struct {
	ino   uint64
	size  int64
	ctime unix.Timespec
}

func identityOf(st *unix.Stat_t) identity { return identity{st.Ino, st.Size, st.Ctim} }

func footprintOf(dir string, x *index) (*footprint, error) {
	at := &footprint{files: make(map[string]identity, len(x.Entries))}
	for _, e := range x.Entries {
		if e.Kind != kindFile {
			continue
		}
		var st unix.Stat_t
		name := filepath.Join(dir, e.Path)
		if err := unix.Lstat(name, &st); err != nil {
			return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		at.files[e.Path] = identityOf(&st)
	}
	probe, err := os.CreateTemp(filepath.Dir(dir), ".tick-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(probe.Name()) //nolint:errcheck // a name in a folder of ours
	defer probe.Close()           //nolint:errcheck // it is empty
	var st unix.Stat_t
	if err := unix.Fstat(int(probe.Fd()), &st); err != nil {
		return nil, err
	}
	at.settled = time.Unix(st.Ctim.Unix())
	return at, nil
}

// unchanged says whether the file at path is the one that was restored.
func (f *footprint) unchanged(path string, st *unix.Stat_t) bool {
	if f == nil {
		return false
	}
	was, known := f.files[path]
	return known && was == identityOf(st) && time.Unix(st.Ctim.Unix()).Before(f.settled)
}
