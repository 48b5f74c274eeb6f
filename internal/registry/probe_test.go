package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
)

// TestProbe: rights are asked for one by one, all that is missing is told at
// once, and nothing is left in the repository.
func TestProbe(t *testing.T) {
	t.Parallel()
	denied := func(service, action string) emulator.Fault {
		return emulator.Fault{Service: service, Action: action, Kind: emulator.Denied, Times: -1}
	}
	tests := map[string]struct {
		repository string
		faults     []emulator.Fault
		input      string
		want       []string
	}{
		"all is well": {repository: "app"},
		"missing":     {repository: "other", input: "repository", want: []string{"aws ecr create-repository --repository-name other --region us-east-1", "create-repository: true"}},
		"missing, and the connection is closed": {
			repository: "other", faults: []emulator.Fault{{Service: "registry", Action: "POST upload", Kind: emulator.Reset, Times: -1}},
			input: "repository", want: []string{"does not exist in the registry", "aws ecr create-repository"},
		},
		"connection closed": {
			repository: "app", faults: []emulator.Fault{{Service: "registry", Action: "POST upload", Kind: emulator.Reset, Times: -1}},
			input: "repository", want: []string{"Allow ecr:InitiateLayerUpload on arn:aws:ecr:us-east-1:123456789012:repository/app"},
		},
		"no InitiateLayerUpload": {repository: "app", faults: []emulator.Fault{denied("registry", "POST upload")}, input: "repository", want: []string{"Allow ecr:InitiateLayerUpload on arn:aws:ecr:us-east-1:123456789012:repository/app to the role"}},
		"no layer check":         {repository: "app", faults: []emulator.Fault{denied("ecr", "BatchCheckLayerAvailability")}, input: "repository", want: []string{"Allow ecr:BatchCheckLayerAvailability on"}},
		"no UploadLayerPart":     {repository: "app", faults: []emulator.Fault{denied("registry", "PATCH no upload")}, input: "repository", want: []string{"Allow ecr:UploadLayerPart on"}},
		"no CompleteLayerUpload": {repository: "app", faults: []emulator.Fault{denied("registry", "PUT no upload")}, input: "repository", want: []string{"Allow ecr:CompleteLayerUpload on"}},
		"no PutImage":            {repository: "app", faults: []emulator.Fault{denied("registry", "PUT no manifest")}, input: "repository", want: []string{"Allow ecr:PutImage on"}},
		"nothing": {
			repository: "app", input: "repository",
			faults: []emulator.Fault{denied("registry", "POST upload"), denied("registry", "PATCH no upload"), denied("registry", "PUT *"), denied("ecr", "BatchCheckLayerAvailability")},
			want:   []string{"Allow ecr:InitiateLayerUpload, ecr:BatchCheckLayerAvailability, ecr:UploadLayerPart, ecr:CompleteLayerUpload, ecr:PutImage on"},
		},
		"no token":       {repository: "app", faults: []emulator.Fault{denied("ecr", "GetAuthorizationToken")}, want: []string{"Allow ecr:GetAuthorizationToken"}},
		"throttled once": {repository: "app", faults: []emulator.Fault{{Service: "registry", Action: "POST upload", Kind: emulator.Throttle}}},
		"the other questions break": {
			repository: "app",
			faults: []emulator.Fault{
				{Service: "registry", Action: "PATCH no upload", Kind: emulator.Reset, Times: -1},
				{Service: "registry", Action: "PUT no manifest", Kind: emulator.Unavailable, Times: -1},
				{Service: "ecr", Action: "BatchCheckLayerAvailability", Kind: emulator.Internal, Times: -1},
			},
		},
		"unavailable": {repository: "app", faults: []emulator.Fault{{Service: "registry", Action: "POST upload", Kind: emulator.Unavailable, Times: -1}}, want: []string{"run the job again later"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				uri := strings.TrimSuffix(a.repository(t, emulator.Repository{Name: "app"}), "app") + test.repository
				for _, fault := range test.faults {
					a.Fail(fault)
				}
				err := a.client.Probe(t.Context(), uri)
				if len(test.want) == 0 {
					if err != nil {
						t.Errorf("Probe: %v", err)
					}
				} else {
					p, ok := errors.AsType[*problem.Error](err)
					if !ok || p.Input != test.input {
						t.Fatalf("Probe: %v, want a problem of input %q", err, test.input)
					}
					for _, want := range test.want {
						if !strings.Contains(err.Error(), want) {
							t.Errorf("Probe: %q lacks %q", err, want)
						}
					}
				}
				for _, call := range a.Called("registry", "") {
					if call.Method == http.MethodPut && call.Status < 300 && call.Status > 0 || call.Action == "PATCH upload" {
						t.Errorf("the probe wrote: %+v", call)
					}
				}
			})
		})
	}
}

