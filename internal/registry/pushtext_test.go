package registry

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/emulator"
)

// TestPushTexts holds the whole text of each way in which ECR ends a push for
// good, and how long it is tried.
func TestPushTexts(t *testing.T) {
	t.Parallel()
	const (
		uri  = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
		push = "push image to " + uri + "/app: input \"tags\": "
	)
	always := func(action string, kind emulator.FaultKind) emulator.Fault {
		return emulator.Fault{Service: "registry", Action: action, Kind: kind, Times: -1, Bytes: 100}
	}
	tests := map[string]struct {
		repository string
		fault      emulator.Fault
		eof        bool
		want       string
		tries      int
	}{
		"resets in mid-upload": {
			fault: always("PATCH upload", emulator.CutRequest), tries: 5,
			want: push + "layer DIGEST: Patch \"https://" + uri + "/v2/app/blobs/uploads/ID\": read tcp: connection reset by peer. The connection broke each time it was tried: run the job again, and what has arrived is not sent anew. " +
				"If it keeps on, look for a proxy or a firewall on the way to " + uri + " that limits uploads.",
		},
		"429": {
			fault: always("PATCH upload", emulator.Throttle), tries: 5,
			want: push + "layer DIGEST: PATCH https://" + uri + "/v2/app/blobs/uploads/ID: TOOMANYREQUESTS: Rate exceeded. Run fewer pushes at once, or ask for a higher quota.",
		},
		"503": {
			fault: always("PATCH upload", emulator.Unavailable), tries: 5,
			want: "push image to " + uri + "/app: layer DIGEST: PATCH https://" + uri + "/v2/app/blobs/uploads/ID: UNAVAILABLE: Service Unavailable. The registry has trouble of its own: run the job again later.",
		},
		"quota of images": {
			fault: emulator.Fault{Service: "registry", Action: "PUT manifest", Times: -1, Error: &emulator.Error{Code: "DENIED", Message: "The repository with name 'app' has reached the limit of images", Status: 403}}, tries: 1,
			want: push + "manifest DIGEST: PUT https://" + uri + "/v2/app/manifests/DIGEST: DENIED: The repository with name 'app' has reached the limit of images. " +
				"Allow ecr:PutImage on arn:aws:ecr:us-east-1:123456789012:repository/app to the role, and in the repository's policy if it is another account's. " +
				"ECR answers the same when the repository has reached its quota of images: then delete old ones (a lifecycle policy does), or ask for a higher quota.",
		},
		"no right": {
			fault: always("PUT manifest", emulator.Denied), tries: 1,
			want: push + "manifest DIGEST: PUT https://" + uri + "/v2/app/manifests/DIGEST: DENIED: User: arn:aws:iam::123456789012:user/AKIAEXAMPLE is not authorized to perform: ecr:PutImage on resource: * " +
				"because no identity-based policy allows the ecr:PutImage action. Allow ecr:PutImage on arn:aws:ecr:us-east-1:123456789012:repository/app to the role, and in the repository's policy if it is another account's.",
		},
		"bare EOF": {
			eof: true, tries: 5,
			want: push + "layer DIGEST: Post \"https://" + uri + "/v2/app/blobs/uploads/\": EOF. ECR ends an upload like this when the repository is missing or ecr:InitiateLayerUpload is denied. " +
				"Create it (aws ecr create-repository --repository-name app --region us-east-1), or allow the action.",
		},
		"missing repository": {
			repository: "other", tries: 1,
			want: strings.NewReplacer("/app", "/other", `"tags"`, `"repository"`).Replace(push) + "layer DIGEST: POST https://" + uri + "/v2/other/blobs/uploads/: NAME_UNKNOWN: The repository with name 'other' does not exist in the registry with id '123456789012'. " +
				"Create the repository: aws ecr create-repository --repository-name other --region us-east-1",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				a.repository(t, emulator.Repository{Name: "app"})
				if test.fault.Service != "" {
					a.Fail(test.fault)
				}
				var begun atomic.Int64
				a.client = a.connect(t, roundTrip(func(req *http.Request) (*http.Response, error) {
					if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/uploads/") {
						begun.Add(1)
						if test.eof {
							return nil, io.EOF
						}
					}
					return a.RoundTripper().RoundTrip(req)
				}), nil)
				ref := uri + "/app:1"
				if test.repository != "" {
					ref = uri + "/" + test.repository + ":1"
				}
				start := time.Now()
				_, err := a.client.Push(t.Context(), image(t, 1, ""), []string{ref})
				if err == nil {
					t.Fatal("it works")
				}
				if got := plainText(err); got != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
				took, tries := time.Since(start), int(begun.Load())
				if test.tries > 1 && (tries < test.tries || took < 7*time.Second || took > 30*time.Second) || test.tries == 1 && took > time.Second {
					t.Errorf("%d uploads were begun within %s, want %d tries", tries, took, test.tries)
				}
			})
		})
	}
}

