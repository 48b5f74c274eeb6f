package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/problem"
)

var errStop = errors.New("stopped by the test")

func contextAfter(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeoutCause(t.Context(), d, errStop)
}

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

// put stores an image or index without the client under test.
func put(t *testing.T, f *fake, ref string, what remote.Taggable) {
	t.Helper()
	parsed := must[name.Reference](t)(name.ParseReference(ref))
	if err := remote.Push(parsed, what, remote.WithTransport(f)); err != nil {
		t.Fatal(err)
	}
	f.forget()
}

func read(t *testing.T, rc io.ReadCloser, err error) ([]byte, error) {
	t.Helper()
	if err != nil {
		return nil, err
	}
	defer func() { _ = rc.Close() }()
	return io.ReadAll(rc)
}

func TestResolve(t *testing.T) {
	t.Parallel()
	f, seen := newFake(), &events{}
	img := image(t, 3, "")
	put(t, f, "alpine:3.20", img)
	digest := must[v1.Hash](t)(img.Digest())
	c := New(Options{Transport: f, Events: seen.add, CacheDir: t.TempDir()})

	got := must[*Image](t)(c.Resolve(t.Context(), "alpine:3.20", amd64))
	if got.Ref != "docker.io/library/alpine:3.20" || got.Digest != digest {
		t.Errorf("Resolve: %s %s, want docker.io/library/alpine:3.20 %s", got.Ref, got.Digest, digest)
	}
	if want := must[[]byte](t)(img.RawConfigFile()); !bytes.Equal(got.Config, want) {
		t.Errorf("Resolve: config %s, want %s", got.Config, want)
	}
	if err := validate.Image(got.Image); err != nil {
		t.Errorf("the image is not sound: %v", err)
	}
	if diff := cmp.Diff([]string{"pulled layer", "pulled layer", "pulled layer"}, seen.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	// By another spelling, and by its digest, it is known.
	f.forget()
	for _, ref := range []string{"docker.io/library/alpine:3.20", "index.docker.io/library/alpine:3.20", "alpine@" + digest.String(), "docker.io/library/alpine:3.20@" + digest.String()} {
		if again := must[*Image](t)(c.Resolve(t.Context(), ref, amd64)); again.Image != got.Image {
			t.Errorf("Resolve(%q) gives another image", ref)
		}
	}
	if len(f.requests) != 0 {
		t.Errorf("resolving again asked the registry: %s", f.requests)
	}
}

func TestResolvePlatform(t *testing.T) {
	t.Parallel()
	f := newFake()
	idx, digests := index(t, "linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6", "windows/amd64")
	put(t, f, "reg.example/multi:1", idx)
	put(t, f, "reg.example/single:1", image(t, 1, "linux/s390x"))
	top := must[v1.Hash](t)(idx.Digest())
	c := New(Options{Transport: f})
	for platform, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64": "linux/arm64/v8", "linux/arm": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/arm/v8": "linux/arm/v7",
		"linux/amd64/v3": "linux/amd64", "windows/amd64": "windows/amd64",
	} {
		got, err := c.Resolve(t.Context(), "reg.example/multi:1", *must[*v1.Platform](t)(v1.ParsePlatform(platform)))
		if err != nil {
			t.Errorf("Resolve for %s: %v", platform, err)
			continue
		}
		if digest := must[v1.Hash](t)(got.Image.Digest()); digest != digests[want] || got.Digest != top {
			t.Errorf("Resolve for %s gives another image than that of %s", platform, want)
		}
	}
	_, err := c.Resolve(t.Context(), "reg.example/multi:1", v1.Platform{OS: "linux", Architecture: "riscv64"})
	want := "there is no image for linux/riscv64; the index has linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64, windows/amd64"
	var p *problem.Error
	if !errors.As(err, &p) || !strings.Contains(err.Error(), want) || p.Fix == "" {
		t.Errorf("Resolve for a platform that is missing: %v, want %q", err, want)
	}
	// A single manifest is taken as it is: BuildKit only warns of it.
	if _, err := c.Resolve(t.Context(), "reg.example/single:1", amd64); err != nil {
		t.Errorf("Resolve of a single manifest: %v", err)
	}
}

