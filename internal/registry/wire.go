package registry

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// defaultTransport is net/http's with limits on silence. A whole transfer has
// none: a layer may have 50 GB.
func defaultTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 30 * time.Second},
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
}

// sight is what the wire saw while one operation ran.
type sight struct {
	mu      sync.Mutex
	any     bool
	exists  bool
	mounted bool
	// body is that of the last request.
	body       io.ReadCloser
	retryAfter time.Duration
}

type sightKey struct{}

func withSight(ctx context.Context) (context.Context, *sight) {
	s := &sight{}
	return context.WithValue(ctx, sightKey{}, s), s
}

// see notes what resp tells beyond what go-containerregistry reports.
func (s *sight) see(resp *http.Response, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.any = true
	switch {
	case req.Method == http.MethodHead && strings.Contains(req.URL.Path, "/blobs/") && resp.StatusCode == http.StatusOK:
		s.exists = true
	case req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/blobs/uploads/") && resp.StatusCode == http.StatusCreated:
		s.mounted = true
	}
	s.retryAfter = 0
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		s.retryAfter = time.Duration(seconds) * time.Second
	}
}

// wire adds ECR's login to the requests for ECR's hosts, and only to those:
// a blob's download is redirected to a host that must not see it.
type wire struct {
	base   http.RoundTripper
	logins *logins
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	req, err := rewound(req)
	if err != nil {
		return nil, err
	}
	login := w.logins.known(req.URL.Host)
	if login.tentative {
		return w.exchange(req)
	}
	if !login.ecr || login.given || login.place.Public {
		return w.send(req, req)
	}
	if isGreeting(req) && !login.plainHTTP {
		return greeted(req), nil
	}
	authorized, token, err := w.authorize(req, login.place, "")
	if err != nil {
		return nil, err
	}
	resp, err := w.send(authorized, req)
	if err != nil || !isStale(resp, req.Method, token) {
		return resp, err
	}
	// The token ended early (a role's session was revoked, a stand-in was
	// started anew): once more with a new one, if the body can be sent again.
	replay := req
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return resp, nil
		}
		body, bodyErr := req.GetBody()
		if bodyErr != nil {
			return resp, nil //nolint:nilerr // the refusal is the better answer
		}
		replay = req.Clone(req.Context())
		replay.Body = body
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	if authorized, _, err = w.authorize(replay, login.place, token.Password); err != nil {
		return nil, err
	}
	return w.send(authorized, req)
}

// isGreeting says whether req only asks how to log in to a registry.
func isGreeting(req *http.Request) bool {
	return req.Method == http.MethodGet && req.URL.Scheme == "https" && req.URL.Path == "/v2/"
}

// greeted is the answer to a greeting that is not sent: ECR's login is known, it
// is added to each request here, and the question would cost a round trip.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
func greeted(req *http.Request) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}
}

// exchange is a request to a registry whose login is tentative. A token that is
// not given to the user may be given to anybody.
func (w *wire) exchange(req *http.Request) (*http.Response, error) {
	resp, err := w.send(req, req)
	user, _, ok := req.BasicAuth()
	if err != nil || !ok || user == "" || req.Method != http.MethodGet ||
		resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return resp, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	anonymous := req.Clone(req.Context())
	anonymous.Header.Del("Authorization")
	return w.send(anonymous, req)
}

// rewound gives a request whose body was sent before a fresh one: go-
// containerregistry sends a request again when a bearer token has expired, with
// what is left of its body.
func rewound(req *http.Request) (*http.Request, error) {
	s, ok := req.Context().Value(sightKey{}).(*sight)
	if !ok || req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	s.mu.Lock()
	again := s.body == req.Body
	s.body = req.Body
	s.mu.Unlock()
	if !again || req.GetBody == nil {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	fresh := req.Clone(req.Context())
	fresh.Body = body
	return fresh, nil
}

// isStale says whether resp refuses the token rather than the request. ECR
// answers an expired one with 403, like a missing permission, and says which it
// is; a HEAD has no room to, so there a token that is not fresh is suspected.
func isStale(resp *http.Response, method string, token Token) bool {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return true
	case resp.StatusCode != http.StatusForbidden:
		return false
	case method == http.MethodHead:
		return time.Until(token.Expires) < 11*time.Hour
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failed{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	return bytes.Contains(head, []byte("token has expired"))
}

// failed is the end of a body that could not be read.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

func (w *wire) send(req, seen *http.Request) (*http.Response, error) {
	resp, err := w.base.RoundTrip(req)
	if s, ok := req.Context().Value(sightKey{}).(*sight); ok && err == nil {
		s.see(resp, seen)
	}
	return resp, err
}

func (w *wire) authorize(req *http.Request, place Place, refused string) (*http.Request, Token, error) {
	token, err := w.logins.token(req.Context(), place, refused)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, token, err
	}
	clone := req.Clone(req.Context())
	clone.Header.Set("Authorization", "Basic "+basic(token))
	return clone, token, nil
}
