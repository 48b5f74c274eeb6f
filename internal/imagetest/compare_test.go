package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image makes an image of layers with one history entry each.
func image(t *testing.T, layers ...[]Entry) v1.Image {
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

func layerTar(t *testing.T, entries []Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteTar(&buf, entries); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestCompareFiles(t *testing.T) {
	t.Parallel()
	since := Past().Add(time.Hour)
	tests := map[string]struct {
		got, want [][]Entry
		opts      CompareOptions
		diffs     []string
	}{
		"same": {
			got:  [][]Entry{{Folder("a"), File("a/b", "x")}},
			want: [][]Entry{{File("./a/b", "x"), Folder("/a")}},
		},
		"content": {
			got:  [][]Entry{{File("a", "x")}},
			want: [][]Entry{{File("a", "yy")}},
			diffs: []string{
				"file a sha256: got 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, " +
					"want ef90d9c1ec76b1edc9edfaf2c0c05359c10ccc49ae8ecf7b7fd25ce9c02e86a4",
				"file a size: got 1, want 2",
			},
		},
		"content that may differ": {
			got:  [][]Entry{{File("a", "x")}},
			want: [][]Entry{{File("a", "yy")}},
			opts: CompareOptions{AnyContent: func(p string) bool { return p == "a" }},
		},
		"mode": {
			got:   [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Mode = 0o4755 })}},
			want:  [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Mode = 0o755 })}},
			diffs: []string{"file a mode: got 4755, want 0755"},
		},
		"owner": {
			got:   [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Uid = 7 })}},
			want:  [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Gid = 8 })}},
			diffs: []string{"file a owner: got 7:0, want 0:8"},
		},
		"kind": {
			got:   [][]Entry{{Folder("a")}},
			want:  [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Typeflag, h.Mode = tar.TypeFifo, 0o755 })}},
			diffs: []string{"file a kind: got folder, want fifo"},
		},
		"link target": {
			got:   [][]Entry{{Symlink("a", "b")}},
			want:  [][]Entry{{Symlink("a", "c")}},
			diffs: []string{"file a target: got b, want c"},
		},
		"device": {
			got:   [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Typeflag, h.Devmajor = tar.TypeChar, 1 })}},
			want:  [][]Entry{{File("a", "").With(func(h *tar.Header) { h.Typeflag, h.Devminor = tar.TypeChar, 3 })}},
			diffs: []string{"file a device: got 1:0, want 0:3"},
		},
		"extended attribute": {
			got: [][]Entry{{File("a", "").With(func(h *tar.Header) {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"}
			})}},
			want:  [][]Entry{{File("a", "")}},
			diffs: []string{"file a xattr user.x: got 31, want (none)"},
		},
		"hard link against copy": {
			got:   [][]Entry{{File("a", "x"), Link("b", "a")}},
			want:  [][]Entry{{File("a", "x"), File("b", "x")}},
			diffs: []string{"hard links of a: got a b, want (none)"},
		},
		"missing and extra": {
			got:   [][]Entry{{File("a", "")}},
			want:  [][]Entry{{File("b", "")}},
			diffs: []string{"file a: got file, want (none)", "file b: got (none), want file"},
		},
		"whiteout of a folder": {
			got:   [][]Entry{{Folder("a"), File("a/b", ""), File("ab", "")}, {File(".wh.a", "")}},
			want:  [][]Entry{{File("ab", "")}, {}},
			diffs: nil,
		},
		"opaque folder": {
			got:  [][]Entry{{Folder("a"), File("a/b", ""), File("c", "")}, {Folder("a"), File("a/d", ""), File("a/.wh..wh..opq", "")}},
			want: [][]Entry{{Folder("a"), File("c", "")}, {File("a/d", "")}},
		},
		"whiteout before what replaces it": {
			got:  [][]Entry{{Folder("a"), File("a/b", "")}, {File(".wh.a", ""), Folder("a"), File("a/c", "")}},
			want: [][]Entry{{Folder("a"), File("a/c", "")}, {}},
		},
		"file over folder": {
			got:  [][]Entry{{Folder("a"), File("a/b", "")}, {File("a", "")}},
			want: [][]Entry{{File("a", "")}, {}},
		},
		"number of layers": {
			got:   [][]Entry{{File("a", "")}, {}},
			want:  [][]Entry{{File("a", "")}},
			diffs: []string{"layers: got 2, want 1", `history 1: got {"created_by":"COPY . ."}, want (none)`},
		},
		"time": {
			got:   [][]Entry{{File("a", "")}},
			want:  [][]Entry{{File("a", "").With(func(h *tar.Header) { h.ModTime = Past().Add(time.Second) })}},
			diffs: []string{"file a modified: got 2026-01-02T03:04:05Z, want 2026-01-02T03:04:06Z"},
		},
		"time of a run": {
			got:  [][]Entry{{File("a", "").With(func(h *tar.Header) { h.ModTime = since })}},
			want: [][]Entry{{File("a", "").With(func(h *tar.Header) { h.ModTime = since.Add(time.Minute) })}},
			opts: CompareOptions{Since: since},
		},
		"time of a run against an older one": {
			got:   [][]Entry{{File("a", "").With(func(h *tar.Header) { h.ModTime = since })}},
			want:  [][]Entry{{File("a", "")}},
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
	base := image(t, []Entry{File("a", "")})
	tests := map[string]struct {
		change func(*v1.ConfigFile)
		diffs  []string
	}{
		"time": {change: func(c *v1.ConfigFile) { c.Created.Time = Past() }},
		"environment's order": {
			change: func(c *v1.ConfigFile) { c.Config.Env = []string{"B=2", "A=1"} },
			diffs:  []string{`config config.Env: got ["B=2","A=1"], want ["A=1","B=2"]`},
		},
		"history": {
			change: func(c *v1.ConfigFile) { c.History[0].EmptyLayer = true },
			diffs:  []string{`history 0: got {"created_by":"COPY . .","empty_layer":true}, want {"created_by":"COPY . ."}`},
		},
		"history's time": {change: func(c *v1.ConfigFile) { c.History[0].Created.Time = Past() }},
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
	_, err := Compare(image(t, []Entry{Link("a", "b")}), image(t, []Entry{File("a", "")}), CompareOptions{})
	if err == nil || err.Error() != "layer 0: a: hard link to b, which is not there" {
		t.Errorf("got error %v, want one that names the link", err)
	}
}
