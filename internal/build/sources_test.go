package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/problem"
)

// world is what a build's sources are served by: files by their paths, and git
// repositories below /git/.
type world struct {
	*httptest.Server
	files map[string][]byte
	repos string

	mu    sync.Mutex
	asked map[string]int
}

const lastModified = "Mon, 03 Feb 2020 04:05:06 GMT"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{files: map[string][]byte{}, repos: t.TempDir(), asked: map[string]int{}}
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("there is no git program to serve repositories with")
	}
	backend := http.StripPrefix("/git", &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Env: append(gitEnv(), "GIT_PROJECT_ROOT="+w.repos, "GIT_HTTP_EXPORT_ALL=1"),
	})
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/git/") {
			backend.ServeHTTP(rw, r)
			return
		}
		content, ok := w.files[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		w.mu.Lock()
		w.asked[r.URL.Path]++
		w.mu.Unlock()
		rw.Header().Set("Last-Modified", lastModified)
		_, _ = rw.Write(content)
	}))
	t.Cleanup(w.Close)
	return w
}

func gitEnv() []string {
	return []string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), //nolint:forbidigo // where git is
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.org",
		"GIT_AUTHOR_DATE=1600000000 +0200", "GIT_COMMITTER_DATE=1600000100 +0200",
	}
}

// repository makes one with a commit of files, and gives the commit.
func (w *world) repository(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(w.repos, name)
	writeFiles(t, dir, files)
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "x"}, {"tag", "v1"}, {"rev-parse", "HEAD"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir, cmd.Env = dir, gitEnv()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		if args[0] == "rev-parse" {
			return strings.TrimSpace(string(out))
		}
	}
	return ""
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		at := filepath.Join(dir, name)
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
}

// tgz is an archive whose files belong to 7:8.
func tgz(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, content := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Uid: 7, Gid: 8, Size: int64(len(content)), ModTime: time.Unix(1_500_000_000, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entries are the files of an image's own layers, with mode, owner and content,
// and with the times of those that are older than the test.
func entries(t *testing.T, image v1.Image) []string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(content); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeDir {
				continue
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			line := fmt.Sprintf("%s %o %d:%d %s", h.Name, h.Mode, h.Uid, h.Gid, data)
			if h.ModTime.Before(time.Now().Add(-time.Hour)) {
				line += fmt.Sprintf(" @%d", h.ModTime.Unix())
			}
			found = append(found, line)
		}
	}
	return found
}

// sourceBuild builds a Dockerfile with what opts say besides.
func sourceBuild(t *testing.T, dockerfile string, opts build.Options) ([]string, error) {
	t.Helper()
	requireRoot(t)
	if opts.Context == "" {
		dir := t.TempDir()
		writeFiles(t, dir, map[string]string{"Dockerfile": dockerfile})
		opts.Context, opts.File = dir, filepath.Join(dir, "Dockerfile")
	}
	if opts.File == "" {
		opts.File = "Dockerfile"
	}
	opts.Machine = v1.Platform{OS: "linux", Architecture: "amd64"}
	if opts.Images == nil {
		opts.Images = bases{}
	}
	opts.Dir = filepath.Join(t.TempDir(), "state")
	result, err := build.Build(t.Context(), opts)
	if err != nil {
		return nil, err
	}
	defer result.Close() //nolint:errcheck // the test's own folder
	return entries(t, result.Images[0]), nil
}

func TestRemoteSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.files["/dir/tool.bin"] = []byte("tool")
	sum := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("tool")))
	w.files["/ctx.tgz"] = tgz(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a.txt /\n", "a.txt": "in the tar"})
	w.files["/Dockerfile.lone"] = []byte("FROM scratch\nCOPY context /itself\n")
	w.files["/unpack.tgz"] = tgz(t, map[string]string{"in/x": "x"})
	commit := w.repository(t, "app.git", map[string]string{
		"Dockerfile": "FROM scratch\nCOPY . /all/\n", ".dockerignore": "no.txt\n", "no.txt": "no", "run.sh": "#!", "sub/s.txt": "s", "sub/Dockerfile": "FROM scratch\nCOPY s.txt /\n",
	})
	git := w.URL + "/git/app.git"
	tests := map[string]struct {
		dockerfile string
		opts       build.Options
		want       []string
		err        string
		line       int
	}{
		"ADD a URL": {
			dockerfile: "FROM scratch\nADD --chmod=755 --chown=5:6 --checksum=" + sum + " " + w.URL + "/dir/tool.bin /bin/\nADD " + w.URL + "/dir/tool.bin /other\n",
			want:       []string{"bin/tool.bin 755 5:6 tool @1580702706", "other 600 0:0 tool @1580702706"},
		},
		"ADD a URL, not unpacked": {dockerfile: "FROM scratch\nADD " + w.URL + "/dir/tool.bin /\n", want: []string{"tool.bin 600 0:0 tool @1580702706"}},
		"ADD a URL, unpacked":     {dockerfile: "FROM scratch\nADD --unpack=true " + w.URL + "/unpack.tgz /\n", want: []string{"in/x 640 7:8 x @1500000000"}},
		"ADD with another sum": {
			dockerfile: "FROM scratch\nADD --checksum=sha256:" + strings.Repeat("0", 64) + " " + w.URL + "/dir/tool.bin /\n",
			err:        "digest mismatch: " + sum + " (expected: sha256:0000", line: 2,
		},
		"ADD what is not there":  {dockerfile: "FROM scratch\nADD " + w.URL + "/none /\n", err: "404 Not Found", line: 2},
		"ADD git":                {dockerfile: "FROM scratch\nADD " + git + "#v1:sub /src\n", want: []string{"src/Dockerfile 644 0:0 FROM scratch\nCOPY s.txt /\n", "src/s.txt 644 0:0 s"}},
		"ADD git, other sum":     {dockerfile: "FROM scratch\nADD --checksum=" + strings.Repeat("a", 40) + " " + git + "#v1 /src\n", err: "got " + commit, line: 2},
		"ADD git, no such ref":   {dockerfile: "FROM scratch\nADD " + git + "#nope /src\n", err: "does not contain ref nope", line: 2},
		"git context":            {opts: build.Options{Context: git + "#main"}, want: []string{"all/.dockerignore 644 0:0 no.txt\n", "all/Dockerfile 644 0:0 FROM scratch\nCOPY . /all/\n", "all/no.txt 644 0:0 no", "all/run.sh 755 0:0 #!", "all/sub/Dockerfile 644 0:0 FROM scratch\nCOPY s.txt /\n", "all/sub/s.txt 644 0:0 s"}},
		"git context, folder":    {opts: build.Options{Context: git + "#main:sub"}, want: []string{"s.txt 644 0:0 s"}},
		"git context, file":      {opts: build.Options{Context: git, File: "sub/Dockerfile"}, err: "s.txt"},
		"git context, its time":  {opts: build.Options{Context: git + "#main:sub", SourceDateEpoch: "context"}, want: []string{"s.txt 644 0:0 s @1600000100"}},
		"tar context":            {opts: build.Options{Context: w.URL + "/ctx.tgz"}, want: []string{"a.txt 640 7:8 in the tar @1500000000"}},
		"Dockerfile context":     {opts: build.Options{Context: w.URL + "/Dockerfile.lone"}, want: []string{"itself 600 0:0 FROM scratch\nCOPY context /itself\n @1580702706"}},
		"named git":              {dockerfile: "FROM scratch\nCOPY --from=src s.txt /\n", opts: build.Options{Contexts: map[string]string{"src": git + "#v1:sub"}}, want: []string{"s.txt 644 0:0 s"}},
		"named URL":              {dockerfile: "FROM scratch\nCOPY --from=src context /f\n", opts: build.Options{Contexts: map[string]string{"src": w.URL + "/dir/tool.bin"}}, want: []string{"f 600 0:0 tool @1580702706"}},
		"no such repository":     {opts: build.Options{Context: w.URL + "/git/none.git"}, err: "/git/none.git"},
		"named is not there":     {dockerfile: "FROM scratch\n", opts: build.Options{Contexts: map[string]string{"src": "/none"}}, err: "read build context src"},
		"named is not a layout":  {dockerfile: "FROM scratch\n", opts: build.Options{Contexts: map[string]string{"src": "oci-layout:///proc/self"}}, err: "/proc/self is not an OCI layout"},
		"named has no good name": {dockerfile: "FROM scratch\n", opts: build.Options{Contexts: map[string]string{"A B": "/tmp"}}, err: "read build context A B"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := sourceBuild(t, test.dockerfile, test.opts)
			if test.err != "" {
				p, ok := errors.AsType[*problem.Error](err)
				if !ok || !strings.Contains(p.Error(), test.err) || p.Line < test.line {
					t.Errorf("error %#v, want a problem with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

// What is named twice is downloaded once.
func TestDownloadedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.files["/f"] = []byte("f")
	if _, err := sourceBuild(t, "FROM scratch AS a\nADD "+w.URL+"/f /1/\nFROM scratch\nADD "+w.URL+"/f /2/\nCOPY --from=a / /\n", build.Options{}); err != nil {
		t.Fatal(err)
	}
	if w.asked["/f"] != 1 {
		t.Errorf("asked %d times", w.asked["/f"])
	}
}

func TestLocalTarContext(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ctx.tgz")
	if err := os.WriteFile(file, tgz(t, map[string]string{"d/Dockerfile": "FROM scratch\nCOPY a.txt /\n", "a.txt": "a", "../../escape": "x"}), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := sourceBuild(t, "", build.Options{Context: file, File: "d/Dockerfile"})
	if err == nil {
		t.Errorf("an archive that leads out was unpacked: %v", got)
	}
	if err = os.WriteFile(file, tgz(t, map[string]string{"d/Dockerfile": "FROM scratch\nCOPY a.txt /\n", "a.txt": "a"}), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = sourceBuild(t, "", build.Options{Context: file, File: "d/Dockerfile"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, []string{"a.txt 640 7:8 a @1500000000"}); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}

func TestNamedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"a.txt": "a", "b.txt": "b", ".dockerignore": "b.txt\n"})
	got, err := sourceBuild(t, "FROM scratch\nCOPY --from=extra . /\n", build.Options{Contexts: map[string]string{"extra": dir}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[1] != "a.txt 644 0:0 a" {
		t.Errorf("got %q", got)
	}
}

// A layout's image is found by tag, by digest and, in an index, by platform; it
// takes the place of an image of that name.
func TestLayout(t *testing.T) {
	t.Parallel()
	base := baseImage(t, []txtar.File{{Name: "from-layout", Data: []byte("x")}})
	other := baseImage(t, []txtar.File{{Name: "other-platform", Data: []byte("y")}})
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: base, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	tag := func(name string) layout.Option {
		return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})
	}
	if err = errors.Join(path.AppendImage(base, tag("one")), path.AppendIndex(index, tag("latest"))); err != nil {
		t.Fatal(err)
	}
	digest, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"tag": dir + ":one", "digest": dir + "@" + digest.String(), "index": dir} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, buildErr := sourceBuild(t, "FROM debian\nCOPY Dockerfile /new\n", build.Options{Contexts: map[string]string{"docker.io/library/debian:latest": "oci-layout://" + value}})
			if buildErr != nil {
				t.Fatal(buildErr)
			}
			if len(got) != 2 || !strings.HasPrefix(got[0], "from-layout ") {
				t.Errorf("got %q", got)
			}
		})
	}
	_, err = sourceBuild(t, "FROM debian\n", build.Options{Contexts: map[string]string{"debian": "oci-layout://" + dir + ":none"}})
	p, ok := errors.AsType[*problem.Error](err)
	if !ok || !strings.Contains(p.Error(), `no image with the tag "none"`) || p.Input != "build-contexts" {
		t.Errorf("error %v", err)
	}
}

// A kept .git folder comes with ADD, and a secret token is not in the image.
func TestAddGitKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	commit := w.repository(t, "app.git", map[string]string{"a": "a"})
	got, err := sourceBuild(t, "FROM scratch\nADD --keep-git-dir=true "+w.URL+"/git/app.git#v1 /src\n", build.Options{Secrets: map[string][]byte{"GIT_AUTH_TOKEN": []byte("s3cr3t")}})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(got, "\n")
	if !strings.Contains(all, "src/.git/HEAD 644 0:0 "+commit) || strings.Contains(all, "s3cr3t") {
		raw, _ := json.Marshal(got)
		t.Errorf("got %s", raw)
	}
}
