package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	gofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

// entry is a file as a comparison sees it.
type entry struct {
	Mode     gofs.FileMode
	ModTime  int64
	UID, GID uint32
	Content  string
	Target   string
	Inode    string // the first path with the same inode
	Rdev     uint64
	Xattrs   map[string]string
}

// list reads a whole tree. The root itself is left out: BuildKit does not
// transfer it.
func list(t *testing.T, dir string) map[string]entry {
	t.Helper()
	found := map[string]entry{}
	inodes := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ gofs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		sys, _ := info.Sys().(*syscall.Stat_t)
		e := entry{Mode: info.Mode(), ModTime: info.ModTime().UnixNano(), UID: sys.Uid, GID: sys.Gid, Xattrs: map[string]string{}}
		if !info.IsDir() {
			if first, ok := inodes[sys.Ino]; ok {
				e.Inode = first
			} else {
				inodes[sys.Ino] = rel
			}
			e.Rdev = sys.Rdev
		}
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			e.Target, err = os.Readlink(path)
		case info.Mode().IsRegular():
			var content []byte
			content, err = os.ReadFile(path)
			e.Content = string(content)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			names := make([]byte, 4096)
			n, _ := unix.Llistxattr(path, names)
			for name := range strings.SplitSeq(strings.TrimRight(string(names[:max(n, 0)]), "\x00"), "\x00") {
				value := make([]byte, 4096)
				if n, getErr := unix.Lgetxattr(path, name, value); getErr == nil {
					e.Xattrs[name] = string(value[:n])
				}
			}
		}
		found[rel] = e
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pipe is one end of a stream between fsutil's sender and receiver.
type pipe struct {
	ctx     context.Context //nolint:containedctx // fsutil.Stream asks for it
	in, out chan []byte
}

func (p *pipe) Context() context.Context { return p.ctx }