// TestProbeIndex: an index whose images are there needs one right alone.
func TestProbeIndex(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		uri := a.repository(t, emulator.Repository{Name: "app"})
		a.Fail(emulator.Fault{Service: "registry", Action: "P* upload", Kind: emulator.Denied, Times: -1})
		a.Fail(emulator.Fault{Service: "ecr", Action: "BatchCheckLayerAvailability", Kind: emulator.Denied, Times: -1})
		if err := a.client.ProbeIndex(t.Context(), uri); err != nil {
			t.Error(err)
		}
		a.Fail(emulator.Fault{Service: "registry", Action: "PUT no manifest", Kind: emulator.Denied, Times: -1})
		if err := a.client.ProbeIndex(t.Context(), uri); err == nil || !strings.Contains(err.Error(), "Allow ecr:PutImage on") {
			t.Errorf("ProbeIndex: %v", err)
		}
	})
}

// TestProbeElsewhere: any registry says with one upload whether it takes any.
func TestProbeElsewhere(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault func(*http.Request) (*http.Response, error)
		want  []string
	}{
		"all is well": {},
		"cannot cancel": {fault: func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodDelete {
				return answer(http.StatusMethodNotAllowed, nil, ""), nil
			}
			return nil, nil
		}},
		"denied": {
			fault: func(req *http.Request) (*http.Response, error) {
				if req.Method == http.MethodPost {
					return answer(http.StatusForbidden, nil, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`), nil
				}
				return nil, nil
			},
			want: []string{"check push to reg.example/app", "may write to the repository"},
		},
		"nobody": {
			fault: func(*http.Request) (*http.Response, error) {
				return answer(http.StatusUnauthorized, map[string]string{"WWW-Authenticate": "Basic"}, ""), nil
			},
			want: []string{"registry-credentials: reg.example=USER:PASSWORD"},
		},
		"no such host": {
			fault: func(*http.Request) (*http.Response, error) {
				return nil, errors.New("dial tcp: lookup reg.example: no such host")
			},
			want: []string{"Check the registry's name, reg.example."},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.fault = test.fault
				err := New(Options{Transport: f}).Probe(t.Context(), "reg.example/app")
				if (err == nil) != (len(test.want) == 0) {
					t.Fatalf("Probe: %v", err)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Probe: %q lacks %q", err, want)
					}
				}
				if n := f.count("POST", ""); len(test.want) == 0 && (n != 1 || f.count("DELETE", "/blobs/uploads/") != 1) {
					t.Errorf("requests: %s", f.requests)
				}
			})
		})
	}
}

func TestProbeCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		f := newFake()
		f.fault = func(*http.Request) (*http.Response, error) {
			cancel(errors.New("the job was cancelled"))
			return nil, io.EOF
		}
		c := New(Options{Transport: f, ECR: &fakeECR{passwords: []string{"p"}}})
		if err := c.Probe(ctx, ecrHost+"/app"); err == nil || err.Error() != "the job was cancelled" {
			t.Errorf("Probe: %v", err)
		}
	})
}

func TestTargets(t *testing.T) {
	t.Parallel()
	west := strings.Replace(ecrHost, "eu-central-1", "us-west-2", 1)
	other := strings.Replace(ecrHost, "123456789012", "999999999999", 1)
	fips := strings.Replace(ecrHost, "dkr.ecr", "dkr.ecr-fips", 1)
	denied := codedError("AccessDeniedException")
	repos := map[string]Repository{"a": {URI: ecrHost + "/a", TagMutability: "IMMUTABLE"}, "b": {URI: ecrHost + "/b"}}
	tests := map[string]struct {
		ecr   *fakeECR
		asked []string
		want  []string // URI, and missing, unread or an error
		calls []string
	}{
		"one call for a registry": {
			ecr: &fakeECR{repos: repos}, asked: []string{ecrHost + "/a", ecrHost + "/b", ecrHost + "/a"},
			want: []string{ecrHost + "/a", ecrHost + "/b", ecrHost + "/a"}, calls: []string{"a b"},
		},
		"one call for each registry": {
			ecr: &fakeECR{repos: repos}, asked: []string{"a", ecrHost + "/a", west + "/a", other + "/b"},
			want: []string{ecrHost + "/a", ecrHost + "/a", west + "/a", other + "/b"}, calls: []string{"a", "a", "a", "b"},
		},
		"the host stays as it was given": {ecr: &fakeECR{repos: repos}, asked: []string{fips + "/a"}, want: []string{fips + "/a"}, calls: []string{"a"}},
		"one is missing": {
			ecr: &fakeECR{repos: repos}, asked: []string{"a", "none", "b"},
			want: []string{ecrHost + "/a", " missing", ecrHost + "/b"}, calls: []string{"a", "a none b", "b", "none"},
		},
		"denied": {
			ecr: &fakeECR{repoErr: denied}, asked: []string{"a", ecrHost + "/b", "ghcr.io/me/app"},
			want: []string{" error", ecrHost + "/b unread", "ghcr.io/me/app"}, calls: []string{"a", "b"},
		},
		"nobody is asked": {ecr: &fakeECR{passwords: []string{"p"}}, asked: []string{"ghcr.io/me/app", "docker.io/me/app"}, want: []string{"ghcr.io/me/app", "docker.io/me/app"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New(Options{Transport: newFake(), ECR: test.ecr})
			var got []string
			for _, target := range c.Targets(t.Context(), test.asked) {
				state := target.URI
				switch {
				case target.Missing:
					state += " missing"
				case target.Err != nil:
					state += " error"
				case target.Unread != nil:
					state += " unread"
				}
				got = append(got, state)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Targets (-want +got):\n%s", diff)
			}
			slices.Sort(test.ecr.described)
			if diff := cmp.Diff(test.calls, test.ecr.described); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOtherPartition: a session is of one partition, and no request is sent to
// another's registry with it.
func TestOtherPartition(t *testing.T) {
	t.Parallel()
	host := "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
	e := &fakeECR{passwords: []string{"p"}, repos: map[string]Repository{}}
	c := New(Options{Transport: newFake(), ECR: e})
	target := c.Targets(t.Context(), []string{host + "/app"})[0]
	for _, err := range []error{target.Err, c.Login(t.Context(), []string{host + "/app"}), c.Probe(t.Context(), host+"/app")} {
		if err == nil || !strings.Contains(err.Error(), "aws-cn") || !strings.Contains(err.Error(), "registry-credentials") {
			t.Errorf("error %v, want one that names the partition", err)
		}
	}
	if len(e.asked)+len(e.described) > 0 {
		t.Errorf("asked for tokens %v, repositories %v", e.asked, e.described)
	}
}

// TestLogins: every region has its token, and each is asked for once.
func TestLogins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &fakeECR{passwords: []string{"p"}}
		c := New(Options{Transport: newFake(), ECR: e})
		uris := []string{
			ecrHost + "/a", ecrHost + "/b", strings.Replace(ecrHost, "123456789012", "999999999999", 1) + "/a",
			strings.Replace(ecrHost, "eu-central-1", "us-west-2", 1) + "/a", "docker.io/library/alpine",
		}
		for range 2 {
			if err := c.Login(t.Context(), uris); err != nil {
				t.Error(err)
			}
		}
		slices.Sort(e.asked)
		if diff := cmp.Diff([]string{"eu-central-1", "us-west-2"}, e.asked); diff != "" {
			t.Errorf("tokens asked for (-want +got):\n%s", diff)
		}
		e.err = codedError("AccessDeniedException")
		err := New(Options{Transport: newFake(), ECR: e}).Login(t.Context(), uris)
		if err == nil || strings.Count(err.Error(), "Allow ecr:GetAuthorizationToken") != 2 {
			t.Errorf("Login: %v, want a problem for each region", err)
		}
	})
}

func TestHeld(t *testing.T) {
	t.Parallel()
	f := newFake()
	e := &fakeECR{passwords: []string{"p"}, repos: map[string]Repository{
		"fixed": {URI: ecrHost + "/fixed", TagMutability: "IMMUTABLE_WITH_EXCLUSION", TagExclusions: []string{"latest*"}},
		"free":  {URI: ecrHost + "/free", TagMutability: "MUTABLE"},
	}}
	img := image(t, 1, "")
	digest := must[v1.Hash](t)(img.Digest())
	for _, ref := range []string{"/fixed:1", "/fixed:latest", "/free:1"} {
		put(t, f, ecrHost+ref, img)
	}
	c := New(Options{Transport: f, ECR: e})
	c.Targets(t.Context(), []string{"fixed", "free"})
	var refs []string
	for _, ref := range []string{"/fixed:1", "/fixed:2", "/fixed:latest", "/free:1"} {
		refs = append(refs, ecrHost+ref)
	}
	got := must[[]HeldTag](t)(c.Held(t.Context(), append(refs, "reg.example/app:1")))
	if diff := cmp.Diff([]HeldTag{{Ref: ecrHost + "/fixed:1", Digest: digest}}, got); diff != "" {
		t.Errorf("Held (-want +got):\n%s", diff)
	}
}
