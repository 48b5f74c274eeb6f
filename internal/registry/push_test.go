package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/problem"
)

func TestPushAgainAndElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, seen := newFake(), &events{}
		c := New(Options{Transport: f, Events: seen.add})
		img := image(t, 2, "")
		digest := must[v1.Hash](t)(img.Digest())
		refs := []string{"reg.example/app:1", "reg.example/app:2", "reg.example/app:1", "reg.example/other:1"}
		pushed := must[*Pushed](t)(c.Push(t.Context(), img, refs))
		want := &Pushed{Digest: digest, Size: pushed.Size, Tags: []Tag{
			{Ref: "reg.example/app:1", Repository: "reg.example/app"},
			{Ref: "reg.example/app:2", Repository: "reg.example/app"},
			{Ref: "reg.example/other:1", Repository: "reg.example/other"},
		}}
		if diff := cmp.Diff(want, pushed); diff != "" {
			t.Errorf("Push (-want +got):\n%s", diff)
		}
		// The second repository takes the blobs over from the first.
		if diff := cmp.Diff([]string{
			"mounted config", "mounted layer", "mounted layer", "pushed config", "pushed layer", "pushed layer",
			"pushed manifest", "pushed manifest", "pushed tag reg.example/app:1", "pushed tag reg.example/app:2", "pushed tag reg.example/other:1",
		}, seen.take()); diff != "" {
			t.Errorf("events of the first push (-want +got):\n%s", diff)
		}
		if got := f.count("PATCH", ""); got != 3 {
			t.Errorf("%d uploads, want 3", got)
		}

		// A new client finds everything in its place and writes nothing.
		f.forget()
		again := New(Options{Transport: f, Events: seen.add})
		pushed = must[*Pushed](t)(again.Push(t.Context(), img, refs[:2]))
		if !pushed.Tags[0].Existed || !pushed.Tags[1].Existed {
			t.Errorf("Push: tags %+v, want them to have existed", pushed.Tags)
		}
		if diff := cmp.Diff([]string{"exists manifest", "exists tag reg.example/app:1", "exists tag reg.example/app:2"}, seen.take()); diff != "" {
			t.Errorf("events of the second push (-want +got):\n%s", diff)
		}
		if got := f.count("PUT", "") + f.count("POST", "") + f.count("PATCH", ""); got != 0 {
			t.Errorf("the second push wrote: %s", f.requests)
		}

		// One layer more: the others are there.
		more := must[v1.Image](t)(mutate.AppendLayers(img, must[v1.Layer](t)(random.Layer(512, types.OCILayer))))
		must[*Pushed](t)(New(Options{Transport: f, Events: seen.add}).Push(t.Context(), more, []string{"reg.example/app:3"}))
		if diff := cmp.Diff([]string{
			"exists layer", "exists layer", "pushed config", "pushed layer", "pushed manifest", "pushed tag reg.example/app:3",
		}, seen.take()); diff != "" {
			t.Errorf("events of the third push (-want +got):\n%s", diff)
		}
	})
}

// TestMountBase: what was pulled from a registry is mounted there, without
// being downloaded, even though the image has been changed since.
func TestMountBase(t *testing.T) {
	t.Parallel()
	for name, mounts := range map[string]bool{"mounted": true, "uploaded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, seen := newFake(), &events{}
			f.mounts = mounts
			must[*Pushed](t)(New(Options{Transport: f}).Push(t.Context(), image(t, 2, ""), []string{"reg.example/base:1"}))
			f.forget()
			c := New(Options{Transport: f, Events: seen.add, CacheDir: t.TempDir()})
			base := must[*Image](t)(c.Resolve(t.Context(), "reg.example/base:1", v1.Platform{OS: "linux", Architecture: "amd64"}))
			top := must[v1.Layer](t)(random.Layer(512, types.OCILayer))
			img := must[v1.Image](t)(mutate.Append(base.Image, mutate.Addendum{Layer: top, History: v1.History{CreatedBy: "RUN true"}}))
			img = must[v1.Image](t)(mutate.Config(img, v1.Config{Cmd: []string{"sh"}}))
			must[*Pushed](t)(c.Push(t.Context(), img, []string{"reg.example/app:1"}))
			want := []string{"mounted layer", "mounted layer", "pushed config", "pushed layer", "pushed manifest", "pushed tag reg.example/app:1"}
			downloads := 0
			if !mounts {
				want = []string{"pulled layer", "pulled layer", "pushed config", "pushed layer", "pushed layer", "pushed layer", "pushed manifest", "pushed tag reg.example/app:1"}
				downloads = 2
			}
			if diff := cmp.Diff(want, seen.take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := f.count("GET", "/base/blobs/") - 1; got != downloads { // one is the config
				t.Errorf("%d layers were downloaded, want %d", got, downloads)
			}
			// To another registry nothing is mounted: it knows no such repository.
			f.forget()
			must[*Pushed](t)(c.Push(t.Context(), img, []string{"elsewhere.example/app:1"}))
			if got := f.count("POST", "mount="); got != 0 {
				t.Errorf("%d mounts from another registry were asked for", got)
			}
		})
	}
}

