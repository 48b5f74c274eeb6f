package mounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/restic/chunker"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// How content is cut. Files below minChunk are one chunk.
const (
	minChunk = 512 << 10
	maxChunk = 4 << 20
	// polynomial is where cuts are made; another one would find nothing again.
	polynomial = chunker.Pol(0x3DA3358B4DC173)
)

// survey is what a mount's folder holds now.
type survey struct {
	dir     string
	entries []entry
	// content has the chunks of each entry of kindFile.
	content map[int][]chunk
	files   int
	size    int64
}

// surveyFolder reads dir. Content is read only of files that were not restored
// as they are, by before and its index, which may be nil.
func surveyFolder(ctx context.Context, dir string, before *footprint, x *index) (*survey, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // read only
	s := &survey{dir: dir, content: map[int][]chunk{}}
	w := &walk{survey: s, before: before, names: map[inode]string{}, known: x.contents()}
	err = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		return w.visit(name)
	})
	if err != nil {
		return nil, err
	}
	found := make([][]chunk, len(w.fresh))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(numbers(len(w.fresh)), 1+len(w.fresh)/(4*runtime.GOMAXPROCS(0))) {
		group.Go(func() error {
			for _, n := range part {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				e := s.entries[w.fresh[n]]
				var err error
				if found[n], err = cut(root, e); err != nil {
					return fmt.Errorf("%s: %w", e.Path, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for n, i := range w.fresh {
		s.content[i] = found[n]
	}
	return s, nil
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// contents are the chunks of an index's files.
func (x *index) contents() map[string][]chunk {
	if x == nil {
		return nil
	}
	all := x.chunks()
	known := make(map[string][]chunk, len(x.Entries))
	for _, e := range x.Entries {
		if e.Kind != kindFile {
			continue
		}
		parts := make([]chunk, len(e.Chunks))
		for i, c := range e.Chunks {
			parts[i] = all[c]
		}
		known[e.Path] = parts
	}
	return known
}

// chunks lists those of all packs, by their numbers.
func (x *index) chunks() []chunk {
	var all []chunk
	for _, p := range x.Packs {
		all = append(all, p.Chunks...)
	}
	return all
}

type inode struct{ dev, ino uint64 }

// walk lists what is in a folder.
type walk struct {
	survey *survey
	before *footprint
	// names has the first name of files with several.
	names map[inode]string
	known map[string][]chunk
	// fresh are the files whose content is to be read.
	fresh []int
}

// visit lists one path. Devices, pipes and sockets are left out.
func (w *walk) visit(name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	rel, err := filepath.Rel(w.survey.dir, name)
	if err != nil {
		return err
	}
	e := entry{Path: rel, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), Time: st.Mtim.Nano() / 1000 * 1000}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = kindFolder
	case unix.S_IFLNK:
		e.Kind, e.Time = kindLink, 0
		if e.Link, err = os.Readlink(name); err != nil {
			return err
		}
	case unix.S_IFREG:
		w.file(&e, &st)
	default:
		return nil
	}
	w.survey.entries = append(w.survey.entries, e)
	return nil
}

func (w *walk) file(e *entry, st *unix.Stat_t) {
	s := w.survey
	s.files++
	id := inode{st.Dev, st.Ino}
	if first, named := w.names[id]; named {
		*e = entry{Path: e.Path, Kind: kindHard, Link: first}
		return
	}
	if st.Nlink > 1 {
		w.names[id] = e.Path
	}
	e.Kind, e.Size = kindFile, st.Size
	s.size += st.Size
	at := len(s.entries)
	if parts, ok := w.known[e.Path]; ok && w.before.unchanged(e.Path, st) {
		s.content[at] = parts
		return
	}
	w.fresh = append(w.fresh, at)
}

// same says whether a folder is as it was restored. The times of folders do not
// count: whoever makes and removes a lock file changes them.
func (s *survey) same(x *index) bool {
	if x == nil || len(s.entries) != len(x.Entries) {
		return false
	}
	known := x.contents()
	for i, e := range s.entries {
		was := x.Entries[i]
		was.Chunks = nil
		if e.Kind == kindFolder {
			was.Time, e.Time = 0, 0
		}
		if !equal(e, was) || !slices.EqualFunc(s.content[i], known[e.Path], func(a, b chunk) bool {
			return a.Size == b.Size && slices.Equal(a.Sum, b.Sum)
		}) {
			return false
		}
	}
	return true
}

func equal(a, b entry) bool {
	return a.Path == b.Path && a.Kind == b.Kind && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID &&
		a.Time == b.Time && a.Size == b.Size && a.Link == b.Link
}

// cut reads a file and says what chunks it is made of.
func cut(root *os.Root, e entry) ([]chunk, error) {
	f, err := root.OpenFile(e.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	chunks, err := cutContent(f, e.Size)
	if err != nil {
		return nil, err
	}
	var size int64
	for _, c := range chunks {
		size += c.Size
	}
	if size != e.Size {
		return nil, fmt.Errorf("it had %d bytes and has %d", e.Size, size)
	}
	return chunks, nil
}

// cutContent cuts what r gives, which is about size bytes.
func cutContent(r io.Reader, size int64) ([]chunk, error) {
	if size == 0 {
		return nil, nil
	}
	if size <= minChunk {
		hash := sha256.New()
		n, err := io.Copy(hash, io.LimitReader(r, maxChunk))
		return []chunk{{Sum: hash.Sum(nil), Size: n}}, err
	}
	var chunks []chunk
	buf := make([]byte, maxChunk)
	cutter := chunker.NewWithBoundaries(r, polynomial, minChunk, maxChunk)
	for {
		part, err := cutter.Next(buf)
		if errors.Is(err, io.EOF) {
			return chunks, nil
		}
		if err != nil {
			return nil, err
		}
		hash := sha256.Sum256(part.Data)
		chunks = append(chunks, chunk{Sum: hash[:], Size: int64(len(part.Data))})
	}
}
