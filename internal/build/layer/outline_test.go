package layer

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// To apply an outline gives what the layer gives that it is of, links and
// attributes included, and says the same of accounts that were left out.
func TestOutline(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tar := tarOf(t,
		dir("etc"), file("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), item{typ: '0', name: "usr/share/group", data: "root:x:0:\n"},
		link("etc/group", "usr/share/group"),
		item{typ: '0', name: "bin/su", data: strings.Repeat("x", 70_000), mode: 0o4755, uid: 5, gid: 6, mtime: time.Unix(1_600_000_000, 123456789)},
		item{typ: '0', name: "bin/ping", data: "x", xattrs: map[string]string{"user.k": "v"}, mtime: time.Unix(1_600_000_000, 0)},
		link("bin/sudo", "bin/su"), symlink("lib", "usr/lib"), dir("usr/lib"), file("empty", ""),
		item{typ: '6', name: "fifo", mode: 0o600}, file("usr/.wh.gone", ""), dir(strings.Repeat("long/", 60)),
	)
	for name, keep := range map[string]func(string) bool{
		"accounts": func(path string) bool { return path == "etc/passwd" || path == "etc/group" },
		"with the link's": func(path string) bool {
			return path == "etc/passwd" || path == "etc/group" || path == "usr/share/group"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := t.TempDir()
			blob, err := Outline(t.Context(), of, bytes.NewReader(tar), keep)
			if err != nil {
				t.Fatal(err)
			}
			packed, err := blob.Layer().Compressed()
			if err != nil {
				t.Fatal(err)
			}
			outline, err := ReadOutline(packed)
			if err != nil {
				t.Fatal(err)
			}
			defer outline.Close() //nolint:errcheck // read only
			want, hollow := sketched(t, bytes.NewReader(tar), keep)
			got, gotHollow := sketched(t, outline, keep)
			diff(t, "hollow", gotHollow, hollow)
			if !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			again, err := Outline(t.Context(), of, bytes.NewReader(tar), keep)
			if err != nil || again.Digest != blob.Digest {
				t.Errorf("got %v, %v the second time, want %s", again, err, blob.Digest)
			}
		})
	}
}

// sketched applies a tar as an outline, and describes what there is.
func sketched(t *testing.T, tar io.Reader, keep func(string) bool) (entries []entry, hollow []string) {
	t.Helper()
	root := t.TempDir()
	result, err := Apply(t.Context(), root, tar, ApplyOptions{Outline: true, Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	entries = scan(t, root).entries
	for i := range entries {
		entries[i].ino, entries[i].ctime = 0, unix.Timespec{}
		if entries[i].mode&unix.S_IFMT == unix.S_IFDIR {
			entries[i].mtime = unix.Timespec{} // where the tar has none, it is now
		}
	}
	for _, path := range []string{"etc/passwd", "etc/group"} {
		content, err := os.ReadFile(root + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		hollow = append(hollow, string(content))
	}
	return entries, append(hollow, result.Hollow...)
}