func TestUploadBeforeTheImage(t *testing.T) {
	t.Parallel()
	f, seen := newFake(), &events{}
	c := New(Options{Transport: f, Events: seen.add})
	img := image(t, 2, "")
	layers := must[[]v1.Layer](t)(img.Layers())
	if err := c.Upload(t.Context(), "reg.example/app", layers[0]); err != nil {
		t.Fatal(err)
	}
	if early := seen.take(); len(early) > 0 {
		t.Errorf("told before the push: %v", early)
	}
	f.forget()
	must[*Pushed](t)(c.Push(t.Context(), img, []string{"reg.example/app"}))
	if got := f.count("PATCH", "/blobs/uploads/"); got != 2 { // the config and the other layer
		t.Errorf("%d blobs were uploaded by the push, want 2", got)
	}
	if diff := cmp.Diff([]string{
		"pushed config", "pushed layer", "pushed layer", "pushed manifest", "pushed tag reg.example/app:latest",
	}, seen.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestForeignLayer(t *testing.T) {
	t.Parallel()
	f := newFake()
	foreign := static.NewLayer([]byte("never read"), types.DockerForeignLayer)
	img := must[v1.Image](t)(mutate.Append(image(t, 1, ""), mutate.Addendum{Layer: foreign, URLs: []string{"https://example.com/layer"}}))
	must[*Pushed](t)(New(Options{Transport: f}).Push(t.Context(), img, []string{"reg.example/app:1"}))
	c := New(Options{Transport: f, CacheDir: t.TempDir()})
	got := must[*Image](t)(c.Resolve(t.Context(), "reg.example/app:1", v1.Platform{}))
	manifest := must[*v1.Manifest](t)(got.Image.Manifest())
	digest := must[v1.Hash](t)(foreign.Digest())
	if desc := manifest.Layers[1]; desc.Digest != digest || desc.MediaType != types.DockerForeignLayer || len(desc.URLs) != 1 {
		t.Errorf("the foreign layer is %+v", desc)
	}
	if n := f.count("HEAD", digest.String()); n != 0 {
		t.Errorf("the foreign layer was asked for %d times", n)
	}
	if err := c.Fetch(t.Context(), must[[]v1.Layer](t)(got.Image.Layers())...); err != nil {
		t.Errorf("Fetch: %v", err)
	}
}

func TestImmutableTag(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings *Repository
		tag      string
		refused  bool
		early    bool // before anything is uploaded
	}{
		"told by ECR":          {settings: &Repository{TagMutability: "IMMUTABLE"}, tag: "1", refused: true, early: true},
		"told by the registry": {tag: "1", refused: true},
		"new tag":              {settings: &Repository{TagMutability: "IMMUTABLE"}, tag: "2"},
		"excluded":             {settings: &Repository{TagMutability: "MUTABLE_WITH_EXCLUSION", TagExclusions: []string{"v*", "1*"}}, tag: "1", refused: true, early: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.immutable = true
			e := &fakeECR{passwords: []string{"p"}, repos: map[string]Repository{}}
			if test.settings != nil {
				e.repos["app"] = *test.settings
			}
			c := New(Options{Transport: f, ECR: e})
			old, img := image(t, 1, ""), image(t, 1, "")
			must[*Pushed](t)(c.Push(t.Context(), old, []string{ecrHost + "/app:1"}))
			// The same digest again is fine.
			must[*Pushed](t)(c.Push(t.Context(), old, []string{ecrHost + "/app:1"}))
			f.forget()
			_, err := c.Push(t.Context(), img, []string{ecrHost + "/app:" + test.tag})
			if !test.refused {
				if err != nil {
					t.Errorf("Push: %v", err)
				}
				return
			}
			var p *problem.Error
			if !errors.As(err, &p) || p.Input != "tags" || p.Value != ecrHost+"/app:1" || !strings.Contains(p.Fix, "commit's SHA") {
				t.Fatalf("Push: error %v, want a problem of input tags", err)
			}
			for _, each := range []v1.Image{old, img} {
				if digest := must[v1.Hash](t)(each.Digest()); !strings.Contains(err.Error(), digest.String()) {
					t.Errorf("Push: error %q lacks digest %s", err, digest)
				}
			}
			if wrote := f.count("POST", "") + f.count("PUT", ""); test.early && wrote != 0 {
				t.Errorf("Push: %d writes before the refusal", wrote)
			}
		})
	}
}

