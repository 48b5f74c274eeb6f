package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// needRoot skips a test that needs root's rights, but not in CI.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch that makes skipped tests fail
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// newOptions are those that suit the user who runs the tests.
func newOptions() ApplyOptions { return ApplyOptions{IgnoreOwner: os.Geteuid() != 0} }

// item is one entry of a tar: a header, filled up with what every type needs.
type item struct {
	typ              byte
	name, link, data string
	mode             int64
	uid, gid         int
	mtime            time.Time
	xattrs           map[string]string
}

func dir(name string) item        { return item{typ: tar.TypeDir, name: name} }
func file(name, data string) item { return item{typ: tar.TypeReg, name: name, data: data} }
func link(name, to string) item   { return item{typ: tar.TypeLink, name: name, link: to} }
func symlink(name, to string) item {
	return item{typ: tar.TypeSymlink, name: name, link: to}
}

// tarOf packs items.
func tarOf(t *testing.T, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, it := range items {
		hdr := &tar.Header{
			Typeflag: it.typ, Name: it.name, Linkname: it.link, Size: int64(len(it.data)), Mode: it.mode,
			Uid: it.uid, Gid: it.gid, ModTime: it.mtime, Format: tar.FormatPAX,
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o755
		}
		if it.mtime.IsZero() {
			hdr.ModTime = time.Unix(1_000_000_000, 123_456_789)
		}
		for name, value := range it.xattrs {
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords[xattrPrefix+name] = value
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, it.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// apply unpacks a tar and wants no error.
func apply(t *testing.T, root string, layer []byte, opts ApplyOptions) ApplyResult {
	t.Helper()
	res, err := Apply(t.Context(), root, bytes.NewReader(layer), opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func scan(t *testing.T, root string) *Index {
	t.Helper()
	x, err := Scan(t.Context(), root, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// view says what dump shows.
type view struct{ noLinks, noDirTimes, noOwners bool }

// dump describes every path below root.
func dump(t *testing.T, root string, v view) map[string]string {
	t.Helper()
	out := map[string]string{}
	first := map[uint64]string{}
	for _, e := range scan(t, root).entries {
		var b strings.Builder
		fmt.Fprintf(&b, "%06o", e.mode)
		if !v.noOwners {
			fmt.Fprintf(&b, " %d:%d", e.uid, e.gid)
		}
		if !v.noDirTimes || !isType(e.mode, unix.S_IFDIR) {
			fmt.Fprintf(&b, " %d.%09d", e.mtime.Sec, e.mtime.Nsec)
		}
		switch e.mode & unix.S_IFMT {
		case unix.S_IFREG:
			sum, err := hashFile(filepath.Join(root, e.path))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " %d %s", e.size, sum)
		case unix.S_IFLNK:
			fmt.Fprintf(&b, " -> %q", e.link)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " dev %d", e.rdev)
		}
		if e.xattrs != "" {
			fmt.Fprintf(&b, " %q", e.xattrs)
		}
		if !v.noLinks && e.nlink > 1 && !isType(e.mode, unix.S_IFDIR) {
			if _, ok := first[e.ino]; !ok {
				first[e.ino] = e.path
			}
			fmt.Fprintf(&b, " as %q", first[e.ino])
		}
		out[e.path] = b.String()
	}
	return out
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if os.IsPermission(err) {
		return "unreadable", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read from
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%.6x", h.Sum(nil)), nil
}

// names lists the paths of a dump with their content in short: "/" for folders,
// "=text" for files, "->target" for links.
func names(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, e := range scan(t, root).entries {
		switch e.mode & unix.S_IFMT {
		case unix.S_IFDIR:
			out[e.path] = "/"
		case unix.S_IFLNK:
			out[e.path] = "->" + e.link
		case unix.S_IFREG:
			data, err := os.ReadFile(filepath.Join(root, e.path))
			if err != nil {
				t.Fatal(err)
			}
			out[e.path] = "=" + string(data)
		case unix.S_IFCHR:
			out[e.path] = fmt.Sprintf("c%d", e.rdev)
		default:
			out[e.path] = fmt.Sprintf("%o", e.mode&unix.S_IFMT)
		}
	}
	return out
}

// layerOf packs what turned before into root's state now.
func layerOf(t *testing.T, root string, changes []Change, opts WriteOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(t.Context(), &b, root, changes, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entriesOf lists a tar: name, type and link target of each entry.
func entriesOf(t *testing.T, layer []byte) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(bytes.NewReader(layer))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		s := string(hdr.Typeflag) + " " + hdr.Name
		if hdr.Linkname != "" {
			s += " -> " + hdr.Linkname
		}
		out = append(out, s)
	}
}

func diff(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("%s (-got +want):\n%s", what, d)
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := writeFile(path, data); err != nil {
		t.Fatal(err)
	}
}

// writeFile writes a file, with the folders above it.
func writeFile(path, data string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644))
}

// settled scans root and waits until later changes show.
func settled(t *testing.T, root string) *Index {
	t.Helper()
	x := scan(t, root)
	if err := Settle(t.Context(), t.TempDir(), x); err != nil {
		t.Fatal(err)
	}
	return x
}

func cancelled(t *testing.T, cause error) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	return ctx
}