func TestResolveRefused(t *testing.T) {
	t.Parallel()
	f := newFake()
	put(t, f, "reg.example/some:2", image(t, 1, ""))
	f.missing = []string{"gone"}
	f.fault = func(req *http.Request) (*http.Response, error) {
		status := map[string]int{"private": 401, "closed": 403, "busy": 429}
		for repo, code := range status {
			if strings.Contains(req.URL.Path, "/"+repo+"/") {
				return answer(code, nil, `{"errors":[{"code":"SOME","message":"told"}]}`), nil
			}
		}
		if strings.Contains(req.URL.Path, "/old/") {
			return answer(200, map[string]string{"Content-Type": string(types.DockerManifestSchema1Signed)}, `{"schemaVersion":1}`), nil
		}
		return nil, nil
	}
	tests := map[string][]string{
		"reg.example/gone:1":     {"pull image reg.example/gone:1", "NAME_UNKNOWN", "Check the image's name"},
		"reg.example/some:1":     {"MANIFEST_UNKNOWN", "Check the image's name and tag"},
		"private:1":              {"pull image docker.io/library/private:1", "Docker Hub answers like this"},
		"reg.example/private:1":  {"registry-credentials: reg.example="},
		ecrHost + "/private:1":   {"role-to-assume"},
		ecrHost + "/closed:1":    {"ecr:BatchGetImage on arn:aws:ecr:eu-central-1:123456789012:repository/closed"},
		"busy:1":                 {"registry-mirrors"},
		"reg.example/old:1":      {"schema 1"},
		"Upper:1":                {"lower case"},
		"reg.example/a:b:c":      {"read image name"},
		"reg.example/closed/x:1": {"may read the repository"},
	}
	for ref, wants := range tests {
		t.Run(ref, func(t *testing.T) {
			t.Parallel()
			if ref == "busy:1" {
				t.Skip("takes its retries; see TestRetries")
			}
			_, err := New(Options{Transport: f}).Resolve(t.Context(), ref, amd64)
			if _, ok := errors.AsType[*problem.Error](err); !ok {
				t.Fatalf("Resolve: error %v, want a problem", err)
			}
			for _, want := range wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Resolve: error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	mirrors := map[string]string{"docker.io": ecrHost + "/hub/"}
	img := image(t, 1, "")
	setup := func(t *testing.T) (*fake, *Client, *events) {
		t.Helper()
		f, seen := newFake(), &events{}
		put(t, f, "alpine:3", img)
		f.password = "p"
		return f, New(Options{Transport: f, Mirrors: mirrors, ECR: &fakeECR{passwords: []string{"p"}}, Events: seen.add, CacheDir: t.TempDir()}), seen
	}
	t.Run("used", func(t *testing.T) {
		t.Parallel()
		f, c, seen := setup(t)
		f.password = ""
		put(t, f, ecrHost+"/hub/library/alpine:3", img)
		f.password = "p"
		got := must[*Image](t)(c.Resolve(t.Context(), "alpine:3", amd64))
		if err := validate.Image(got.Image); err != nil || got.Ref != "docker.io/library/alpine:3" {
			t.Errorf("Resolve: %s, %v", got.Ref, err)
		}
		if n := f.count("GET", hub); n != 0 {
			t.Errorf("Docker Hub was asked %d times", n)
		}
		if event := seen.all[0]; event.Repository != ecrHost+"/hub/library/alpine" {
			t.Errorf("event %+v does not name the mirror", event)
		}
	})
	t.Run("lacks the image", func(t *testing.T) {
		t.Parallel()
		f, c, _ := setup(t)
		got := must[*Image](t)(c.Resolve(t.Context(), "alpine:3", amd64))
		if err := validate.Image(got.Image); err != nil {
			t.Error(err)
		}
		if n := f.count("GET", ecrHost+"/v2/hub/library/alpine/manifests/3"); n != 1 {
			t.Errorf("the mirror was asked %d times, want once", n)
		}
	})
	t.Run("loses a layer", func(t *testing.T) {
		t.Parallel()
		f, c, _ := setup(t)
		f.password = ""
		put(t, f, ecrHost+"/hub/library/alpine:3", img)
		got := must[*Image](t)(c.Resolve(t.Context(), "alpine:3", amd64))
		delete(f.blobs[ecrHost+"/hub/library/alpine"], must[*v1.Manifest](t)(img.Manifest()).Layers[0].Digest)
		if err := validate.Image(got.Image); err != nil {
			t.Error(err)
		}
	})
	t.Run("both lack it", func(t *testing.T) {
		t.Parallel()
		_, c, _ := setup(t)
		_, err := c.Resolve(t.Context(), "alpine:4", amd64)
		var p *problem.Error
		if !errors.As(err, &p) || !strings.Contains(p.Error(), "docker.io/library/alpine:4") || len(p.Detail) != 1 || !strings.Contains(p.Detail[0], "The mirror said") {
			t.Errorf("Resolve: %#v", err)
		}
	})
	t.Run("other registries have none", func(t *testing.T) {
		t.Parallel()
		f, c, _ := setup(t)
		_, _ = c.Resolve(t.Context(), "quay.io/a/b:1", amd64)
		if n := f.count("GET", "/v2/hub/"); n != 0 {
			t.Errorf("the mirror was asked for another registry's image")
		}
	})
}

// TestDownload: whatever happens on the way, a layer is whole or an error.
func TestDownload(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		damage func(n int, resp *http.Response) *http.Response
		fails  bool
		asked  int
	}{
		"sound": {damage: func(_ int, r *http.Response) *http.Response { return r }, asked: 1},
		"cut once": {damage: func(n int, r *http.Response) *http.Response {
			return unless(n > 1, r, 100, io.ErrUnexpectedEOF)
		}, asked: 2},
		"ends early":    {damage: func(n int, r *http.Response) *http.Response { return unless(n > 2, r, 100, io.EOF) }, asked: 3},
		"always cut":    {damage: func(_ int, r *http.Response) *http.Response { return unless(false, r, 100, io.ErrUnexpectedEOF) }, fails: true, asked: 5},
		"other content": {damage: func(n int, r *http.Response) *http.Response { return unless(n > 1, r, 1<<20, io.EOF) }, asked: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, dir, n := newFake(), t.TempDir(), 0
				img := image(t, 1, "")
				put(t, f, "reg.example/app:1", img)
				layer := must[*v1.Manifest](t)(img.Manifest()).Layers[0].Digest
				plain := &fake{hosts: f.hosts, blobs: f.blobs, tags: f.tags}
				f.fault = func(req *http.Request) (*http.Response, error) {
					if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, layer.String()) {
						return nil, nil
					}
					n++
					resp, err := plain.RoundTrip(req)
					resp.ContentLength = -1 // as with chunks: nothing tells early
					return test.damage(n, resp), err
				}
				c := New(Options{Transport: f, CacheDir: dir})
				got := must[*Image](t)(c.Resolve(t.Context(), "reg.example/app:1", amd64))
				layers := must[[]v1.Layer](t)(got.Image.Layers())
				err := c.Fetch(t.Context(), layers...)
				if (err != nil) != test.fails || n != test.asked {
					t.Fatalf("Fetch: error %v after %d downloads, want %d", err, n, test.asked)
				}
				files, _ := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
				if test.fails {
					if len(files) != 0 {
						t.Errorf("%v was left behind", files)
					}
					return
				}
				if len(files) != 1 || filepath.Base(files[0]) != layer.Hex {
					t.Errorf("the cache holds %v, want the layer alone", files)
				}
				rc, err := layers[0].Compressed()
				data, err := read(t, rc, err)
				if h, _, _ := v1.SHA256(bytes.NewReader(data)); err != nil || h != layer {
					t.Errorf("Compressed: %d bytes with digest %s, %v", len(data), h, err)
				}
			})
		})
	}
}