func (p *pipe) SendMsg(m any) error {
	packet, _ := m.(*fstypes.Packet)
	data, err := packet.MarshalVT()
	if err != nil {
		return err
	}
	select {
	case p.out <- data:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) RecvMsg(m any) error {
	packet, _ := m.(*fstypes.Packet)
	select {
	case data, ok := <-p.in:
		if !ok {
			return io.EOF
		}
		return packet.UnmarshalVT(data)
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// transfer is what BuildKit does with a local source: the client's sender (with
// client/solve.go's owner reset and filesync's filter) and the worker's receiver.
func transfer(t *testing.T, dir, dest string, f Filter) error {
	t.Helper()
	base, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	base, err = fsutil.NewFilterFS(base, &fsutil.FilterOpt{Map: func(_ string, st *fstypes.Stat) fsutil.MapResult {
		st.Uid, st.Gid = uint32(os.Geteuid()), uint32(os.Getegid())
		return fsutil.MapResultKeep
	}})
	if err != nil {
		return err
	}
	view, err := fsutil.NewFilterFS(base, &fsutil.FilterOpt{IncludePatterns: f.Include, ExcludePatterns: f.Exclude, FollowPaths: f.Follow})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(t.Context())
	there, back := make(chan []byte, 64), make(chan []byte, 64)
	group.Go(func() error {
		defer close(there)
		return fsutil.Send(ctx, &pipe{ctx: ctx, in: back, out: there}, view, nil)
	})
	group.Go(func() error {
		return fsutil.Receive(ctx, &pipe{ctx: ctx, in: there, out: back}, dest, fsutil.ReceiveOpt{})
	})
	return group.Wait()
}

// compare runs Local and BuildKit's transfer on the same folder.
func compare(t *testing.T, dir string, f Filter) map[string]entry {
	t.Helper()
	ours, theirs := filepath.Join(t.TempDir(), "ours"), t.TempDir()
	stats, err := Local(t.Context(), dir, ours, f)
	wantErr := transfer(t, dir, theirs, f)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("Local(%+v): error %v, BuildKit's is %v", f, err, wantErr)
	}
	if err != nil {
		return nil
	}
	got, want := list(t, ours), list(t, theirs)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Local(%+v) (-BuildKit +Local):\n%s", f, diff)
	}
	var files int
	var size int64
	for _, e := range got {
		if e.Mode.IsRegular() && e.Inode == "" {
			files++
			size += int64(len(e.Content))
		}
	}
	if stats.Files != files || stats.Bytes != size {
		t.Errorf("Local: stats %+v, want %d files with %d bytes", stats, files, size)
	}
	return got
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sample makes a folder with one of everything.
func sample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string, mode gofs.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode))
		when := time.Unix(1_500_000_000+int64(len(name)), 123_456_789)
		must(t, os.Chtimes(path, when, when))
	}
	write("Dockerfile", "FROM scratch\n", 0o644)
	write(".dockerignore", "node_modules\n*.log\n!keep.log\n", 0o644)
	write("keep.log", "kept", 0o600)
	write("drop.log", "dropped", 0o644)
	write("src/main.go", "package main", 0o755)
	special := os.ModeSetuid
	if os.Geteuid() != 0 {
		special = 0 // BuildKit loses it by writing after chmod
	}
	write("src/deep/er/setuid", "#!", 0o755|special)
	write("src/sp ace/new\nline", "odd names", 0o640)
	write("src/\xff\xfe/latin\xe9", "not UTF-8", 0o644)
	write("node_modules/a/index.js", "js", 0o644)
	write("node_modules/b/index.js", "js", 0o444)
	unreadable := gofs.FileMode(0o000)
	if os.Geteuid() != 0 {
		unreadable = 0o400 // BuildKit sends a file that it cannot read as an empty one; Local refuses
	}
	write("empty", "", unreadable)
	write("link/one", "linked", 0o644)
	must(t,
		os.Link(filepath.Join(dir, "link/one"), filepath.Join(dir, "link/two")),
		os.Link(filepath.Join(dir, "link/one"), filepath.Join(dir, "zwei")),
		os.Symlink("src/main.go", filepath.Join(dir, "inside")),
		os.Symlink("/src/deep", filepath.Join(dir, "absolute")),
		os.Symlink("../../../etc/passwd", filepath.Join(dir, "outside")),
		os.Symlink("missing", filepath.Join(dir, "dangling")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Mkdir(filepath.Join(dir, "hollow"), 0o711),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o622),
	)
	if err := unix.Setxattr(filepath.Join(dir, "keep.log"), "user.towline", []byte("x\x00y"), 0); !errors.Is(err, unix.ENOTSUP) {
		must(t, err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(socket) })
	here, err := os.Open(dir)
	must(t, err)
	must(t, unix.Bind(socket, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/sock", here.Fd())}), here.Close())
	if os.Geteuid() == 0 {
		must(t, os.Lchown(filepath.Join(dir, "drop.log"), 1234, 5678), os.Lchown(filepath.Join(dir, "inside"), 1234, 5678))
	}
	old := time.Unix(1_400_000_000, 7)
	must(t, os.Chtimes(filepath.Join(dir, "src/deep"), old, old), os.Chtimes(filepath.Join(dir, "hollow"), old, old))
	must(t, unix.Lutimes(filepath.Join(dir, "inside"), []unix.Timeval{{Sec: 1_300_000_000}, {Sec: 1_300_000_000, Usec: 42}}))
	return dir
}

func TestLocalEqualsBuildKit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		filter   Filter
		has, not []string
	}{
		"everything": {has: []string{"fifo", "sock", "hollow", "src/\xff\xfe/latin\xe9", "outside", "zwei"}},
		"dockerignore": {
			filter: Filter{Exclude: []string{"node_modules", "*.log", "!keep.log"}},
			has:    []string{"keep.log", "src/main.go"}, not: []string{"drop.log", "node_modules"},
		},
		"exception inside an excluded folder": {
			filter: Filter{Exclude: []string{"node_modules", "!node_modules/b"}},
			has:    []string{"node_modules/b/index.js"}, not: []string{"node_modules/a"},
		},
		"everything excluded but one": {
			filter: Filter{Exclude: []string{"**", "!src/main.go"}},
			has:    []string{"src/main.go"}, not: []string{"Dockerfile", "src/deep"},
		},
		"double star":           {filter: Filter{Exclude: []string{"**/*.js", "src/**/er"}}, has: []string{"node_modules/a"}, not: []string{"src/deep/er", "node_modules/a/index.js"}},
		"first of links hidden": {filter: Filter{Exclude: []string{"link/one"}}, has: []string{"link/two", "zwei"}, not: []string{"link/one"}},
		"include":               {filter: Filter{Include: []string{"src/deep"}}, has: []string{"src/deep/er/setuid", "src"}, not: []string{"src/main.go", "Dockerfile"}},
		"follow one":            {filter: Filter{Follow: []string{"Dockerfile", "Dockerfile.dockerignore"}}, has: []string{"Dockerfile"}, not: []string{"src", ".dockerignore"}},
		"follow a link":         {filter: Filter{Follow: []string{"inside"}}, has: []string{"inside", "src/main.go"}, not: []string{"src/deep"}},
		"follow absolute":       {filter: Filter{Follow: []string{"absolute/er"}}, has: []string{"absolute", "src/deep/er/setuid"}, not: []string{"src/main.go"}},
		"follow outside":        {filter: Filter{Follow: []string{"outside"}}, has: []string{"outside"}, not: []string{"etc"}},
		"follow wildcard":       {filter: Filter{Follow: []string{"*side"}}, has: []string{"inside", "outside", "src/main.go"}, not: []string{"dangling"}},
		"follow a loop":         {filter: Filter{Follow: []string{"loop/x"}}, has: []string{"loop"}},
		"follow nothing":        {filter: Filter{Follow: []string{"nothing"}}, not: []string{"src", "Dockerfile"}},
		"follow the root":       {filter: Filter{Follow: []string{"/"}}, has: []string{"Dockerfile", "src/main.go"}},
		"follow and exclude":    {filter: Filter{Follow: []string{"src"}, Exclude: []string{"src/deep"}}, has: []string{"src/main.go"}, not: []string{"src/deep", "inside"}},
	}
	dir := sample(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := compare(t, dir, test.filter)
			for _, path := range test.has {
				if _, ok := got[path]; !ok {
					t.Errorf("%q is missing", path)
				}
			}
			for _, path := range test.not {
				if _, ok := got[path]; ok {
					t.Errorf("%q is there", path)
				}
			}
		})
	}
}

