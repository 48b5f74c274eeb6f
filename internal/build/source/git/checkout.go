package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

// streamed is the size in bytes from which a file is not held in memory.
const streamed = 8 << 20

// Checkout writes the files of a resolved commit into the empty folder dest.
// Work is a folder on the same filesystem for what is downloaded meanwhile; it
// is made, and it is the caller's to remove.
//
// Folders and executable files get mode 0755, other files 0644, whatever the
// umask. No path leads out of dest, and Subdir may not go through a link.
func (f *Fetcher) Checkout(ctx context.Context, r Repository, commit Commit, work, dest string) error {
	root, err := os.OpenRoot(dest)
	if err != nil {
		return fmt.Errorf("git checkout: %w", err)
	}
	defer root.Close() //nolint:errcheck // a folder
	out := &checkout{fetcher: f, repo: r, work: work, root: root}
	top := module{remote: r.Remote}
	if err := out.load(ctx, &top, commit.Hash); err != nil {
		return err
	}
	defer top.close()
	if out.repo.Checksum != "" && !strings.HasPrefix(top.hash, r.Checksum) && !strings.HasPrefix(top.commit.Hash.String(), r.Checksum) {
		return r.mismatch(top.hash)
	}
	if r.CommitTime {
		out.time = top.commit.Committer.When
	}
	keep := r.KeepGitDir && r.Subdir == ""
	if keep {
		out.index = &index.Index{Version: 2}
	}
	if err := out.subdir(ctx, &top, top.tree, r.Subdir, 0); err != nil {
		return err
	}
	if keep {
		if err := keepGitDir(r, commit, &top, out.index, dest); err != nil {
			return fmt.Errorf("git folder of %s: %w", r.Name(), err)
		}
	}
	return out.setTime(".")
}

// Objects gives the commit as git stores it and, where the reference names an
// annotated tag, that tag. Work is as with Checkout.
func (f *Fetcher) Objects(ctx context.Context, r Repository, commit Commit, work string) (found Commit, rawCommit, rawTag []byte, err error) {
	out := &checkout{fetcher: f, repo: r, work: work}
	top := module{remote: r.Remote}
	if err = out.load(ctx, &top, commit.Hash); err != nil {
		return commit, nil, nil, err
	}
	defer top.close()
	if rawCommit, err = top.raw(plumbing.CommitObject, top.commit.Hash); err != nil {
		return commit, nil, nil, err
	}
	commit.Peeled = ""
	if top.hash != top.commit.Hash.String() {
		commit.Peeled = top.commit.Hash.String()
		rawTag, err = top.raw(plumbing.TagObject, plumbing.NewHash(top.hash))
	}
	return commit, rawCommit, rawTag, err
}

// module is the repository itself, or one of its submodules, at one commit.
type module struct {
	remote string
	store  *filesystem.Storage
	dir    string
	// hash is what was asked for: the commit, or a tag that names it.
	hash   string
	commit *object.Commit
	tree   *object.Tree
	// within are the submodules that the commit lists, by their paths.
	within map[string]submodule
	// fetched is whether within was read.
	fetched bool
}

func (m *module) close() {
	if m.store != nil {
		_ = m.store.Close() // read only by now
	}
}

func (m *module) raw(kind plumbing.ObjectType, hash plumbing.Hash) ([]byte, error) {
	encoded, err := m.store.EncodedObject(kind, hash)
	if err != nil {
		return nil, fmt.Errorf("git object %s: %w", hash, err)
	}
	r, err := encoded.Reader()
	if err != nil {
		return nil, fmt.Errorf("git object %s: %w", hash, err)
	}
	defer r.Close() //nolint:errcheck // read only
	return io.ReadAll(r)
}

// checkout is one writing of files.
type checkout struct {
	fetcher *Fetcher
	repo    Repository
	work    string
	root    *os.Root
	// time is what files get; zero leaves them as they come.
	time time.Time
	// index lists what was written, where somebody wants to know.
	index *index.Index
	// modules counts repositories, for their folders' names.
	modules int
}

// load fetches m at the commit that hash names.
func (c *checkout) load(ctx context.Context, m *module, hash string) error {
	m.dir = filepath.Join(c.work, fmt.Sprintf("repository-%d", c.modules))
	c.modules++
	if err := os.MkdirAll(m.dir, 0o755); err != nil { //nolint:gosec // may become part of an image
		return fmt.Errorf("git store: %w", err)
	}
	m.store = filesystem.NewStorageWithOptions(osfs.New(m.dir, osfs.WithBoundOS()), cache.NewObjectLRUDefault(),
		filesystem.Options{LargeObjectThreshold: streamed})
	if err := m.store.Init(); err != nil {
		return fmt.Errorf("git store: %w", err)
	}
	conn, err := c.fetcher.open(ctx, c.repo, m.remote)
	if err != nil {
		return err
	}
	err = conn.fetch(ctx, m.store, hash)
	conn.close()
	if err != nil {
		return err
	}
	m.hash = hash
	if m.commit, err = m.peel(plumbing.NewHash(hash)); err != nil {
		return fmt.Errorf("git repository %s: %w", c.repo.Name(), err)
	}
	if m.tree, err = m.commit.Tree(); err != nil {
		return fmt.Errorf("git repository %s: commit %s: %w", c.repo.Name(), hash, err)
	}
	return nil
}

// peel follows annotated tags to their commit.
func (m *module) peel(hash plumbing.Hash) (*object.Commit, error) {
	for range 16 {
		tag, err := object.GetTag(m.store, hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return object.GetCommit(m.store, hash)
		}
		if err != nil {
			return nil, err
		}
		hash = tag.Target
	}
	return nil, fmt.Errorf("tag %s leads to too many others", hash)
}