// TestImmutableRace: somebody else has set the tag to the same image between
// our look and our write.
func TestImmutableRace(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.immutable = true
	c := New(Options{Transport: f})
	img := image(t, 1, "")
	must[*Pushed](t)(c.Push(t.Context(), img, []string{"reg.example/app:1"}))
	hidden := false
	f.fault = func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodHead && strings.HasSuffix(req.URL.Path, "/manifests/1") && !hidden {
			hidden = true
			return answer(http.StatusNotFound, nil, ""), nil
		}
		return nil, nil
	}
	if pushed := must[*Pushed](t)(c.Push(t.Context(), img, []string{"reg.example/app:1"})); !pushed.Tags[0].Existed {
		t.Errorf("Push: %+v, want the tag to have existed", pushed.Tags)
	}
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ref     string
		missing []string
		denied  string // method and part of the path
		fault   func(*http.Request) (*http.Response, error)
		want    []string
		input   string
	}{
		"missing in ECR": {
			missing: []string{"app"}, input: "repository",
			want: []string{"NAME_UNKNOWN", "aws ecr create-repository --repository-name app --region eu-central-1"},
		},
		"missing elsewhere": {ref: "reg.example/app:1", missing: []string{"app"}, input: "tags", want: []string{"Create the repository"}},
		"bare EOF": {
			fault: func(req *http.Request) (*http.Response, error) {
				if req.Method == http.MethodPost {
					return nil, io.EOF
				}
				return nil, nil
			},
			input: "tags", want: []string{"aws ecr create-repository --repository-name app", "ecr:InitiateLayerUpload"},
		},
		"InitiateLayerUpload": {denied: "POST /blobs/uploads/", input: "tags", want: []string{"ecr:InitiateLayerUpload on arn:aws:ecr:eu-central-1:123456789012:repository/app"}},
		"UploadLayerPart":     {denied: "PATCH /blobs/", input: "tags", want: []string{"ecr:UploadLayerPart"}},
		"CompleteLayerUpload": {denied: "PUT /blobs/", input: "tags", want: []string{"ecr:CompleteLayerUpload"}},
		"PutImage":            {denied: "PUT /manifests/", input: "tags", want: []string{"ecr:PutImage", "quota"}},
		"CheckLayer":          {denied: "HEAD /blobs/", input: "tags", want: []string{"ecr:BatchCheckLayerAvailability"}},
		"denied elsewhere":    {ref: "reg.example/app:1", denied: "POST /blobs/", input: "tags", want: []string{"registry-credentials for reg.example"}},
		"digest":              {ref: "reg.example/app@sha256:" + strings.Repeat("a", 64), input: "tags", want: []string{"not under a digest"}},
		"bad name":            {ref: "Reg.example/App:1", input: "tags", want: []string{"lower case"}},
		"unknown host":        {ref: "reg.example/app:1", fault: func(*http.Request) (*http.Response, error) { return nil, errors.New("dial tcp: no such host") }, input: "tags", want: []string{"Check the registry's name, reg.example"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.missing, f.fault = test.missing, test.fault
				if method, part, ok := strings.Cut(test.denied, " "); ok {
					f.fault = func(req *http.Request) (*http.Response, error) {
						if req.Method == method && strings.Contains(req.URL.Path, part) {
							return answer(http.StatusForbidden, nil, `{"errors":[{"code":"DENIED","message":"User: arn:aws:sts::1:assumed-role/x is not authorized"}]}`), nil
						}
						return nil, nil
					}
				}
				c := New(Options{Transport: f, ECR: &fakeECR{passwords: []string{"p"}}})
				ref := test.ref
				if ref == "" {
					ref = ecrHost + "/app:1"
				}
				_, err := c.Push(t.Context(), image(t, 1, ""), []string{ref})
				var p *problem.Error
				if !errors.As(err, &p) || p.Input != test.input {
					t.Fatalf("Push: error %v, want a problem of input %q", err, test.input)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Push: error %q lacks %q", err, want)
					}
				}
			})
		})
	}
}

