package step_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/emulator"
)

// otherRegistry is a registry that is not ECR's.
type otherRegistry struct {
	handler http.Handler

	mu      sync.Mutex
	written int
}

func newOtherRegistry(t *testing.T, host string) *otherRegistry {
	t.Helper()
	o := &otherRegistry{handler: registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))}
	o.push(t, host+"/base:1", image(t, map[string]string{"etc/base": "base\n"}))
	return o
}

func (o *otherRegistry) push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	pushImage(t, ref, img, roundTrip(o.roundTrip), authn.Anonymous)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.written = 0
}

func (o *otherRegistry) writes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written
}

func (o *otherRegistry) roundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Err() != nil {
		return nil, req.Context().Err()
	}
	o.mu.Lock()
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		o.written-- // of the upload that pre-flight began to see whether it may
	default:
		o.written++
	}
	o.mu.Unlock()
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close() //nolint:errcheck // it was only read
	rec := httptest.NewRecorder()
	o.handler.ServeHTTP(rec, in)
	answer := rec.Result()
	answer.Request = req
	return answer, nil
}

// guarded is a registry whose token service exchanges logins for tokens, as those
// of GitHub and Docker Hub are.
type guarded struct {
	*otherRegistry `json:"-"`

	// Host is the registry's, Auth the token service's, or the same.
	Host, Auth string
	// User and Password may read and, unless ReadOnly, write. Everybody may read
	// what is Public.
	User, Password   string
	ReadOnly, Public bool
	// Good is how many requests a token lasts; 0: for ever.
	Good int

	mu     sync.Mutex
	tokens map[string]*permit
	issued int
}

type permit struct {
	left   int
	writes bool
}

func (g *guarded) roundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == "/token" {
		return g.exchange(req), nil
	}
	write := req.Method != http.MethodGet && req.Method != http.MethodHead
	g.mu.Lock()
	its := g.tokens[strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")]
	known := its != nil && (g.Good == 0 || its.left > 0) && (its.writes || !write || g.ReadOnly)
	if known {
		its.left--
	}
	g.mu.Unlock()
	switch {
	case !known:
		drain(req)
		refused := refusal(req, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		refused.Header.Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service=%q`, g.Auth, g.Host))
		return refused, nil
	case write && !its.writes:
		drain(req)
		return refusal(req, http.StatusForbidden, "DENIED", "permission_denied: write_package"), nil
	}
	return g.otherRegistry.roundTrip(req)
}

// drain reads a request to its end, as a server does before it refuses.
func drain(req *http.Request) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
	}
}

func (g *guarded) exchange(req *http.Request) *http.Response {
	user, password, given := req.BasicAuth()
	g.mu.Lock()
	defer g.mu.Unlock()
	if given && (user != g.User || password != g.Password) || !given && !g.Public {
		return refusal(req, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
	}
	g.issued++
	token := fmt.Sprintf("bearer-token-%d", g.issued)
	g.tokens[token] = &permit{left: g.Good, writes: given && !g.ReadOnly}
	return reply(req, http.StatusOK, map[string]string{"token": token})
}

func refusal(req *http.Request, status int, code, message string) *http.Response {
	return reply(req, status, map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

func reply(req *http.Request, status int, content any) *http.Response {
	body, err := json.Marshal(content)
	if err != nil {
		panic(err) // strings always encode
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(body))), ContentLength: int64(len(body)), Request: req,
	}
}

// untrusted is a registry with a certificate that it has made itself.
func untrusted(*http.Request) (*http.Response, error) {
	return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
}

// elsewhere answers for a host that is not AWS's, or is nil.
func (w *world) elsewhere(host string) roundTrip {
	if answer := w.hosts[host]; answer != nil {
		return answer
	}
	if other := w.others[host]; other != nil {
		return other.roundTrip
	}
	return nil
}

// setRegistries carries out one line that is about where images are.
func (w *world) setRegistries(t *testing.T, s *settings, word, value string) bool {
	t.Helper()
	decode := func(text string, into any) {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("world: %s %s: %v", word, value, err)
		}
	}
	switch word {
	case "repository": // another one, an emulator.Repository
		var r emulator.Repository
		decode(value, &r)
		w.cloud.AddRepository(r)
	case "repository-policy": // that of a repository: HOST/NAME and a JSON document
		uri, document, _ := strings.Cut(value, " ")
		if err := w.cloud.SetRepositoryPolicy(uri, document); err != nil {
			t.Fatal(err)
		}
	case "exclusion": // a wildcard of the repository's tags that can be moved, or not
		s.repository.Exclusions = append(s.repository.Exclusions, value)
	case "pull-through": // a rule, an emulator.PullThrough
		var rule emulator.PullThrough
		decode(value, &rule)
		rule.Transport = w.transport()
		w.cloud.AddPullThrough(rule)
	case "guarded": // a registry with logins, with the image base:1
		g := &guarded{tokens: map[string]*permit{}}
		decode(value, g)
		if g.Auth == "" {
			g.Auth = g.Host
		}
		g.otherRegistry = newOtherRegistry(t, g.Host)
		w.others[g.Host] = g.otherRegistry
		w.hosts[g.Host], w.hosts[g.Auth] = g.roundTrip, g.roundTrip
	case "actions-cache": // GitHub's cache service, for a job of this branch
		service := &emulator.ActionsCache{}
		for _, host := range emulator.ActionsCacheHosts() {
			w.hosts[host] = service.RoundTrip
		}
		w.env["ACTIONS_RESULTS_URL"], w.env["ACTIONS_RUNTIME_TOKEN"] = emulator.ActionsCacheURL, emulator.ActionsCacheToken(value)
	case "actions-cache-down": // one that answers nothing but 503
		service := &emulator.ActionsCache{Fault: func(*http.Request) int { return http.StatusServiceUnavailable }}
		for _, host := range emulator.ActionsCacheHosts() {
			w.hosts[host] = service.RoundTrip
		}
		w.env["ACTIONS_RESULTS_URL"], w.env["ACTIONS_RUNTIME_TOKEN"] = emulator.ActionsCacheURL, emulator.ActionsCacheToken(value)
	case "untrusted": // a host whose certificate nobody knows
		w.hosts[value] = untrusted
	default:
		return false
	}
	return true
}
