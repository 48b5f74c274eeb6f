package mounts

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/klauspost/compress/zstd"
)

// Compressed implements v1.Layer.
func (s spoiled) Compressed() (io.ReadCloser, error) { return s.content.Compressed() }

func spoil(t *testing.T, l, content v1.Layer) v1.Layer {
	t.Helper()
	return spoiled{l, content}
}

// An index that others wrote leads nowhere but into its folder.
func TestHostileIndex(t *testing.T) {
	t.Parallel()
	const dot = `{"p":".","k":"d"}`
	tests := map[string]struct{ index, want string }{
		"empty":          {`{}`, "begin with the folder"},
		"no JSON":        {`{`, "unexpected end"},
		"no folder":      {`{"entries":[{"p":"a","k":"d"}]}`, "begin with the folder"},
		"above":          {`{"entries":[` + dot + `,{"p":"../a","k":"f"}]}`, "is no path"},
		"absolute":       {`{"entries":[` + dot + `,{"p":"/etc","k":"d"}]}`, "is no path"},
		"dot again":      {`{"entries":[` + dot + `,` + dot + `]}`, "is no path"},
		"twice":          {`{"entries":[` + dot + `,{"p":"a","k":"f"},{"p":"a","k":"l","l":"/"}]}`, "twice"},
		"through a link": {`{"entries":[` + dot + `,{"p":"a","k":"l","l":"/etc"},{"p":"a/b","k":"f"}]}`, "in no folder"},
		"in a file":      {`{"entries":[` + dot + `,{"p":"a","k":"f"},{"p":"a/b","k":"f"}]}`, "in no folder"},
		"hard link out":  {`{"entries":[` + dot + `,{"p":"a","k":"h","l":"../../etc/passwd"}]}`, "is no file before it"},
		"hard to a link": {`{"entries":[` + dot + `,{"p":"b","k":"l","l":"/etc/passwd"},{"p":"a","k":"h","l":"b"}]}`, "is no file before it"},
		"no such chunk":  {`{"entries":[` + dot + `,{"p":"a","k":"f","n":1,"c":[0]}]}`, "there is no chunk"},
		"wrong size":     {`{"entries":[` + dot + `,{"p":"a","k":"f","n":1}]}`, "not 1"},
		"link nowhere":   {`{"entries":[` + dot + `,{"p":"a","k":"l"}]}`, "nowhere"},
		"kind":           {`{"entries":[` + dot + `,{"p":"a","k":"b"}]}`, "not a kind"},
		"huge chunk":     {`{"packs":[{"blob":"sha256:` + strings.Repeat("0", 64) + `","chunks":[{"n":999999999}]}],"entries":[` + dot + `]}`, "chunk of"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setWith(t, []byte(tt.index))
			_, err := s.Restore(t.Context(), "//cache", t.TempDir())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// setWith is a set whose only mount has the given index, and no packs.
func setWith(t *testing.T, raw []byte) *Set {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := static.NewLayer(w.EncodeAll(raw, nil), indexType)
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err = json.Marshal(config{Mounts: []saved{{Key: "//cache", Index: digest}}})
	if err != nil {
		t.Fatal(err)
	}
	return opened(t, Saved{Config: raw, Layers: []v1.Layer{l}}, Options{Dir: t.TempDir(), IgnoreOwner: true})
}

// Whatever an index says, nothing outside of the folder is touched.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"entries":[{"p":".","k":"d"},{"p":"a","k":"d","m":511},{"p":"a/b","k":"f"},{"p":"c","k":"l","l":"../x"},{"p":"d","k":"h","l":"a/b"}]}`))
	f.Add([]byte(`{"entries":[{"p":".","k":"d"},{"p":"a","k":"l","l":"/"},{"p":"a/b","k":"f"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := &index{}
		if json.Unmarshal(raw, x) != nil || x.check() != nil {
			return
		}
		above := t.TempDir()
		dir := filepath.Join(above, "in", "mount")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := New(Options{IgnoreOwner: true}).fill(t.Context(), x, dir)
		for _, place := range []string{above, filepath.Join(above, "in")} {
			if found, _ := os.ReadDir(place); len(found) != 1 {
				t.Fatalf("%s has %v (%v)", place, found, err)
			}
		}
		_ = os.Chmod(dir, 0o700) // so that it can be removed
	})
}

// Chunks are the whole content, and none is too large.
func FuzzCut(f *testing.F) {
	f.Add(uint64(1), 3<<20, 1<<20, 100)
	f.Add(uint64(2), 600_000, 0, 1)
	f.Fuzz(func(t *testing.T, seed uint64, size, at, more int) {
		if size < 0 || size > 8<<20 || at < 0 || at > size || more < 0 || more > 1<<20 {
			t.Skip()
		}
		data := bytesOf(seed, size)
		check := func(data []byte) {
			parts, err := cutContent(strings.NewReader(string(data)), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			var sum int64
			for _, c := range parts {
				if c.Size <= 0 || c.Size > maxChunk {
					t.Fatalf("chunk of %d bytes", c.Size)
				}
				sum += c.Size
			}
			if sum != int64(len(data)) {
				t.Fatalf("chunks of %d bytes, want %d", sum, len(data))
			}
		}
		check(data)
		check(append(append(append([]byte{}, data[:at]...), bytesOf(seed+1, more)...), data[at:]...))
	})
}