// unless damages a body that is not to be sound: it ends with err after at
// bytes, and if that is beyond its end, one bit is another.
func unless(sound bool, resp *http.Response, at int, err error) *http.Response {
	if sound {
		return resp
	}
	data, _ := io.ReadAll(resp.Body)
	if at > len(data) {
		data[10] ^= 1
	}
	resp.Body = &broken{Reader: bytes.NewReader(data[:min(at, len(data))]), err: err}
	return resp
}

// TestNoCache: without a folder a layer is streamed, and its early end shows.
func TestNoCache(t *testing.T) {
	t.Parallel()
	f := newFake()
	put(t, f, "reg.example/app:1", image(t, 1, ""))
	c := New(Options{Transport: f})
	got := must[*Image](t)(c.Resolve(t.Context(), "reg.example/app:1", amd64))
	l := must[[]v1.Layer](t)(got.Image.Layers())[0]
	plain := &fake{hosts: f.hosts, blobs: f.blobs, tags: f.tags}
	rc, err := l.Compressed()
	if _, err = read(t, rc, err); err != nil {
		t.Errorf("a sound layer: %v", err)
	}
	f.fault = func(req *http.Request) (*http.Response, error) {
		resp, tripErr := plain.RoundTrip(req)
		resp.Body = &broken{Reader: io.LimitReader(resp.Body, 100), err: io.EOF}
		resp.ContentLength = -1
		return resp, tripErr
	}
	rc, err = l.Compressed()
	if _, err = read(t, rc, err); err == nil {
		t.Error("a layer that ends early was read without an error")
	}
	if err = c.Fetch(t.Context(), l); err != nil {
		t.Errorf("Fetch without a folder: %v", err)
	}
}