// roundTrip is a function that answers.
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// plainText is an error without what no two runs have alike.
func plainText(err error) string {
	text := regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(err.Error(), "DIGEST")
	text = regexp.MustCompile(`uploads/[0-9a-f]{32}`).ReplaceAllString(text, "uploads/ID")
	return regexp.MustCompile(`(?:layer|config) DIGEST`).ReplaceAllString(text, "layer DIGEST") // whichever fails first
}

// TestResumed: a push that is cut is taken up where it was. What has arrived is
// not sent again, neither in the same push nor in the next one.
func TestResumed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault emulator.Fault
		fails bool
	}{
		"cut once":     {fault: emulator.Fault{Action: "PATCH upload", Skip: 2, Kind: emulator.CutRequest, Bytes: 100}},
		"reset once":   {fault: emulator.Fault{Action: "PATCH upload", Skip: 2, Kind: emulator.Reset}},
		"throttled":    {fault: emulator.Fault{Action: "PATCH upload", Skip: 2, Kind: emulator.Throttle, Times: 3}},
		"unavailable":  {fault: emulator.Fault{Action: "PUT upload", Skip: 2, Kind: emulator.Unavailable, Times: 2}},
		"for good":     {fault: emulator.Fault{Action: "PATCH upload", Skip: 2, Kind: emulator.CutRequest, Bytes: 100, Times: 5}, fails: true},
		"the manifest": {fault: emulator.Fault{Action: "PUT manifest", Kind: emulator.Unavailable, Times: 5}, fails: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				uri := a.repository(t, emulator.Repository{Name: "app"})
				a.client.opts.Jobs = 1
				img := image(t, 4, "")
				test.fault.Service = "registry"
				a.Fail(test.fault)
				_, err := a.client.Push(t.Context(), img, []string{uri + ":1"})
				if (err != nil) != test.fails {
					t.Fatalf("got %v, want a failure: %t", err, test.fails)
				}
				if test.fails {
					client := a.connect(t, a.RoundTripper(), nil) // of the next run
					must[*Pushed](t)(client.Push(t.Context(), img, []string{uri + ":1"}))
				}
				if uploads, _ := a.Uploaded(); uploads != 5 {
					t.Errorf("%d blobs were uploaded, want four layers and the config once each", uploads)
				}
				got := must[*Image](t)(a.connect(t, a.RoundTripper(), nil).Resolve(t.Context(), uri+":1", amd64))
				if err := validate.Image(got.Image); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestImmutableUnseen: a role that may not read images learns of a tag that cannot
// be moved from the push itself, with the same remedy.
func TestImmutableUnseen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		uri := a.repository(t, emulator.Repository{Name: "app", ImmutableTags: true, Exclusions: []string{"dev-*"}})
		must[*Pushed](t)(a.client.Push(t.Context(), image(t, 1, ""), []string{uri + ":1", uri + ":dev-1"}))
		a.Fail(emulator.Fault{Service: "registry", Action: "* manifest", Times: -1, Kind: emulator.Denied})
		if held, err := a.client.Held(t.Context(), []string{uri + ":1"}); err != nil || len(held) != 0 {
			t.Errorf("Held: %v, %v; want nothing that may not be seen", held, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		uri := a.repository(t, emulator.Repository{Name: "app", ImmutableTags: true, Exclusions: []string{"dev-*"}})
		must[*Pushed](t)(a.client.Push(t.Context(), image(t, 1, ""), []string{uri + ":1", uri + ":dev-1"}))
		a.Fail(emulator.Fault{Service: "registry", Action: "HEAD manifest", Times: -1, Kind: emulator.Denied})
		client := a.connect(t, a.RoundTripper(), nil)
		must[*Pushed](t)(client.Push(t.Context(), image(t, 1, ""), []string{uri + ":dev-1"}))
		_, err := client.Push(t.Context(), image(t, 1, ""), []string{uri + ":1"})
		want := "push image to " + uri + `: input "tags": tag 1: PUT https://` + strings.Replace(uri, "/app", "/v2/app", 1) + "/manifests/1: TAG_INVALID: The image tag '1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable. " + fixImmutable
		if err == nil || plainText(err) != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
}
