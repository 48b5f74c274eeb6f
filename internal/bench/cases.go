package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// benchCase is one Dockerfile that everybody builds. Its folder is in testdata/bench.
type benchCase struct {
	name, title string
	// group is the row of the table that the case is measured by.
	group group
	// bases are what it stands on; a case with none of its own stands on busybox when
	// it is only tried out.
	bases []string
	// own says that no other base will do.
	own bool
	// fill adds what is too large to be kept in a repository; small asks for little.
	fill func(dir string, small bool) error
	// change is the one file that the commit after changes, with a new content.
	change string
	size   int64
}

// group says how long Towline may take, in times of what BuildKit takes.
type group struct {
	name                    string
	cold, warm, incremental float64
}

const (
	busybox = "library/busybox:1"
	debian  = "library/debian:bookworm-slim"
	jre     = "library/eclipse-temurin:17-jre"
	golang  = "library/golang:1.26"
	node    = "library/node:18-bookworm-slim"
)

func cases() []benchCase {
	copyOnly := group{"copy only", 0.5, 0.5, 0.5}
	large := group{"many files, big layers", 0.7, 0.5, 0.6}
	runBound := group{"RUN-bound", 1, 0.5, 0.8}
	trivial := group{"20 trivial RUNs", 0.5, 0.5, 0.5}
	return []benchCase{
		{
			name: "copy", title: "a 60 MB jar on a JRE base", group: copyOnly, bases: []string{jre}, fill: fillCopy,
			change: "app.jar", size: 60 << 20,
		},
		{name: "apt", title: "apt-get install and small RUN steps", group: runBound, bases: []string{debian}, own: true, change: "index.html", size: 20},
		{name: "go", title: "Go in two stages, with cache mounts", group: runBound, bases: []string{golang}, own: true, change: "version.go"},
		{
			name: "files", title: "30,000 small files", group: large, bases: []string{debian}, fill: fillFiles,
			change: "src/d007/f042.txt", size: 2048,
		},
		{
			name: "big", title: "1 GiB written by a RUN, 300 MB copied", group: large, bases: []string{debian}, fill: fillBig,
			change: "assets/changed", size: 1 << 20,
		},
		{name: "runs", title: "20 trivial RUN steps", group: trivial, bases: []string{debian}, change: "version", size: 8},
		{name: "stages", title: "four independent stages", group: runBound, bases: []string{debian}, change: "two.txt", size: 8},
		{name: "npm", title: "npm ci", group: runBound, bases: []string{node}, own: true, change: "index.js"},
	}
}

// write puts the case's context into dir.
func (c benchCase) write(root, dir string, small bool) error {
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "testdata", "bench", c.name))); err != nil {
		return err
	}
	if c.fill == nil {
		return nil
	}
	return c.fill(dir, small)
}

// commit changes one file, to a content that only n decides.
func (c benchCase) commit(dir string, n int, small bool) error {
	path := filepath.Join(dir, filepath.FromSlash(c.change))
	switch filepath.Ext(path) {
	case ".go":
		return writeText(path, fmt.Sprintf("package main\n\nfunc init() { println(%d) }\n", n))
	case ".js":
		return writeText(path, fmt.Sprintf("console.log(require(\"package-000\"), %d);\n", n))
	}
	size := c.size
	if small {
		size = min(size, 64<<10)
	}
	return writeRandom(path, size, uint64(n)+1000)
}

func fillCopy(dir string, small bool) error {
	size := int64(60 << 20)
	if small {
		size = 64 << 10
	}
	return writeRandom(filepath.Join(dir, "app.jar"), size, 1)
}

func fillFiles(dir string, small bool) error {
	folders, files := 100, 300
	if small {
		folders, files = 8, 50 // the one whose file changes is among them
	}
	for d := range folders {
		folder := filepath.Join(dir, "src", fmt.Sprintf("d%03d", d))
		for f := range files {
			if err := writeText(filepath.Join(folder, fmt.Sprintf("f%03d.txt", f)), prose(uint64(d*files+f), 512+(d*7+f*13)%6000)); err != nil {
				return err
			}
		}
	}
	return nil
}

