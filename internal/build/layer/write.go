package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

// WriteOptions says how a layer is written. The zero value works.
type WriteOptions struct {
	// SourceDateEpoch clamps later modification times to it. Default: none.
	SourceDateEpoch *time.Time
	// Compression is how Pack packs the tar. Write does not.
	Compression Compression
}

// Write writes the changes of the folder root as a layer tar and counts its
// entries. Entries are sorted, and the folders above them are included. Hard
// links between the files of the layer stay links. Sockets are left out. Times
// have nanoseconds, whiteouts the time 0. Equal trees give equal bytes.
func Write(ctx context.Context, w io.Writer, root string, changes []Change, opts WriteOptions) (files int, err error) {
	t, err := openTree(root, true)
	if err != nil {
		return 0, fmt.Errorf("layer: %w", err)
	}
	defer t.close()
	buffered := bufio.NewWriterSize(w, 256<<10)
	lw := &layerWriter{
		tar: tar.NewWriter(buffered), tree: t, opts: opts, buf: make([]byte, 256<<10),
		dirs: map[string]struct{}{"": {}}, links: map[inode]string{},
	}
	sorted := slices.Clone(changes)
	slices.SortFunc(sorted, func(a, b Change) int { return walkLess(a.Path, b.Path) })
	for _, change := range sorted {
		if ctx.Err() != nil {
			return lw.files, fmt.Errorf("layer: %w", context.Cause(ctx))
		}
		t.rest()
		if err := lw.change(ctx, change); err != nil {
			return lw.files, fmt.Errorf("layer file %q: %w", change.Path, err)
		}
	}
	if err := errors.Join(lw.tar.Close(), buffered.Flush()); err != nil {
		return lw.files, fmt.Errorf("layer: %w", err)
	}
	return lw.files, nil
}

// inode tells files with several names.
type inode struct{ dev, ino uint64 }

// layerWriter writes one layer.
type layerWriter struct {
	tar   *tar.Writer
	tree  *tree
	opts  WriteOptions
	files int
	buf   []byte
	// dirs holds the folders that have an entry, links the first names of files with more than one.
	dirs  map[string]struct{}
	links map[inode]string
}

func (lw *layerWriter) change(ctx context.Context, c Change) error {
	if clean, err := cleanName(c.Path); err != nil || clean != c.Path || clean == "" {
		return errors.New("not a clean path below the root")
	}
	dir, base := split(c.Path)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return &problem.Error{
			Op:  "write layer",
			Err: fmt.Errorf("the file /%s cannot be in an image: names that begin with %q mark deleted files", c.Path, whiteoutPrefix),
			Fix: "Remove the file in the step that makes it, or pack it into an archive.",
		}
	}
	if c.Kind != Deleted {
		return lw.path(ctx, c.Path)
	}
	if err := lw.parents(ctx, dir); err != nil {
		return err
	}
	lw.files++
	return lw.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: join(dir, whiteoutPrefix+base), ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

// parents writes the folders at and above dir that have no entry yet.
func (lw *layerWriter) parents(ctx context.Context, dir string) error {
	if _, ok := lw.dirs[dir]; ok {
		return nil
	}
	return lw.path(ctx, dir)
}

// path writes one path and its parents.
func (lw *layerWriter) path(ctx context.Context, path string) error {
	if _, ok := lw.dirs[path]; ok {
		return nil
	}
	dir, base := split(path)
	if err := lw.parents(ctx, dir); err != nil {
		return err
	}
	parent, err := lw.tree.find(dir, false)
	if err != nil {
		return err
	}
	st, err := statAt(parent.fd, base)
	if err != nil || isType(st.Mode, unix.S_IFSOCK) {
		return err
	}
	if isType(st.Mode, unix.S_IFREG) {
		return lw.regular(ctx, parent.fd, base, path)
	}
	hdr := lw.header(path, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		hdr.Typeflag, hdr.Name = tar.TypeDir, path+"/"
		lw.dirs[path] = struct{}{}
	case unix.S_IFLNK:
		hdr.Typeflag = tar.TypeSymlink
		if hdr.Linkname, err = readlinkAt(parent.fd, base); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if isType(st.Mode, unix.S_IFBLK) {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	default:
		return fmt.Errorf("unknown type %o", st.Mode&unix.S_IFMT)
	}
	if lw.linked(hdr, path, &st) {
		return lw.write(hdr, nil)
	}
	attrs, err := xattrsOfPath(procPath(parent.fd, base)).carried()
	if err != nil {
		return err
	}
	return lw.write(hdr, attrs)
}

// regular writes a regular file.
func (lw *layerWriter) regular(ctx context.Context, dirfd int, base, path string) error {
	// Not blocking, should it have become a fifo.
	fd, err := openAt(dirfd, base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		return err
	}
	hdr := lw.header(path, &st)
	hdr.Typeflag = tar.TypeReg
	if lw.linked(hdr, path, &st) {
		return lw.write(hdr, nil)
	}
	hdr.Size = st.Size
	attrs, err := xattrsOfFD(fd).carried()
	if err != nil {
		return err
	}
	if err = lw.write(hdr, attrs); err != nil {
		return err
	}
	return lw.content(ctx, fd, st.Size)
}

func (lw *layerWriter) content(ctx context.Context, fd int, size int64) error {
	for left := size; left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := unix.Read(fd, lw.buf[:min(left, int64(len(lw.buf)))])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("became shorter while it was read: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		if _, err := lw.tar.Write(lw.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// header gives what all types of files have in common. No user names: they are the machine's.
func (lw *layerWriter) header(path string, st *unix.Stat_t) *tar.Header {
	mtime := time.Unix(st.Mtim.Unix())
	if epoch := lw.opts.SourceDateEpoch; epoch != nil && mtime.After(*epoch) {
		mtime = *epoch
	}
	return &tar.Header{
		Name: path, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: mtime, Format: tar.FormatPAX,
	}
}

// linked makes hdr a hard link if the layer has the file under another name.
func (lw *layerWriter) linked(hdr *tar.Header, path string, st *unix.Stat_t) bool {
	if st.Nlink < 2 || isType(st.Mode, unix.S_IFDIR) {
		return false
	}
	id := inode{dev: st.Dev, ino: st.Ino}
	first, ok := lw.links[id]
	if !ok {
		lw.links[id] = path
		return false
	}
	hdr.Typeflag, hdr.Linkname, hdr.Devmajor, hdr.Devminor = tar.TypeLink, first, 0, 0
	return true
}

func (lw *layerWriter) write(hdr *tar.Header, attrs xattrs) error {
	for name, value := range attrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[xattrPrefix+name] = value
	}
	lw.files++
	return lw.tar.WriteHeader(hdr)
}