func TestNoTags(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Transport: newFake()}).Push(t.Context(), image(t, 1, ""), nil)
	if err == nil || !strings.Contains(err.Error(), "no tag") {
		t.Errorf("Push without tags: %v", err)
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault func(n int, req *http.Request) (*http.Response, error)
		least time.Duration
		most  time.Duration
		fails bool
	}{
		"throttled, Retry-After": {
			fault: func(n int, _ *http.Request) (*http.Response, error) {
				if n == 1 {
					return answer(http.StatusTooManyRequests, map[string]string{"Retry-After": "20"}, `{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}`), nil
				}
				return nil, nil
			},
			least: 20 * time.Second, most: 21 * time.Second,
		},
		"server errors": {
			fault: func(n int, _ *http.Request) (*http.Response, error) {
				if n <= 3 {
					return answer([]int{500, 502, 503}[n-1], nil, "oops"), nil
				}
				return nil, nil
			},
			least: 3 * time.Second, most: 11 * time.Second,
		},
		"resets": {
			fault: func(n int, req *http.Request) (*http.Response, error) {
				if n <= 2 {
					_, _ = io.CopyN(io.Discard, req.Body, 100)
					return nil, fmt.Errorf("write tcp: %w", syscall.ECONNRESET)
				}
				return nil, nil
			},
			least: time.Second, most: 5 * time.Second,
		},
		"silence": {
			fault: func(n int, _ *http.Request) (*http.Response, error) {
				if n == 1 {
					return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
				}
				return nil, nil
			},
			least: time.Second / 2, most: 2 * time.Second,
		},
		"for ever": {
			fault: func(int, *http.Request) (*http.Response, error) { return answer(503, nil, ""), nil },
			least: 7 * time.Second, most: 23 * time.Second, fails: true,
		},
		"refusal": {
			fault: func(int, *http.Request) (*http.Response, error) { return answer(400, nil, ""), nil },
			fails: true,
		},
	}
	for name, test := range tests {
		for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f, n := newFake(), 0
					f.fault = func(req *http.Request) (*http.Response, error) {
						if req.Method != method || strings.Contains(req.URL.Path, "/manifests/1") {
							return nil, nil
						}
						n++
						return test.fault(n, req)
					}
					start := time.Now()
					_, err := New(Options{Transport: f, Jobs: 1}).Push(t.Context(), image(t, 1, ""), []string{"reg.example/app:1"})
					if (err != nil) != test.fails {
						t.Fatalf("Push: error %v", err)
					}
					if took := time.Since(start); took < test.least || took > test.most {
						t.Errorf("Push took %s, want %s to %s", took, test.least, test.most)
					}
				})
			})
		}
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fault = func(*http.Request) (*http.Response, error) {
			return answer(503, map[string]string{"Retry-After": "60"}, ""), nil
		}
		ctx, cancel := contextAfter(t, 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := New(Options{Transport: f}).Push(ctx, image(t, 1, ""), []string{"reg.example/app:1"})
		if !errors.Is(err, errStop) || time.Since(start) != 5*time.Second {
			t.Errorf("Push ended after %s with %v, want the context's cause after 5s", time.Since(start), err)
		}
	})
}

func TestMutability(t *testing.T) {
	t.Parallel()
	got := []bool{}
	for _, r := range []Repository{
		{},
		{TagMutability: "MUTABLE"},
		{TagMutability: "IMMUTABLE"},
		{TagMutability: "IMMUTABLE_WITH_EXCLUSION", TagExclusions: []string{"lat*"}},
		{TagMutability: "IMMUTABLE_WITH_EXCLUSION", TagExclusions: []string{"dev*"}},
		{TagMutability: "MUTABLE_WITH_EXCLUSION", TagExclusions: []string{"*est"}},
		{TagMutability: "MUTABLE_WITH_EXCLUSION"},
	} {
		got = append(got, r.Immutable("latest"))
	}
	if want := []bool{false, false, true, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("immutable = %v, want %v", got, want)
	}
}
