package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
)

// account is an AWS account and a client with its credentials.
type account struct {
	*emulator.Cloud
	client *Client
	events *events
}

func newAccount(t *testing.T) *account {
	t.Helper()
	a := &account{Cloud: emulator.New(emulator.Options{}), events: &events{}}
	a.AddUser("AKIAEXAMPLE", "secret")
	a.client = a.connect(t, a.RoundTripper(), nil)
	return a
}

func (a *account) connect(t *testing.T, transport http.RoundTripper, endpoint *string) *Client {
	t.Helper()
	ecr := NewECR(aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
		HTTPClient: &http.Client{Transport: transport}, BaseEndpoint: endpoint,
	})
	return New(Options{Transport: transport, ECR: ecr, Events: a.events.add, CacheDir: t.TempDir()})
}

func (a *account) repository(t *testing.T, r emulator.Repository) string {
	t.Helper()
	a.AddRepository(r)
	return must[string](t)(a.client.RepositoryURI(t.Context(), r.Name))
}

func TestECRRoundTrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		base, app := a.repository(t, emulator.Repository{Name: "base"}), a.repository(t, emulator.Repository{Name: "team/app"})
		must[*Pushed](t)(a.client.Push(t.Context(), image(t, 3, ""), []string{base + ":1"}))
		uploads, _ := a.Uploaded()
		a.events.take()

		a.client = a.connect(t, a.RoundTripper(), nil)
		got := must[*Image](t)(a.client.Resolve(t.Context(), base+":1", amd64))
		img := must[v1.Image](t)(mutate.Config(got.Image, v1.Config{Cmd: []string{"app"}}))
		pushed := must[*Pushed](t)(a.client.Push(t.Context(), img, []string{app + ":1", app + ":2"}))
		if diff := cmp.Diff([]string{
			"mounted layer", "mounted layer", "mounted layer", "pushed config", "pushed manifest", "pushed tag " + app + ":1", "pushed tag " + app + ":2",
		}, a.events.take()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if now, _ := a.Uploaded(); now != uploads+1 {
			t.Errorf("%d blobs were uploaded, want the config alone", now-uploads)
		}
		if n := len(a.Called("ecr", "GetAuthorizationToken")); n != 2 {
			t.Errorf("%d tokens were asked for, want one for each client", n)
		}
		if n := len(a.Called("registry", "GET v2")); n != 0 {
			t.Errorf("ECR was asked %d times how to log in, which is known", n)
		}
		again := must[*Image](t)(a.connect(t, a.RoundTripper(), nil).Resolve(t.Context(), app+"@"+pushed.Digest.String(), amd64))
		if err := validate.Image(again.Image); err != nil {
			t.Error(err)
		}

		// A base may be pushed as it is, config and all.
		must[*Pushed](t)(a.client.Push(t.Context(), got.Image, []string{app + ":base"}))
		// Half a day later the password has expired; nobody notices.
		<-time.After(13 * time.Hour)
		must[*Pushed](t)(a.client.Push(t.Context(), image(t, 1, ""), []string{app + ":3"}))
	})
}

// TestECRSocket: everything at one loopback address, as in a rehearsal.
func TestECRSocket(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	server := httptest.NewServer(a.Cloud)
	t.Cleanup(server.Close)
	a.client = a.connect(t, nil, &server.URL)
	a.client = New(Options{ECR: a.client.opts.ECR, CacheDir: t.TempDir()}) // with the default transport
	uri := a.repository(t, emulator.Repository{Name: "app"})
	if want := strings.TrimPrefix(server.URL, "http://") + "/app"; uri != want {
		t.Errorf("RepositoryURI = %q, want %q", uri, want)
	}
	pushed := must[*Pushed](t)(a.client.Push(t.Context(), image(t, 2, ""), []string{uri + ":1"}))
	fresh := New(Options{ECR: a.client.opts.ECR, CacheDir: t.TempDir(), Mirrors: map[string]string{"docker.io": strings.TrimSuffix(uri, "/app")}})
	got := must[*Image](t)(fresh.Resolve(t.Context(), uri+":1", amd64))
	if err := validate.Image(got.Image); err != nil || got.Digest != pushed.Digest {
		t.Errorf("Resolve: %s, %v; want %s", got.Digest, err, pushed.Digest)
	}
}

func TestECRFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]emulator.Fault{
		"throttled upload":   {Action: "POST upload", Kind: emulator.Throttle, Times: 3},
		"throttled manifest": {Action: "PUT manifest", Kind: emulator.Throttle, Times: 2},
		"reset upload":       {Action: "PATCH upload", Kind: emulator.Reset, Times: 2},
		"truncated upload":   {Action: "PATCH upload", Kind: emulator.CutRequest, Bytes: 100},
		"lost answer":        {Action: "PUT upload", Kind: emulator.Lost},
		"lost manifest":      {Action: "PUT manifest", Kind: emulator.Lost},
		"unavailable":        {Kind: emulator.Unavailable, Service: "registry", Times: 2},
		"internal":           {Action: "HEAD blob", Kind: emulator.Internal, Times: 2},
		"expired":            {Action: "PATCH upload", Kind: emulator.Expired},
		"expired early":      {Action: "HEAD manifest", Kind: emulator.Expired},
		"truncated download": {Action: "GET blob", Kind: emulator.CutAnswer, Bytes: 100, Times: 2},
		"reset download":     {Action: "GET blob", Kind: emulator.Reset, Times: 2},
		"throttled token":    {Service: "ecr", Action: "GetAuthorizationToken", Kind: emulator.Throttle},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				uri := a.repository(t, emulator.Repository{Name: "app", ImmutableTags: true})
				if fault.Service == "" {
					fault.Service = "registry"
				}
				a.Fail(fault)
				pushed := must[*Pushed](t)(a.client.Push(t.Context(), image(t, 2, ""), []string{uri + ":1"}))
				got := must[*Image](t)(a.client.Resolve(t.Context(), uri+":1", amd64))
				if err := validate.Image(got.Image); err != nil || got.Digest != pushed.Digest {
					t.Errorf("the image is not sound: %v", err)
				}
				if calls := a.Calls(); !hasFailed(calls) {
					t.Error("the fault was not met")
				}
			})
		})
	}
}

func hasFailed(calls []emulator.Call) bool {
	for _, call := range calls {
		if call.Status == 0 || call.Status == 401 || call.Status == 429 || call.Status >= 500 || call.ErrorCode != "" {
			return true
		}
	}
	return false
}

func TestECRRefusals(t *testing.T) {
	t.Parallel()
	denied := func(action string) emulator.Fault {
		return emulator.Fault{Service: "registry", Action: action, Kind: emulator.Denied, Times: -1}
	}
	tests := map[string]struct {
		fault emulator.Fault
		ref   string
		input string
		want  []string
	}{
		"missing repository": {ref: "other:1", input: "repository", want: []string{"does not exist in the registry with id", "aws ecr create-repository --repository-name other --region us-east-1"}},
		"moved tag":          {ref: "app:taken", input: "tags", want: []string{"cannot be moved", "commit's SHA"}},
		"no upload":          {fault: denied("POST upload"), input: "tags", want: []string{"ecr:InitiateLayerUpload on arn:aws:ecr:us-east-1:123456789012:repository/app"}},
		"no layer part":      {fault: denied("PATCH upload"), input: "tags", want: []string{"ecr:UploadLayerPart"}},
		"no completion":      {fault: denied("PUT upload"), input: "tags", want: []string{"ecr:CompleteLayerUpload"}},
		"no layer check":     {fault: denied("HEAD blob"), input: "tags", want: []string{"ecr:BatchCheckLayerAvailability"}},
		"no PutImage":        {fault: denied("PUT manifest"), input: "tags", want: []string{"ecr:PutImage"}},
		"closed connection":  {fault: emulator.Fault{Service: "registry", Action: "POST upload", Kind: emulator.Reset, Times: -1}, input: "tags", want: []string{"aws ecr create-repository", "ecr:InitiateLayerUpload"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				uri := a.repository(t, emulator.Repository{Name: "app", ImmutableTags: true})
				must[*Pushed](t)(a.client.Push(t.Context(), image(t, 1, ""), []string{uri + ":taken"}))
				if test.fault.Kind != "" {
					a.Fail(test.fault)
				}
				ref := uri + ":1"
				if test.ref != "" {
					ref = strings.TrimSuffix(uri, "app") + test.ref
				}
				_, err := a.client.Push(t.Context(), image(t, 1, ""), []string{ref})
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
