//go:build linux

package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/layer"
	"github.com/towline/towline/internal/build/sandbox"
)

// steps is a sandbox whose RUN steps are functions that change the root's folder:
// whatever a program could do, without one.
type steps struct {
	name string
	do   map[string]func(root string) error
}

func (s steps) Name() string { return s.name }

func (s steps) Run(_ context.Context, root string, p sandbox.Process, _ []sandbox.Mount) (sandbox.Result, error) {
	step := strings.Fields(p.Args[len(p.Args)-1])[0]
	return sandbox.Result{}, s.do[step](root)
}

// atTime gives the time that the steps give to files: with nanoseconds, before any test.
func atTime() time.Time { return time.Unix(1_500_000_000, 123_456_789) }

// capability is the attribute of a program that may bind ports below 1024
// (cap_net_bind_service+ep), in the kernel's second version.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// longName has more bytes than a path of any old tar format, and each part as many
// as a name may have.
func longName() string {
	return strings.Repeat("d", 255) + "/" + strings.Repeat("e", 255) + "/" + strings.Repeat("f", 255)
}

// tries calls functions up to the first error.
func tries(calls ...func() error) error {
	for _, call := range calls {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

func put(root, name, content string, mode uint32) func() error {
	path := filepath.Join(root, name)
	return func() error {
		return tries(
			func() error { return os.MkdirAll(filepath.Dir(path), 0o755) },
			func() error { return os.WriteFile(path, []byte(content), 0o600) },
			func() error { return unix.Chmod(path, mode) },
			func() error { return os.Chtimes(path, atTime(), atTime()) },
		)
	}
}

// fidelityCases are steps, each upon what lowerEntries makes.
func fidelityCases() map[string]func(root string) error {
	return map[string]func(root string) error{
		"hard-links": func(root string) error {
			return tries(
				put(root, "links/one", "content", 0o644),
				func() error { return os.Link(filepath.Join(root, "links/one"), filepath.Join(root, "a-link")) },
				func() error { return os.Link(filepath.Join(root, "links/one"), filepath.Join(root, "z/three")) },
				// One more name for a file that a lower layer has.
				func() error { return os.Link(filepath.Join(root, "z/old"), filepath.Join(root, "z/older")) },
				func() error { return os.Symlink("one", filepath.Join(root, "links/symbolic")) },
				func() error {
					return os.Link(filepath.Join(root, "links/symbolic"), filepath.Join(root, "links/symbolic-too"))
				},
			)
		},
		"attributes": func(root string) error {
			return tries(
				put(root, "bin/server", "program", 0o755),
				func() error {
					return unix.Setxattr(filepath.Join(root, "bin/server"), "security.capability", []byte(capability), 0)
				},
				func() error {
					return unix.Setxattr(filepath.Join(root, "bin/server"), "user.binary", []byte{0, 0xff, '='}, 0)
				},
				func() error { return unix.Setxattr(filepath.Join(root, "z"), "user.folder", []byte("v"), 0) },
				// Only an attribute of a file that a lower layer has.
				func() error {
					return unix.Setxattr(filepath.Join(root, "z/old"), "security.capability", []byte(capability), 0)
				},
				func() error { return unix.Removexattr(filepath.Join(root, "z/capable"), "security.capability") },
				func() error { return os.Chtimes(filepath.Join(root, "bin/server"), atTime(), atTime()) },
			)
		},
		"modes": func(root string) error {
			return tries(
				put(root, "bin/su", "su", 0o4755), put(root, "bin/wall", "wall", 0o2755), put(root, "bin/none", "", 0),
				func() error { return os.Mkdir(filepath.Join(root, "tmp"), 0o700) },
				func() error { return unix.Chmod(filepath.Join(root, "tmp"), 0o1777) },
				func() error { return os.Mkdir(filepath.Join(root, "mail"), 0o700) },
				func() error { return unix.Chown(filepath.Join(root, "mail"), 65534, 4294967294) },
				func() error { return unix.Chmod(filepath.Join(root, "mail"), 0o7770) },
				func() error { return unix.Chown(filepath.Join(root, "bin/none"), 4_000_000, 3_000_000_000) },
				func() error { return unix.Chmod(filepath.Join(root, "z/old"), 0o6711) },
			)
		},
		"devices": func(root string) error {
			return tries(
				func() error {
					return unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
				},
				func() error {
					return unix.Mknod(filepath.Join(root, "disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000)))
				},
				func() error { return unix.Mkfifo(filepath.Join(root, "fifo"), 0o620) },
				func() error { return unix.Mknod(filepath.Join(root, "socket"), unix.S_IFSOCK|0o777, 0) },
				func() error { return os.Link(filepath.Join(root, "null"), filepath.Join(root, "zero")) },
				func() error { return os.Chtimes(filepath.Join(root, "null"), atTime(), atTime()) },
			)
		},
		"times": func(root string) error {
			return tries(
				put(root, "now", "x", 0o644),
				put(root, "far", "x", 0o644), func() error { return os.Chtimes(filepath.Join(root, "far"), atTime(), time.Unix(1<<33, 7)) },
				put(root, "epoch", "x", 0o644), func() error { return os.Chtimes(filepath.Join(root, "epoch"), atTime(), time.Unix(0, 0)) },
				func() error { return os.Chtimes(filepath.Join(root, "z/old"), atTime(), atTime().Add(time.Nanosecond)) },
			)
		},
		"names": func(root string) error {
			return tries(
				put(root, longName(), "long", 0o644), put(root, "\xff\xfe\x80", "not UTF-8", 0o644), put(root, "новый/файл=1", "text", 0o644),
				put(root, "line\nbreak", "x", 0o644), put(root, " space ", "x", 0o644), put(root, "back\\slash", "x", 0o644), put(root, "..dots", "x", 0o644),
				put(root, "wh.not", "x", 0o644), put(root, strings.Repeat("x", 101), "x", 0o644), put(root, strings.Repeat("y", 99)+"/"+strings.Repeat("z", 156), "x", 0o644),
				func() error { return os.Symlink(strings.Repeat("t/", 500)+"t", filepath.Join(root, "far-link")) },
				func() error { return os.Symlink("\xff/\xfe", filepath.Join(root, "odd-link")) },
				func() error { return os.Link(filepath.Join(root, longName()), filepath.Join(root, "long-link")) },
			)
		},
		"emptied-folder": func(root string) error {
			return tries(
				func() error { return os.RemoveAll(filepath.Join(root, "full")) },
				func() error { return os.Mkdir(filepath.Join(root, "full"), 0o755) },
				put(root, "full/new", "new", 0o644), put(root, "full/deep/kept", "again", 0o644),
			)
		},
		"removed": func(root string) error {
			return tries(
				func() error { return os.RemoveAll(filepath.Join(root, "full/deep")) },
				func() error { return os.Remove(filepath.Join(root, "z/old")) },
				func() error { return os.Remove(filepath.Join(root, "lib")) },
			)
		},
		"other-types": func(root string) error {
			return tries(
				func() error { return os.RemoveAll(filepath.Join(root, "full")) }, put(root, "full", "a file", 0o644),
				func() error { return os.Remove(filepath.Join(root, "z/old")) }, put(root, "z/old/inside", "a folder", 0o644),
				func() error { return os.Remove(filepath.Join(root, "lib")) }, put(root, "lib/so", "no link", 0o644),
				func() error { return os.RemoveAll(filepath.Join(root, "usr")) },
				func() error { return os.Symlink("full", filepath.Join(root, "usr")) },
			)
		},
		"linked-parents": func(root string) error {
			return tries(put(root, "lib/one", "through a link", 0o644), func() error { return os.Remove(filepath.Join(root, "lib/two")) })
		},
		"sizes": func(root string) error {
			return tries(
				put(root, "empty", "", 0o644), put(root, "block", strings.Repeat("b", 512), 0o644), put(root, "large", strings.Repeat("l", 3<<20+1), 0o644),
				put(root, "hole", "start", 0o644), func() error { return os.Truncate(filepath.Join(root, "hole"), 64<<20) },
				func() error { return writeBehind(filepath.Join(root, "hole"), 32<<20+12345, "in the middle") },
				func() error { return os.Truncate(filepath.Join(root, "z/old"), 0) },
			)
		},
	}
}

func writeBehind(path string, at int64, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), at)
	return errors.Join(err, f.Close())
}

// lowerImage is what the steps begin with.
func lowerImage(t *testing.T) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "full/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "full/deep/", Mode: 0o700},
		{Typeflag: tar.TypeReg, Name: "full/deep/kept", Mode: 0o644},
		{Typeflag: tar.TypeReg, Name: "full/one", Mode: 0o644},
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "usr/lib/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "usr/lib/two", Mode: 0o644},
		{Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "usr/lib", Mode: 0o777},
		{Typeflag: tar.TypeDir, Name: "z/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "z/old", Size: 3, Mode: 0o600, Uid: 7, Gid: 8},
		{Typeflag: tar.TypeReg, Name: "z/capable", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
		{Typeflag: tar.TypeReg, Name: "z/pair", Mode: 0o640, Uid: 9},
		{Typeflag: tar.TypeLink, Name: "z/linked", Linkname: "z/pair", Mode: 0o640, Uid: 9},
	} {
		h.ModTime, h.Format = time.Unix(1_400_000_000, 5), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "old"[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// buildSteps builds a RUN step for each of names, one after the other.
func buildSteps(t *testing.T, s steps, names ...string) *build.Result {
	t.Helper()
	dir := t.TempDir()
	text := "FROM base.example/base:1\n"
	for _, name := range names {
		text += "RUN " + name + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := build.Build(t.Context(), build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Machine: v1.Platform{OS: "linux", Architecture: "amd64"},
		Images: bases{lowerImage(t)}, Sandbox: s, Dir: filepath.Join(t.TempDir(), "state"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := result.Close(); err != nil {
			t.Error(err)
		}
	})
	return result
}

// TestFidelity holds that layers carry what a filesystem can. The judge is
// containerd: its own unpacking of base and layers has to give what the steps do to
// its unpacking of the base. So does ours.
func TestFidelity(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	cases := fidelityCases()
	for _, kind := range []string{"namespaces", "in place"} {
		for name, step := range cases {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				begun := time.Now().Add(-time.Second)
				result := buildSteps(t, steps{kind, cases}, name)
				want, theirs, ours := t.TempDir(), t.TempDir(), t.TempDir()
				layers, err := result.Images[0].Layers()
				if err != nil || len(layers) != 2 {
					t.Fatalf("%d layers, %v", len(layers), err)
				}
				unpackAs(t, theirUnpack, want, layers[:1])
				if err := step(want); err != nil {
					t.Fatal(err)
				}
				_ = os.Remove(filepath.Join(want, "socket")) // No layer can hold one.
				strict(t, layers[1])
				unpackAs(t, theirUnpack, theirs, layers)
				unpackAs(t, ourUnpack, ours, layers)
				expected := facts(t, want, begun)
				if diff := cmp.Diff(facts(t, theirs, begun), expected); diff != "" {
					t.Errorf("containerd (-got +want):\n%s", diff)
				}
				if diff := cmp.Diff(facts(t, ours, begun), expected); diff != "" {
					t.Errorf("ours (-got +want):\n%s", diff)
				}
			})
		}
	}
}

func theirUnpack(ctx context.Context, dir string, r io.Reader) error {
	_, err := archive.Apply(ctx, dir, r)
	return err
}

func ourUnpack(ctx context.Context, dir string, r io.Reader) error {
	_, err := layer.Apply(ctx, dir, r, layer.ApplyOptions{})
	return err
}

func unpackAs(t *testing.T, unpack func(ctx context.Context, dir string, r io.Reader) error, dir string, layers []v1.Layer) {
	t.Helper()
	for i, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if err := unpack(t.Context(), dir, content); err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
		if err := content.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// strict holds what picky readers of a layer want: each name once, no name absolute
// or with dots, a folder before what is in it, a link after its target, and the end
// that a tar has.
func strict(t *testing.T, l v1.Layer) {
	t.Helper()
	content, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close() //nolint:errcheck // only read from
	var raw bytes.Buffer
	entries := tar.NewReader(io.TeeReader(content, &raw))
	seen := map[string]bool{".": true}
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		switch {
		case seen[name]:
			t.Errorf("%q twice", name)
		case !filepath.IsLocal(name) || filepath.Clean(name) != name:
			t.Errorf("%q is not clean", name)
		case !seen[filepath.Dir(name)]:
			t.Errorf("%q comes before its folder", name)
		case h.Typeflag == tar.TypeLink && !seen[h.Linkname]:
			t.Errorf("%q comes before its target %q", name, h.Linkname)
		case (h.Typeflag == tar.TypeDir) != strings.HasSuffix(h.Name, "/"):
			t.Errorf("%q has type %c", h.Name, h.Typeflag)
		}
		seen[name] = true
	}
	if _, err := io.Copy(&raw, content); err != nil {
		t.Fatal(err)
	}
	if end := raw.Bytes()[max(0, raw.Len()-1024):]; raw.Len()%512 != 0 || len(bytes.Trim(end, "\x00")) > 0 {
		t.Errorf("%d bytes, which do not end in two empty blocks", raw.Len())
	}
}

// facts describes everything below root. Times since begun are all the same.
func facts(t *testing.T, root string, begun time.Time) map[string]string {
	t.Helper()
	all, first := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name := path[len(root)+1:]
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%06o %d:%d", st.Mode, st.Uid, st.Gid)
		if mtime := time.Unix(st.Mtim.Unix()); mtime.Before(begun) || mtime.Sub(begun) > time.Hour {
			text += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(content) > 100 {
				sum, _, err := v1.SHA256(bytes.NewReader(content))
				if err != nil {
					return err
				}
				content = []byte(sum.Hex)
			}
			text += fmt.Sprintf(" %d %q", st.Size, content)
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" -> %q", to)
		case unix.S_IFCHR, unix.S_IFBLK:
			text += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			text += fmt.Sprintf(" as %q", first[st.Ino])
		}
		for _, attr := range []string{"security.capability", "user.binary", "user.folder"} {
			value := make([]byte, 256)
			if n, err := unix.Lgetxattr(path, attr, value); err == nil {
				text += fmt.Sprintf(" %s=%q", attr, value[:n])
			}
		}
		all[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// entryNames lists a layer's entries.
func entryNames(t *testing.T, l v1.Layer) []string {
	t.Helper()
	content, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close() //nolint:errcheck // only read from
	var names []string
	for entries := tar.NewReader(content); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
