package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/problem"
)

// bearer is a registry as Docker Hub and GHCR are: its token service exchanges
// logins for tokens, which it takes for so many requests.
type bearer struct {
	*fake

	host, realm string
	// users have passwords; public repositories are read by nobody in particular.
	users  map[string]string
	public bool
	// good is how many requests a token lasts; 0: for ever.
	good int

	mu     sync.Mutex
	tokens map[string]int // what is left of each
	writes map[string]bool
	asked  []string // user of each token
}

func newBearer(host, realm string) *bearer {
	return &bearer{fake: newFake(), host: host, realm: realm, users: map[string]string{}, tokens: map[string]int{}, writes: map[string]bool{}}
}

// RoundTrip implements http.RoundTripper.
func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.String(), b.realm) {
		return b.exchange(req), nil
	}
	if req.URL.Host != b.host {
		return nil, fmt.Errorf("dial tcp: lookup %s: no such host", req.URL.Host)
	}
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	b.mu.Lock()
	left, known := b.tokens[token]
	writes := b.writes[token]
	if known {
		b.tokens[token] = left - 1
	}
	b.mu.Unlock()
	write := req.Method != http.MethodGet && req.Method != http.MethodHead
	if !known || b.good > 0 && left <= 0 || write && !writes {
		if req.Body != nil { // as a server does, before it refuses
			_, _ = io.Copy(io.Discard, req.Body)
		}
		return answer(http.StatusUnauthorized, map[string]string{
			"WWW-Authenticate": fmt.Sprintf(`Bearer realm=%q,service="registry"`, b.realm),
		}, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`), nil
	}
	plain := req.Clone(req.Context())
	plain.Header.Del("Authorization")
	return b.fake.RoundTrip(plain)
}

func (b *bearer) exchange(req *http.Request) *http.Response {
	user, password, given := req.BasicAuth()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, user)
	if given && b.users[user] != password || given && password == "" || !given && !b.public {
		return answer(http.StatusForbidden, nil, `{"errors":[{"code":"DENIED","message":"denied"}]}`)
	}
	token := fmt.Sprintf("token-%d", len(b.asked))
	b.tokens[token], b.writes[token] = b.good, given
	encoded, _ := json.Marshal(map[string]string{"token": token})
	return answer(http.StatusOK, map[string]string{"Content-Type": "application/json"}, string(encoded))
}

// TestBearer: an image is pushed and pulled without AWS, while tokens end in the
// middle of it all.
func TestBearer(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]int{"lasting": 0, "ending in the middle": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBearer(hub, "https://auth.docker.io/token")
				b.good, b.users["me"] = good, "secret"
				opts := Options{
					Transport: b, Jobs: 1, CacheDir: t.TempDir(),
					Credentials: map[string]authn.AuthConfig{"docker.io": {Username: "me", Password: "secret"}},
				}
				pushed := must[*Pushed](t)(New(opts).Push(t.Context(), image(t, 3, ""), []string{"docker.io/me/app:1"}))
				got := must[*Image](t)(New(opts).Resolve(t.Context(), "me/app:1", amd64))
				if err := validate.Image(got.Image); err != nil || got.Digest != pushed.Digest {
					t.Errorf("Resolve: %s, %v; want %s", got.Digest, err, pushed.Digest)
				}
				if renewed := len(b.asked) > 6; renewed != (good > 0) {
					t.Errorf("%d tokens were asked for", len(b.asked))
				}
			})
		})
	}
}

// TestTentative: the job's own token is good for its packages, and no obstacle
// to what everybody may read.
func TestTentative(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		user   string
		public bool
		asked  []string
		fails  []string
	}{
		"its own":   {user: "octocat", asked: []string{"octocat"}},
		"public":    {public: true, asked: []string{"octocat", ""}},
		"another's": {asked: []string{"octocat", ""}, fails: []string{"permissions: packages: read"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBearer("ghcr.io", "https://ghcr.io/token")
				put(t, b.fake, "ghcr.io/acme/base:1", image(t, 1, ""))
				b.public = test.public
				if test.user != "" {
					b.users[test.user] = "ghs_1"
				}
				c := New(Options{
					Transport: b, Tentative: []string{"ghcr.io"},
					Credentials: map[string]authn.AuthConfig{"ghcr.io": {Username: "octocat", Password: "ghs_1"}},
				})
				_, err := c.Resolve(t.Context(), "ghcr.io/acme/base:1", amd64)
				if (err != nil) != (test.fails != nil) {
					t.Fatalf("Resolve: %v", err)
				}
				for _, want := range test.fails {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Resolve: %q lacks %q", err, want)
					}
				}
				if diff := cmp.Diff(test.asked, b.asked); diff != "" {
					t.Errorf("tokens (-want +got):\n%s", diff)
				}
			})
		})
	}
	t.Run("push", func(t *testing.T) {
		t.Parallel()
		b := newBearer("ghcr.io", "https://ghcr.io/token")
		b.public = true
		c := New(Options{
			Transport: b, Tentative: []string{"ghcr.io"},
			Credentials: map[string]authn.AuthConfig{"ghcr.io": {Username: "octocat", Password: "ghs_1"}},
		})
		err := c.Probe(t.Context(), "ghcr.io/acme/app")
		if _, ok := problemOf(err); !ok || !strings.Contains(err.Error(), "permissions: packages: write") {
			t.Errorf("Probe: %v", err)
		}
	})
}

func problemOf(err error) (p *problem.Error, ok bool) {
	p, ok = err.(*problem.Error) //nolint:errorlint // as it is given
	return p, ok
}

// TestECRPublic: pushing logs in with a token of its own, pulling needs none, and
// the password is exchanged at the registry alone.
func TestECRPublic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBearer(publicHost, "https://public.ecr.aws/token/")
		b.public, b.users["AWS"] = true, "first"
		e := &fakeECR{passwords: []string{"first"}, repos: map[string]Repository{"app": {URI: publicHost + "/a1b2/app"}}}
		c := New(Options{Transport: b, ECR: e})
		target := c.Targets(t.Context(), []string{publicHost + "/a1b2/app"})[0]
		if target.Err != nil || target.Unread != nil || target.URI != publicHost+"/a1b2/app" {
			t.Fatalf("Targets: %+v", target)
		}
		if err := c.Probe(t.Context(), target.URI); err != nil {
			t.Fatal(err)
		}
		pushed := must[*Pushed](t)(c.Push(t.Context(), image(t, 2, ""), []string{target.URI + ":1"}))
		if len(e.asked) != 1 {
			t.Errorf("%d tokens were asked for", len(e.asked))
		}
		other := c.Targets(t.Context(), []string{publicHost + "/nginx/app"})[0]
		if other.Err != nil || other.Unread == nil {
			t.Errorf("Targets of another's alias: %+v", other)
		}
		missing := c.Targets(t.Context(), []string{publicHost + "/a1b2/none"})[0]
		if !missing.Missing || !strings.Contains(missing.Err.Error(), "aws ecr-public create-repository --repository-name none --region us-east-1") {
			t.Errorf("Targets of a missing one: %+v", missing)
		}

		b.asked = nil
		got := must[*Image](t)(New(Options{Transport: b, ECR: e}).Resolve(t.Context(), target.URI+":1", amd64))
		if got.Digest != pushed.Digest || len(b.asked) != 1 || b.asked[0] != "" || len(e.asked) != 1 {
			t.Errorf("pulled %s, logged in as %q", got.Digest, b.asked)
		}
		b.asked = nil
		must[*Image](t)(New(Options{Transport: b, ECR: e, Public: true}).Resolve(t.Context(), target.URI+":1", v1.Platform{}))
		if len(b.asked) != 1 || b.asked[0] != "AWS" {
			t.Errorf("with Public, logged in as %q", b.asked)
		}

		e.err = codedError("AccessDeniedException")
		denied := New(Options{Transport: b, ECR: e})
		denied.Targets(t.Context(), []string{target.URI})
		if err := denied.Probe(t.Context(), target.URI); err == nil || !strings.Contains(err.Error(), "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken") {
			t.Errorf("Probe without a token: %v", err)
		}
	})
}
