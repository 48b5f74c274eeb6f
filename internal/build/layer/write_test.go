package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "a/deep/x"), "x")
	write(t, filepath.Join(root, "a/deep-y"), "y")
	write(t, filepath.Join(root, "a/deep/sub/z"), "z")
	write(t, filepath.Join(root, "b"), "b")
	for _, to := range []string{"a/link", "c"} {
		if err := os.Link(filepath.Join(root, "b"), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b", filepath.Join(root, "s")); err != nil {
		t.Fatal(err)
	}
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(root, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	tests := map[string]struct {
		changes []Change
		want    []string
	}{
		"nothing":             {},
		"order":               {changes: []Change{{"b", Added}, {"a/deep-y", Added}, {"a/deep/x", Added}}, want: []string{"5 a/", "5 a/deep/", "0 a/deep/x", "0 a/deep-y", "0 b"}},
		"parents once":        {changes: []Change{{"a/deep", Modified}, {"a/deep/sub/z", Added}, {"a/deep/sub", Added}}, want: []string{"5 a/", "5 a/deep/", "5 a/deep/sub/", "0 a/deep/sub/z"}},
		"whiteout":            {changes: []Change{{"a/deep/gone", Deleted}, {"gone", Deleted}}, want: []string{"5 a/", "5 a/deep/", "0 a/deep/.wh.gone", "0 .wh.gone"}},
		"links in the layer":  {changes: []Change{{"c", Added}, {"b", Added}, {"a/link", Added}}, want: []string{"5 a/", "0 a/link", "1 b -> a/link", "1 c -> a/link"}},
		"link to what is not": {changes: []Change{{"c", Added}}, want: []string{"0 c"}},
		"symlink":             {changes: []Change{{"s", Modified}}, want: []string{"2 s -> b"}},
		"socket left out":     {changes: []Change{{"socket", Added}}},
		"same twice":          {changes: []Change{{"a", Added}, {"a", Modified}}, want: []string{"5 a/"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			n, err := Write(t.Context(), &b, root, tt.changes, WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "entries", entriesOf(t, b.Bytes()), tt.want)
			if n != len(tt.want) {
				t.Errorf("got %d files, want %d", n, len(tt.want))
			}
		})
	}
}

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "d/.wh.x"), "x")
	if err := os.Symlink("d", filepath.Join(root, "s")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		want string
	}{
		"missing":          {"no", `layer file "no": no such file`},
		"reserved name":    {"d/.wh.x", `names that begin with ".wh." mark deleted files. Remove the file`},
		"through a link":   {"s/.wh.x/y", "too many levels of symbolic links"},
		"out of the root":  {"../x", "not a clean path"},
		"absolute":         {"/d", "not a clean path"},
		"the root itself":  {"", "not a clean path"},
		"an unclean path":  {"d//x", "not a clean path"},
		"in another's dir": {"d/no/x", "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Write(t.Context(), io.Discard, root, []Change{{tt.path, Added}}, WriteOptions{})
			if got := fmt.Sprint(err); !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	_, err := Write(t.Context(), io.Discard, root, []Change{{"d/.wh.x", Added}}, WriteOptions{})
	if p := new(problem.Error); !errors.As(err, &p) {
		t.Errorf("got %T, want a *problem.Error", err)
	}
	cause := errors.New("told to stop")
	if _, err := Write(cancelled(t, cause), io.Discard, root, []Change{{"d", Added}}, WriteOptions{}); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestWriteHeaders(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	early, late := time.Unix(1_000_000_000, 123_456_789), time.Unix(2_000_000_000, 0)
	for path, at := range map[string]time.Time{"early": early, "late": late} {
		write(t, filepath.Join(root, path), path)
		if err := os.Chtimes(filepath.Join(root, path), at, at); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"user.b": "\x00bin", "user.a": "text", "user.with=sign": "lost", "user.overlay.opaque": "y"} {
		if err := unix.Setxattr(filepath.Join(root, "early"), name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	epoch := time.Unix(1_500_000_000, 0)
	layer := layerOf(t, root, []Change{{"early", Added}, {"late", Added}, {"gone", Deleted}}, WriteOptions{SourceDateEpoch: &epoch})
	var got []tar.Header
	tr := tar.NewReader(bytes.NewReader(layer))
	for {
		hdr, err := tr.Next()
		if err != nil {
			break
		}
		got = append(got, *hdr)
	}
	if len(got) != 3 {
		t.Fatalf("got %d entries", len(got))
	}
	times := []time.Time{got[0].ModTime, got[1].ModTime, got[2].ModTime}
	diff(t, "times", times, []time.Time{early, time.Unix(0, 0), epoch})
	attrs := map[string]string{}
	for key, value := range got[0].PAXRecords {
		if strings.HasPrefix(key, xattrPrefix) {
			attrs[key] = value
		}
	}
	diff(t, "attributes", attrs, map[string]string{"SCHILY.xattr.user.a": "text", "SCHILY.xattr.user.b": "\x00bin"})
	for _, hdr := range got {
		if hdr.Uname != "" || hdr.Gname != "" || !hdr.AccessTime.IsZero() || !hdr.ChangeTime.IsZero() {
			t.Errorf("%s: got %+v", hdr.Name, hdr)
		}
	}
}

// TestTarCommand: GNU tar reads what we write, and we read what it writes.
func TestTarCommand(t *testing.T) {
	t.Parallel()
	command, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("no tar command")
	}
	src := t.TempDir()
	if err = scripted(src, scriptOf(7, 3000), os.Geteuid() == 0); err != nil {
		t.Fatal(err)
	}
	want := dump(t, src, view{})
	flags := []string{"--xattrs", "--xattrs-include=*", "--same-owner", "-p", "--numeric-owner", "-f", "-", "-C"}
	run := func(mode, dir string, in []byte, more ...string) []byte {
		cmd := exec.CommandContext(t.Context(), command, append(append([]string{mode}, append(flags, dir)...), more...)...)
		cmd.Stdin = bytes.NewReader(in)
		out, runErr := cmd.Output()
		if runErr != nil {
			t.Fatalf("tar %s: %v", mode, runErr)
		}
		return out
	}
	theirs := t.TempDir()
	run("-x", theirs, whole(t, src))
	diff(t, "theirs", dump(t, theirs, view{noDirTimes: true}), dump(t, src, view{noDirTimes: true}))

	ours := t.TempDir()
	apply(t, ours, run("-c", src, nil, "--format=pax", "."), newOptions())
	diff(t, "ours", dump(t, ours, view{}), want)

	gnu := t.TempDir() // Whole seconds, GNU's own long names, no attributes.
	cmd := exec.CommandContext(t.Context(), command, "-c", "--format=gnu", "--numeric-owner", "-C", src, "-f", "-", ".")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, gnu, out, newOptions())
	if got := len(dump(t, gnu, view{})); got != len(want) {
		t.Errorf("got %d files, want %d", got, len(want))
	}
}

func TestPack(t *testing.T) {
	t.Parallel()
	root, out := t.TempDir(), t.TempDir()
	for i := range 40 {
		write(t, filepath.Join(root, fmt.Sprintf("d%d/f", i)), strings.Repeat(fmt.Sprint(i), 100_000))
	}
	changes := Compare(&Index{}, scan(t, root), nil)
	b, err := Pack(t.Context(), out, root, changes, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b.Files != 80 {
		t.Errorf("got %d files, want 80", b.Files)
	}
	again, err := Pack(t.Context(), out, root, changes, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "second pack", again, b)
	if err = validate.Layer(b.Layer()); err != nil {
		t.Error(err)
	}
	r, err := b.Layer().Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	if _, err = Apply(t.Context(), dst, r, newOptions()); err != nil {
		t.Fatal(err)
	}
	if err = r.Close(); err != nil {
		t.Error(err)
	}
	diff(t, "tree", dump(t, dst, view{}), dump(t, root, view{}))
	for typ, want := range map[types.MediaType]types.MediaType{"": types.OCILayer, types.DockerLayer: types.DockerLayer} {
		b.MediaType = typ
		if got, _ := b.Layer().MediaType(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	if _, err = Pack(t.Context(), out, root, []Change{{"no", Added}}, WriteOptions{}); err == nil {
		t.Error("got no error for a missing file")
	}
	left, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("got %v, want the layer alone", left)
	}
}

// TestPackEmpty: the empty layer is the one that everybody has.
func TestPackEmpty(t *testing.T) {
	t.Parallel()
	b, err := Pack(t.Context(), t.TempDir(), t.TempDir(), nil, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	if b.DiffID.String() != want || b.Files != 0 {
		t.Errorf("got %+v, want diff ID %s", b, want)
	}
	if err := validate.Layer(b.Layer()); err != nil {
		t.Error(err)
	}
}

func TestDecompress(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("some text ", 100_000)
	gz := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zs := func(s string) string { return string(enc.EncodeAll([]byte(s), nil)) }
	tests := map[string]struct {
		in, want string
		fails    bool
	}{
		"gzip":                 {in: gz(text), want: text},
		"gzip in two members":  {in: gz(text) + gz("more"), want: text + "more"},
		"gzip cut off":         {in: gz(text)[:100], fails: true},
		"gzip's head alone":    {in: "\x1f\x8b", fails: true},
		"zstd":                 {in: zs(text), want: text},
		"zstd in two frames":   {in: zs(text) + zs("more"), want: text + "more"},
		"zstd after a skipped": {in: "\x50\x2a\x4d\x18\x02\x00\x00\x00xx" + zs(text), want: text},
		"zstd cut off":         {in: zs(text)[:20], fails: true},
		"plain":                {in: text, want: text},
		"short":                {in: "ab", want: "ab"},
		"empty":                {},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := Decompress(strings.NewReader(tt.in))
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				_ = r.Close()
			}
			if (err != nil) != tt.fails || !tt.fails && string(got) != tt.want {
				t.Errorf("got %d bytes, error %v", len(got), err)
			}
		})
	}
	if _, err := Decompress(iotestError{}); err == nil {
		t.Error("got no error for a reader that fails")
	}
}

type iotestError struct{}

// Read fails.
func (iotestError) Read([]byte) (int, error) { return 0, errors.New("broken") }
