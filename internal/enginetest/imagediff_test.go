package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// entry is a file in a test's layer.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: past}, body}
}

func folder(name string) entry {
	return entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: past}}
}

func link(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, ModTime: past}}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777, ModTime: past}}
}

// past is long before any test runs.
var past = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// image makes an image of layers with one history entry each.
func image(t *testing.T, layers ...[]entry) v1.Image {
	t.Helper()
	img := empty.Image
	for _, entries := range layers {
		blob := layerTar(t, entries)
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(blob)), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "COPY . ."}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func layerTar(t *testing.T, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := writeTar(&buf, entries); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func writeTar(w io.Writer, entries []entry) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		if err := tw.WriteHeader(&e.Header); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		if _, err := io.WriteString(tw, e.body); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return tw.Close()
}

// readTar adds the regular files below a prefix to files.
func readTar(r io.Reader, prefix string, files map[string]string) error {
	tr := tar.NewReader(r)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg || !strings.HasPrefix(header.Name, prefix) {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		files[header.Name] = string(text)
	}
}

// with changes one thing of an entry.
func with(e entry, change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

func TestCompareFiles(t *testing.T) {
	t.Parallel()
	since := past.Add(time.Hour)
	tests := map[string]struct {
		got, want [][]entry
		opts      CompareOptions
		diffs     []string
	}{
		"same": {
			got:  [][]entry{{folder("a"), file("a/b", "x")}},
			want: [][]entry{{file("./a/b", "x"), folder("/a")}},
		},
		"content": {
			got:  [][]entry{{file("a", "x")}},
			want: [][]entry{{file("a", "yy")}},
			diffs: []string{
				"file a sha256: got 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, " +
					"want ef90d9c1ec76b1edc9edfaf2c0c05359c10ccc49ae8ecf7b7fd25ce9c02e86a4",
				"file a size: got 1, want 2",
			},
		},
		"content that may differ": {
			got:  [][]entry{{file("a", "x")}},
			want: [][]entry{{file("a", "yy")}},
			opts: CompareOptions{AnyContent: func(p string) bool { return p == "a" }},
		},
		"mode": {
			got:   [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Mode = 0o4755 })}},
			want:  [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Mode = 0o755 })}},
			diffs: []string{"file a mode: got 4755, want 0755"},
		},
		"owner": {
			got:   [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Uid = 7 })}},
			want:  [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Gid = 8 })}},
			diffs: []string{"file a owner: got 7:0, want 0:8"},
		},
		"kind": {
			got:   [][]entry{{folder("a")}},
			want:  [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Typeflag, h.Mode = tar.TypeFifo, 0o755 })}},
			diffs: []string{"file a kind: got folder, want fifo"},
		},
		"link target": {
			got:   [][]entry{{symlink("a", "b")}},
			want:  [][]entry{{symlink("a", "c")}},
			diffs: []string{"file a target: got b, want c"},
		},
		"device": {
			got:   [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Typeflag, h.Devmajor = tar.TypeChar, 1 })}},
			want:  [][]entry{{with(file("a", ""), func(h *tar.Header) { h.Typeflag, h.Devminor = tar.TypeChar, 3 })}},
			diffs: []string{"file a device: got 1:0, want 0:3"},
		},
		"extended attribute": {
			got: [][]entry{{with(file("a", ""), func(h *tar.Header) {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"}
			})}},
			want:  [][]entry{{file("a", "")}},
			diffs: []string{"file a xattr user.x: got 31, want (none)"},
		},
		"hard link against copy": {
			got:  [][]entry{{file("a", "x"), link("b", "a")}},
			want: [][]entry{{file("a", "x"), file("b", "x")}},
			diffs: []string{"hard links of a: got a b, want (none)"},
		},
		"missing and extra": {
			got:   [][]entry{{file("a", "")}},
			want:  [][]entry{{file("b", "")}},
			diffs: []string{"file a: got file, want (none)", "file b: got (none), want file"},
		},
		"whiteout of a folder": {
			got:   [][]entry{{folder("a"), file("a/b", ""), file("ab", "")}, {file(".wh.a", "")}},
			want:  [][]entry{{file("ab", "")}, {}},
			diffs: nil,
		},
		"opaque folder": {
			got:  [][]entry{{folder("a"), file("a/b", ""), file("c", "")}, {folder("a"), file("a/d", ""), file("a/.wh..wh..opq", "")}},
			want: [][]entry{{folder("a"), file("c", "")}, {file("a/d", "")}},
		},
		"whiteout before what replaces it": {
			got:  [][]entry{{folder("a"), file("a/b", "")}, {file(".wh.a", ""), folder("a"), file("a/c", "")}},
			want: [][]entry{{folder("a"), file("a/c", "")}, {}},
		},
		"file over folder": {
			got:  [][]entry{{folder("a"), file("a/b", "")}, {file("a", "")}},
			want: [][]entry{{file("a", "")}, {}},
		},
		"number of layers": {
			got:   [][]entry{{file("a", "")}, {}},
			want:  [][]entry{{file("a", "")}},
			diffs: []string{"layers: got 2, want 1", `history 1: got {"created_by":"COPY . ."}, want (none)`},
		},
		"time": {
			got:   [][]entry{{file("a", "")}},
			want:  [][]entry{{with(file("a", ""), func(h *tar.Header) { h.ModTime = past.Add(time.Second) })}},
			diffs: []string{"file a modified: got 2026-01-02T03:04:05Z, want 2026-01-02T03:04:06Z"},
		},
		"time of a run": {
			got:  [][]entry{{with(file("a", ""), func(h *tar.Header) { h.ModTime = since })}},
			want: [][]entry{{with(file("a", ""), func(h *tar.Header) { h.ModTime = since.Add(time.Minute) })}},
			opts: CompareOptions{Since: since},
		},
		"time of a run against an older one": {
			got:   [][]entry{{with(file("a", ""), func(h *tar.Header) { h.ModTime = since })}},
			want:  [][]entry{{file("a", "")}},
			opts:  CompareOptions{Since: since},
			diffs: []string{"file a modified: got 2026-01-02T04:04:05Z, want 2026-01-02T03:04:05Z"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			diffs, err := Compare(image(t, tt.got...), image(t, tt.want...), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, d := range diffs {
				lines = append(lines, d.String())
			}
			if diff := cmp.Diff(lines, tt.diffs); diff != "" {
				t.Errorf("differences (-got +want):\n%s", diff)
			}
		})
	}
}