func TestLocalRandomFilters(t *testing.T) {
	t.Parallel()
	dir := sample(t)
	words := []string{"src", "*", "**", "deep", "er", "*.log", "!src", "!src/deep", "node_modules", "!**/index.js", "inside", "absolute", "link/*", "?wei", "[a-k]*", "!hollow", "/", ".", "!*"}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(exceptions bool) []string {
		var patterns []string
		for range random.IntN(4) {
			pattern := words[random.IntN(len(words))]
			if random.IntN(3) == 0 {
				pattern += "/" + strings.TrimPrefix(words[random.IntN(len(words))], "!")
			}
			if !exceptions {
				pattern = strings.TrimPrefix(pattern, "!")
			}
			patterns = append(patterns, pattern)
		}
		return patterns
	}
	for range 60 {
		f := Filter{Exclude: pick(true), Follow: pick(false)}
		if random.IntN(3) == 0 {
			f.Include = pick(false)
		}
		compare(t, dir, f)
	}
}

func TestLocalRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600), os.Chmod(dir, 0o700))
	// A destination inside the folder is not copied into itself.
	dest := filepath.Join(dir, "out")
	if _, err := Local(t.Context(), dir, dest, Filter{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dest)
	must(t, err)
	if got := info.Mode().Perm(); got != 0o755 {
		t.Errorf("mode of the copy's root is %o, want 755", got)
	}
	got := list(t, dest)
	if _, ok := got["a"]; !ok || len(got) != 1 {
		t.Errorf("the copy holds %v, want a alone", got)
	}
}

func TestLocalRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	tests := map[string]struct {
		dir    string
		filter Filter
		want   string
	}{
		"a file":      {dir: file, want: "it is not a folder"},
		"missing":     {dir: file + "-not", want: "there is no such folder"},
		"bad pattern": {dir: filepath.Dir(file), filter: Filter{Exclude: []string{"[a"}}, want: "syntax error in pattern"},
		"bad include": {dir: filepath.Dir(file), filter: Filter{Include: []string{"a[]"}}, want: "syntax error in pattern"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Local(t.Context(), test.dir, t.TempDir(), test.filter)
			var p *problem.Error
			if !errors.As(err, &p) || !strings.Contains(err.Error(), test.want) || p.Fix == "" {
				t.Errorf("Local: error %v, want a problem with %q", err, test.want)
			}
		})
	}
}

func TestLocalCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Local(ctx, sample(t), t.TempDir(), Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Local: error %v, want that of the context", err)
	}
}

// FuzzDockerignore: whatever stands in .dockerignore, Local does what BuildKit
// does and stays in its folder.
func FuzzDockerignore(f *testing.F) {
	for _, seed := range []string{
		"node_modules\n*.log\n!keep.log\n", "# comment\n\n/abs\n../up\n", "**\n!src/**\n", "\ufeffbom\n", "a/../b\n!\n",
		"[\n", "\\", "src/\n!src/deep/er/\n", "**/deep\n!**/er", "!src", "*/*/*", "?" + strings.Repeat("*?", 40), "\x00", "!/", "[^a]*", "[]a]", "src\\main.go",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ignore string) {
		patterns, err := ignorefile.ReadAll(strings.NewReader(ignore))
		if err != nil {
			t.Skip()
		}
		// Through JSON as the frontend hands it over: that replaces invalid UTF-8.
		data, err := json.Marshal(patterns)
		must(t, err)
		var exclude []string
		must(t, json.Unmarshal(data, &exclude))
		compare(t, small(t), Filter{Exclude: exclude})
	})
}

func small(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t,
		os.MkdirAll(filepath.Join(dir, "src/deep/er"), 0o755),
		os.WriteFile(filepath.Join(dir, "src/main.go"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(dir, "src/deep/er/a.log"), []byte("y"), 0o600),
		os.WriteFile(filepath.Join(dir, "keep.log"), []byte("z"), 0o600),
		os.Symlink("src", filepath.Join(dir, "s")),
	)
	return dir
}
