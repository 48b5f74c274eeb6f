package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/problem"
)

func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }

// file is a file whose content is "evil".
func file(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 4}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
}

// pack makes a tar of headers, owned by whoever runs the tests.
func pack(tb testing.TB, headers ...tar.Header) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Uid, h.Gid, h.ModTime, h.Format = os.Geteuid(), os.Getegid(), time.Unix(1_000_000_000, 0), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, "evil"); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// world is a folder with things that no archive may touch, and an inner folder
// to unpack to, with links that were there before.
type world struct{ outside, root string }

func newWorld(tb testing.TB) world {
	tb.Helper()
	outside := tb.TempDir()
	w := world{outside: outside, root: filepath.Join(outside, "root")}
	for _, path := range []string{"sub", "root/real", "root/usr/lib"} {
		if err := os.MkdirAll(filepath.Join(outside, path), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	for _, path := range []string{"secret", "sub/more", "root/real/kept"} {
		if err := os.WriteFile(filepath.Join(outside, path), []byte("safe"), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"out": outside, "outfile": filepath.Join(outside, "secret"), "up": "..", "upfile": "../secret", "lib": "/usr/lib", "loop": "loop", "deep": "real/../../sub",
	} {
		if err := os.Symlink(to, filepath.Join(w.root, name)); err != nil {
			tb.Fatal(err)
		}
	}
	return w
}

// state describes all that is outside the root.
func (w world) state(tb testing.TB) map[string]string {
	tb.Helper()
	state := map[string]string{}
	err := filepath.WalkDir(w.outside, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == w.root {
			return filepath.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			state[path] = fmt.Sprintf("%v %v %q", info.Mode(), info.ModTime(), content)
		} else {
			state[path] = fmt.Sprintf("%v %v", info.Mode(), info.ModTime())
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return state
}

// TestArchiveEvil unpacks archives that want out. Each is refused or contained;
// nothing outside the folder changes.
func TestArchiveEvil(t *testing.T) {
	t.Parallel()
	tests := map[string][]tar.Header{
		"dot dot":                           {file("../secret")},
		"dot dot inside":                    {file("real/../../secret")},
		"dot dot, absolute":                 {file("/../secret")},
		"dot dot itself":                    {dir("..")},
		"absolute name":                     {file("OUTSIDE/secret")},
		"absolute folder":                   {dir("OUTSIDE/sub")},
		"symlink, relative":                 {symlink("l", ".."), file("l/secret")},
		"symlink, absolute":                 {symlink("l", "OUTSIDE"), file("l/secret")},
		"symlink as the last name":          {symlink("l", "../secret"), file("l")},
		"symlinks in a chain":               {symlink("a", "b/.."), symlink("b", "c/.."), symlink("c", ".."), file("a/secret")},
		"symlink swapped for a folder":      {dir("l"), file("l/x"), symlink("l", "OUTSIDE"), file("l/secret")},
		"symlink loop":                      {symlink("a", "b"), symlink("b", "a"), file("a/x")},
		"folder on a symlink":               {symlink("l", "OUTSIDE"), {Typeflag: tar.TypeDir, Name: "l", Mode: 0o777}},
		"folder through a symlink":          {symlink("l", "OUTSIDE"), {Typeflag: tar.TypeDir, Name: "l/sub", Mode: 0o777}},
		"symlink through a symlink":         {symlink("l", "OUTSIDE"), symlink("l/secret", "x")},
		"fifo through a symlink":            {symlink("l", "OUTSIDE"), {Typeflag: tar.TypeFifo, Name: "l/secret", Mode: 0o777}},
		"hard link out":                     {link("l", "../secret"), file("l")},
		"hard link out, absolute":           {link("l", "OUTSIDE/secret"), file("l")},
		"hard link through a symlink":       {symlink("s", "OUTSIDE"), link("l", "s/secret")},
		"hard link to a symlink out":        {symlink("s", "OUTSIDE/secret"), link("l", "s"), file("l")},
		"mode through a hard link":          {symlink("s", "OUTSIDE/secret"), {Typeflag: tar.TypeLink, Name: "l", Linkname: "s", Mode: 0o4777}},
		"attribute through a symlink":       {{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "OUTSIDE/secret", PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}},
		"there before: file through a link": {file("out/secret"), file("out/new")},
		"there before: file on a link":      {file("outfile")},
		"there before: relative":            {file("up/secret")},
		"there before: file, relative":      {file("upfile")},
		"there before: folder on a link":    {{Typeflag: tar.TypeDir, Name: "out", Mode: 0o777}},
		"there before: folder below":        {{Typeflag: tar.TypeDir, Name: "deep/sub", Mode: 0o777}, file("deep/more")},
		"there before: implied folders":     {file("up/sub/a/b/c")},
		"there before: hard link":           {link("l", "out/secret"), link("m", "outfile"), file("m")},
		"there before: loop":                {file("loop/x")},
		"whiteout":                          {file("out/.wh.secret"), file(".wh..wh..opq"), file("up/.wh..wh..opq")},
		"no such type":                      {{Typeflag: 'X', Name: "x"}},
		"device through a symlink":          {{Typeflag: tar.TypeChar, Name: "up/secret", Devmajor: 1, Devminor: 3}},
	}
	for name, headers := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, owner := range []*Owner{nil, {UID: os.Geteuid(), GID: os.Getegid()}} {
				w := newWorld(t)
				for i := range headers {
					h := headers[i]
					h.Name = strings.Replace(h.Name, "OUTSIDE", w.outside, 1)
					h.Linkname = strings.Replace(h.Linkname, "OUTSIDE", w.outside, 1)
					headers[i] = h
				}
				before := w.state(t)
				err := Archive(t.Context(), w.root, bytes.NewReader(pack(t, headers...)), owner)
				t.Logf("%v", err)
				if diff := cmp.Diff(w.state(t), before); diff != "" {
					t.Errorf("outside (-got +want):\n%s", diff)
				}
			}
		})
	}
}

// TestArchiveLinkedFolders: absolute links are links in the folder, as with the
// chroot that BuildKit unpacks in, and names that mean a deletion in a layer mean nothing.
func TestArchiveLinkedFolders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := Archive(t.Context(), w.root, bytes.NewReader(pack(t, file("lib/x"), file("real/.wh.kept"))), nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"usr/lib/x", "real/kept", "real/.wh.kept"} {
		if _, err := os.Lstat(filepath.Join(w.root, path)); err != nil {
			t.Error(err)
		}
	}
}

// FuzzArchive unpacks whatever bytes there are, to a folder with links that lead
// out of it: nothing outside may change.
func FuzzArchive(f *testing.F) {
	f.Add(pack(f, file("out/secret"), dir("up"), file("up/secret")))
	f.Add(pack(f, symlink("l", ".."), file("l/secret"), link("h", "l/secret"), file("h")))
	f.Add(pack(f, dir("d"), symlink("d/s", "../.."), link("d/h", "d/s"), tar.Header{Typeflag: tar.TypeFifo, Name: "d/s/secret"}, tar.Header{Typeflag: tar.TypeDir, Name: "out", Mode: 0o1777}))
	f.Add(pack(f, symlink("a", "b/.."), symlink("b", "c/.."), symlink("c", "/"), file("a/secret"), file("lib/x")))
	f.Fuzz(func(t *testing.T, content []byte) {
		w := newWorld(t)
		before := w.state(t)
		_ = Archive(t.Context(), w.root, bytes.NewReader(content), nil)
		if diff := cmp.Diff(w.state(t), before); diff != "" {
			t.Fatalf("outside (-got +want):\n%s", diff)
		}
	})
}

func TestCompressions(t *testing.T) {
	t.Parallel()
	plain := pack(t, dir("d"), file("d/file"))
	tests := map[string]struct {
		content func(*testing.T) []byte
		fails   string
		not     bool
	}{
		"plain": {content: func(t *testing.T) []byte { t.Helper(); return plain }},
		"gzip":  {content: func(t *testing.T) []byte { t.Helper(); return gzipped(t, plain) }},
		"gzip in two members": {content: func(t *testing.T) []byte {
			t.Helper()
			return append(gzipped(t, plain[:600]), gzipped(t, plain[600:])...)
		}},
		"zstd":                  {content: func(t *testing.T) []byte { t.Helper(); return zstdOf(t, plain, 8<<20) }},
		"bzip2":                 {content: fromFile("a.tar.bz2")},
		"xz":                    {content: fromFile("a.tar.xz")},
		"a dictionary of 1 GiB": {content: fromFile("dictionary-of-1GiB.tar.xz"), not: true, fails: "dictionary size exceeds max"},
		"a window of 512 MiB":   {content: func(t *testing.T) []byte { t.Helper(); return zstdOf(t, plain, 512<<20) }, not: true, fails: "window size exceeded"},
		"cut off":               {content: func(t *testing.T) []byte { t.Helper(); return gzipped(t, plain)[:60] }, not: true, fails: "unexpected EOF"},
		"no archive":            {content: func(t *testing.T) []byte { t.Helper(); return []byte(strings.Repeat("no archive", 100)) }, not: true, fails: "invalid tar header"},
		"gzip of no archive":    {content: func(t *testing.T) []byte { t.Helper(); return gzipped(t, []byte("text")) }, not: true, fails: "unexpected EOF"},
		"empty":                 {content: func(t *testing.T) []byte { t.Helper(); return nil }, not: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := tt.content(t)
			path := filepath.Join(t.TempDir(), "archive")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if is, err := IsArchive(path); is == tt.not || err != nil {
				t.Errorf("is an archive: got %v, %v", is, err)
			}
			root := t.TempDir()
			err := Archive(t.Context(), root, bytes.NewReader(content), &Owner{UID: os.Geteuid(), GID: os.Getegid()})
			if got := fmt.Sprint(err); tt.fails == "" && err != nil || !strings.Contains(got, tt.fails) {
				t.Errorf("got error %v, want %q", err, tt.fails)
			}
			if _, err := os.Stat(filepath.Join(root, "d/file")); (err == nil) == tt.not {
				t.Errorf("d/file: %v", err)
			}
		})
	}
}