func TestCompareConfigs(t *testing.T) {
	t.Parallel()
	base := image(t, []entry{file("a", "")})
	tests := map[string]struct {
		change func(*v1.ConfigFile)
		diffs  []string
	}{
		"time": {change: func(c *v1.ConfigFile) { c.Created.Time = past }},
		"environment's order": {
			change: func(c *v1.ConfigFile) { c.Config.Env = []string{"B=2", "A=1"} },
			diffs:  []string{`config config.Env: got ["B=2","A=1"], want ["A=1","B=2"]`},
		},
		"history": {
			change: func(c *v1.ConfigFile) { c.History[0].EmptyLayer = true },
			diffs:  []string{`history 0: got {"created_by":"COPY . .","empty_layer":true}, want {"created_by":"COPY . ."}`},
		},
		"history's time": {change: func(c *v1.ConfigFile) { c.History[0].Created.Time = past }},
		"label": {
			change: func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"a": "<b>"} },
			diffs:  []string{`config config.Labels.a: got "<b>", want (none)`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			configure := func(change func(*v1.ConfigFile)) v1.Image {
				config, err := base.ConfigFile()
				if err != nil {
					t.Fatal(err)
				}
				config = config.DeepCopy()
				config.Config.Env = []string{"A=1", "B=2"}
				change(config)
				img, err := mutate.ConfigFile(base, config)
				if err != nil {
					t.Fatal(err)
				}
				return img
			}
			diffs, err := Compare(configure(tt.change), configure(func(*v1.ConfigFile) {}), CompareOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, d := range diffs {
				lines = append(lines, d.String())
			}
			if diff := cmp.Diff(lines, tt.diffs); diff != "" {
				t.Errorf("differences (-got +want):\n%s", diff)
			}
		})
	}
}

func TestCompareRefusesHardLinkToNothing(t *testing.T) {
	t.Parallel()
	_, err := Compare(image(t, []entry{link("a", "b")}), image(t, []entry{file("a", "")}), CompareOptions{})
	if err == nil || err.Error() != "layer 0: a: hard link to b, which is not there" {
		t.Errorf("got error %v, want one that names the link", err)
	}
}