func fillBig(dir string, small bool) error {
	seed, asset := int64(16<<20), int64(100<<20)
	if small {
		seed, asset = 64<<10, 64<<10
	}
	if err := writeRandom(filepath.Join(dir, "seed"), seed, 2); err != nil {
		return err
	}
	for i := range 3 {
		if err := writeHalfRandom(filepath.Join(dir, "assets", fmt.Sprintf("part%d", i)), asset, uint64(3+i)); err != nil {
			return err
		}
	}
	return writeText(filepath.Join(dir, "assets", "changed"), "0\n")
}

// writeRandom writes what no compression makes smaller, such as a jar.
func writeRandom(path string, size int64, seed uint64) error {
	return writeFrom(path, io.LimitReader(random(seed), size))
}

// writeHalfRandom writes what compression makes half as large.
func writeHalfRandom(path string, size int64, seed uint64) error {
	return writeFrom(path, io.LimitReader(&halfRandom{from: random(seed)}, size))
}

func random(seed uint64) io.Reader {
	var key [32]byte
	copy(key[:], fmt.Sprintf("towline's benchmark %012d", seed))
	return rand.NewChaCha8(key)
}

// halfRandom drops all but one bit of every second byte.
type halfRandom struct{ from io.Reader }

// Read implements io.Reader.
func (h *halfRandom) Read(p []byte) (int, error) {
	n, err := h.from.Read(p)
	for i := range p[:n] {
		if i%2 == 1 {
			p[i] &= 1
		}
	}
	return n, err
}

// prose gives text that looks like source code to a compressor.
func prose(seed uint64, size int) string {
	words := strings.Fields("the return of func string error if nil for range item value result context import package type struct map int bool write read close open")
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same files each time
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%s %s%d ", words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(1000))
		if r.IntN(8) == 0 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func writeText(path, text string) error { return writeFrom(path, strings.NewReader(text)) }

func writeFrom(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a context, which containers read
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // a context, which containers read
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, from); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// packages is how many packages npm installs, of packageFiles files each.
const packages, packageFiles = 200, 40

// serveNPM makes the packages of the case npm, has the server give them out, and
// writes the files that name them into dir.
func serveNPM(s *server, dir string) error {
	type locked struct {
		Version      string            `json:"version,omitempty"`
		Resolved     string            `json:"resolved,omitempty"`
		Integrity    string            `json:"integrity,omitempty"`
		Name         string            `json:"name,omitempty"`
		Dependencies map[string]string `json:"dependencies,omitempty"`
	}
	wanted := map[string]string{}
	lock := map[string]locked{}
	for i := range packages {
		id := fmt.Sprintf("package-%03d", i)
		archive, err := npmPackage(id, uint64(i))
		if err != nil {
			return err
		}
		path := "/npm/" + id + ".tgz"
		s.files.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) })
		sum := sha512.Sum512(archive)
		wanted[id] = "1.0.0"
		lock["node_modules/"+id] = locked{
			Version: "1.0.0", Resolved: "http://" + s.host + path, Integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
		}
	}
	lock[""] = locked{Name: "app", Version: "1.0.0", Dependencies: wanted}
	for file, content := range map[string]any{
		"package.json": map[string]any{"name": "app", "version": "1.0.0", "dependencies": wanted},
		"package-lock.json": map[string]any{
			"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": lock,
		},
	} {
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return err
		}
		if err := writeText(filepath.Join(dir, file), string(text)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func npmPackage(id string, seed uint64) ([]byte, error) {
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	files := map[string]string{
		"package.json": fmt.Sprintf(`{"name": %q, "version": "1.0.0", "main": "lib/f0.js"}`, id),
	}
	names := []string{"package.json"}
	for i := range packageFiles - 1 {
		file := fmt.Sprintf("lib/f%d.js", i)
		files[file] = "/*" + prose(seed*100+uint64(i), 1500) + "*/\nmodule.exports = " + fmt.Sprint(i) + ";\n"
		names = append(names, file)
	}
	for _, file := range names {
		if err := tw.WriteHeader(&tar.Header{Name: "package/" + file, Mode: 0o644, Size: int64(len(files[file]))}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(tw, files[file]); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