// subdir writes the folder at dir of a tree, and of the submodules on the way.
func (c *checkout) subdir(ctx context.Context, m *module, tree *object.Tree, dir string, depth int) error {
	at := ""
	for dir != "" {
		name, rest, _ := strings.Cut(dir, "/")
		entry, err := tree.FindEntry(name)
		switch {
		case err != nil:
			return c.noFolder(fmt.Errorf("%s does not exist at commit %s", path.Join(at, name), m.commit.Hash))
		case entry.Mode == filemode.Submodule:
			inner, skipped, enterErr := c.enter(ctx, m, path.Join(at, name), entry.Hash, depth)
			if enterErr != nil || skipped {
				return enterErr
			}
			defer inner.close()
			return c.subdir(ctx, inner, inner.tree, rest, depth+1)
		case entry.Mode != filemode.Dir:
			return c.noFolder(fmt.Errorf("%s is not a folder", path.Join(at, name)))
		}
		if tree, err = object.GetTree(m.store, entry.Hash); err != nil {
			return fmt.Errorf("git tree %s: %w", entry.Hash, err)
		}
		at, dir = path.Join(at, name), rest
	}
	return c.tree(ctx, place{module: m, tree: tree, in: at, at: ".", depth: depth})
}

func (c *checkout) noFolder(err error) error {
	return &problem.Error{Op: "read " + c.repo.Name(), Err: err, Fix: "Correct the folder after the colon in URL#REF:FOLDER."}
}

// place is a tree and where it goes.
type place struct {
	module *module
	tree   *object.Tree
	// in is the tree's path in its module, at its path in the destination.
	in, at string
	depth  int
}

// maxDepth is how deep folders and submodules may be nested.
const maxDepth = 4096

func (c *checkout) tree(ctx context.Context, p place) error {
	if strings.Count(p.at, "/") > maxDepth {
		return fmt.Errorf("git tree: %.100s...: too many folders in folders", p.at)
	}
	for _, entry := range p.tree.Entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !safeName(entry.Name) {
			return fmt.Errorf("git repository %s: no file can have the name %q", c.repo.Name(), entry.Name)
		}
		at := path.Join(p.at, entry.Name)
		if err := c.entry(ctx, p, entry, at); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

// safeName refuses what git refuses: paths, and folders that git would obey.
func safeName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.EqualFold(name, ".git") && !strings.ContainsAny(name, "/\x00")
}

func (c *checkout) entry(ctx context.Context, p place, entry object.TreeEntry, at string) error {
	in := path.Join(p.in, entry.Name)
	switch entry.Mode {
	case filemode.Dir:
		tree, err := object.GetTree(p.module.store, entry.Hash)
		if err != nil {
			return err
		}
		if err := c.mkdir(at); err != nil {
			return err
		}
		if err := c.tree(ctx, place{module: p.module, tree: tree, in: in, at: at, depth: p.depth}); err != nil {
			return err
		}
		return c.setTime(at)
	case filemode.Submodule:
		if err := c.mkdir(at); err != nil {
			return err
		}
		if err := c.list(p, entry, at, 0); err != nil {
			return err
		}
		inner, skipped, err := c.enter(ctx, p.module, in, entry.Hash, p.depth)
		if err != nil {
			return err
		}
		if !skipped {
			defer inner.close()
			if err := c.tree(ctx, place{module: inner, tree: inner.tree, at: at, depth: p.depth + 1}); err != nil {
				return err
			}
		}
		return c.setTime(at)
	default:
		size, err := c.blob(p.module, entry, at)
		if err != nil {
			return err
		}
		return c.list(p, entry, at, size)
	}
}

func (c *checkout) mkdir(at string) error {
	if err := c.root.Mkdir(at, 0o755); err != nil {
		return err
	}
	return c.root.Chmod(at, 0o755)
}

// blob writes a file or a link.
func (c *checkout) blob(m *module, entry object.TreeEntry, at string) (int64, error) {
	blob, err := object.GetBlob(m.store, entry.Hash)
	if err != nil {
		return 0, err
	}
	content, err := blob.Reader()
	if err != nil {
		return 0, err
	}
	defer content.Close() //nolint:errcheck // read only
	mode := os.FileMode(0o644)
	switch entry.Mode {
	case filemode.Symlink:
		target, readErr := io.ReadAll(io.LimitReader(content, unix.PathMax))
		if readErr != nil {
			return 0, readErr
		}
		if err = c.root.Symlink(string(target), at); err != nil {
			return 0, err
		}
		return int64(len(target)), c.setTime(at)
	case filemode.Executable:
		mode = 0o755
	case filemode.Regular, filemode.Deprecated:
	default:
		return 0, fmt.Errorf("mode %s is unknown", entry.Mode)
	}
	file, err := c.root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(file, content)
	if err = errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
		return 0, err
	}
	return size, c.setTime(at)
}

// setTime gives a finished file or folder its time.
func (c *checkout) setTime(at string) error {
	if c.time.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(c.time.UnixNano())
	dir, err := c.root.Open(path.Dir(at))
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a folder
	return unix.UtimesNanoAt(int(dir.Fd()), path.Base(at), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// list adds what was written to the index.
func (c *checkout) list(p place, entry object.TreeEntry, at string, size int64) error {
	if c.index == nil || p.depth > 0 {
		return nil
	}
	info, err := c.root.Lstat(at)
	if err != nil {
		return err
	}
	c.index.Entries = append(c.index.Entries, &index.Entry{
		Hash: entry.Hash, Name: at, Mode: entry.Mode, Size: uint32(size), // git keeps the size modulo 2^32
		CreatedAt: info.ModTime(), ModifiedAt: info.ModTime(),
	})
	return nil
}