func TestDownloadOnce(t *testing.T) {
	t.Parallel()
	f, dir := newFake(), t.TempDir()
	img := image(t, 2, "")
	put(t, f, "reg.example/app:1", img)
	open := func() (*Client, []v1.Layer) {
		c := New(Options{Transport: f, CacheDir: dir})
		got := must[*Image](t)(c.Resolve(t.Context(), "reg.example/app:1", amd64))
		return c, must[[]v1.Layer](t)(got.Image.Layers())
	}
	c, layers := open()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := c.Fetch(t.Context(), layers...); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := f.count("GET", "/blobs/"); n != 3 { // one is the config
		t.Errorf("%d downloads, want 3", n)
	}
	// Another run finds them, and notices one that was damaged on disk.
	f.forget()
	digest := must[v1.Hash](t)(layers[0].Digest())
	file := filepath.Join(dir, "blobs", "sha256", digest.Hex)
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, layers = open()
	if err := c.Fetch(t.Context(), layers...); err != nil {
		t.Fatal(err)
	}
	if n := f.count("GET", digest.String()); n != 1 {
		t.Errorf("the damaged layer was downloaded %d times, want once", n)
	}
	if n := f.count("GET", "/blobs/"); n != 2 {
		t.Errorf("%d downloads, want the config and the damaged layer", n)
	}
}

// TestLayersOutliveTheLookup: the context of Resolve may have ended when the
// layers are read.
func TestLayersOutliveTheLookup(t *testing.T) {
	t.Parallel()
	f := newFake()
	put(t, f, "reg.example/app:1", image(t, 1, ""))
	ctx, cancel := context.WithCancel(t.Context())
	c := New(Options{Transport: f, CacheDir: t.TempDir()})
	got := must[*Image](t)(c.Resolve(ctx, "reg.example/app:1", amd64))
	cancel()
	if err := validate.Image(got.Image); err != nil {
		t.Error(err)
	}
	// And a fetch ends with its own context.
	c = New(Options{Transport: f, CacheDir: t.TempDir()})
	got = must[*Image](t)(c.Resolve(t.Context(), "reg.example/app:1", amd64))
	if err := c.Fetch(ctx, must[[]v1.Layer](t)(got.Image.Layers())...); !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch with a cancelled context: %v", err)
	}
}