func TestIsArchiveOfWhatIsNoFile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root, filepath.Join(root, "link"), filepath.Join(root, "none")} {
		if is, err := IsArchive(path); is || err != nil {
			t.Errorf("%s: got %v, %v", path, is, err)
		}
	}
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t *testing.T, content []byte, window int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithSingleSegment(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	// Flushed in between, or the frame would say its size in place of a window.
	if _, err = w.Write(content); err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func fromFile(name string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		content, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
}

// sparse is a tar of a few bytes with a file of size bytes, all of it a hole.
func sparse(t *testing.T, size string) []byte {
	t.Helper()
	head := &tar.Header{Typeflag: tar.TypeReg, Name: "hole", Mode: 0o600, Uid: os.Geteuid(), Gid: os.Getegid(), PAXRecords: map[string]string{
		"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.realsize": size, "XNU.sparse.name": "hole",
	}, Size: 512}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(head); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 512) // The map in front of the content: no entries.
	copy(data, "0\n")
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("XNU.sparse"), []byte("GNU.sparse"))
}

// TestDiskFull: a file that the disk has no room for is refused before it is written,
// in ADD's archives as in layers, however few bytes announce it.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const exbibytes = "8070450532247928832"
	unpackers := map[string]func(ctx context.Context, dir string, r io.Reader) error{
		"archive": func(ctx context.Context, dir string, r io.Reader) error { return Archive(ctx, dir, r, nil) },
		"layer": func(ctx context.Context, dir string, r io.Reader) error {
			_, err := layer.Apply(ctx, dir, r, layer.ApplyOptions{})
			return err
		},
	}
	for name, unpack := range unpackers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("it was written"))
			defer cancel()
			if err := unpack(ctx, t.TempDir(), bytes.NewReader(sparse(t, "1000000"))); err != nil {
				t.Errorf("a hole of 1 MB: %v", err)
			}
			err := unpack(ctx, t.TempDir(), bytes.NewReader(sparse(t, exbibytes)))
			p, ok := errors.AsType[*problem.Error](err)
			if !ok || p.Fix == "" || !strings.Contains(p.Error(), "disk full: the file /hole has 8070450532.2 GB, and ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestCancelled: unpacking ends when it is told to.
func TestCancelled(t *testing.T) {
	t.Parallel()
	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := Archive(ctx, t.TempDir(), bytes.NewReader(pack(t, file("x"))), nil); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}
