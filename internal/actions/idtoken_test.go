package actions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/problem"
)

// tokenService is GitHub's token service: it gives the answers one after the
// other, the last one for ever.
type tokenService struct {
	answers []func(http.ResponseWriter)
	asked   []*http.Request
	broken  int // requests that never arrive, before the first answer
}

func (s *tokenService) RoundTrip(req *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, req)
	if len(s.asked) <= s.broken {
		return nil, errors.New("connection reset by peer")
	}
	rec := httptest.NewRecorder()
	s.answers[min(len(s.asked)-s.broken, len(s.answers))-1](rec)
	return rec.Result(), nil
}

func answer(status int, body string, headers ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func tokenRunner(s http.RoundTripper) (*Runner, *bytes.Buffer) {
	r, out := onGitHub(environ{
		"ACTIONS_ID_TOKEN_REQUEST_URL":   "https://pipelines.example/token?api-version=2.0",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
	})
	r.transport = s
	return r, out
}

func TestIDToken(t *testing.T) {
	t.Parallel()
	good := answer(http.StatusOK, `{"count":1,"value":"e30.e30.c2ln"}`)
	tests := map[string]struct {
		service tokenService
		tries   int
		atLeast time.Duration
		want    []string // in the error; none: a token
	}{
		"at once":        {service: tokenService{answers: []func(http.ResponseWriter){good}}, tries: 1},
		"after resets":   {service: tokenService{broken: 3, answers: []func(http.ResponseWriter){good}}, tries: 4, atLeast: time.Second},
		"after a 500":    {service: tokenService{answers: []func(http.ResponseWriter){answer(500, "x"), answer(503, ""), good}}, tries: 3, atLeast: time.Second},
		"throttled":      {service: tokenService{answers: []func(http.ResponseWriter){answer(429, "slow", "Retry-After", "7"), good}}, tries: 2, atLeast: 7 * time.Second},
		"large answer":   {service: tokenService{answers: []func(http.ResponseWriter){answer(200, `{"pad":"`+strings.Repeat("x", 1<<20)+`","value":"e30.e30.c2ln"}`)}}, tries: 1},
		"a proxy's page": {service: tokenService{answers: []func(http.ResponseWriter){answer(200, "<html>"), good}}, tries: 2},
		"always 502": {
			service: tokenService{answers: []func(http.ResponseWriter){answer(502, "bad\n gateway", "X-GitHub-Request-Id", "AB:1")}},
			tries:   5, atLeast: 3 * time.Second,
			want: []string{"request ID token", "502", "bad gateway", "request ID AB:1", "Run the job again"},
		},
		"forbidden": {
			service: tokenService{answers: []func(http.ResponseWriter){answer(403, "no")}}, tries: 5,
			want: []string{"403", "no", "id-token: write"},
		},
		"unauthorized": {
			service: tokenService{answers: []func(http.ResponseWriter){answer(401, strings.Repeat("x", 9000), "Retry-After", "3")}}, tries: 1,
			want: []string{"401", "id-token: write"},
		},
		"not heard of the job yet": {service: tokenService{answers: []func(http.ResponseWriter){answer(404, ""), good}}, tries: 2},
		"bad request": {
			service: tokenService{answers: []func(http.ResponseWriter){answer(400, "audience")}}, tries: 1,
			want: []string{"400", `"audience"`},
		},
		"never reached": {service: tokenService{broken: 9}, tries: 5, want: []string{"connection reset by peer", "Run the job again"}},
		"no token":      {service: tokenService{answers: []func(http.ResponseWriter){answer(200, `{"value":" "}`)}}, tries: 5, want: []string{"no token"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, out := tokenRunner(&test.service)
				start := time.Now()
				token, err := r.IDToken(t.Context(), "sts.amazonaws.com")
				checkIDToken(t, token, err, test.want)
				if got := len(test.service.asked); got != test.tries {
					t.Errorf("got %d tries, want %d", got, test.tries)
				}
				if took := time.Since(start); took < test.atLeast || took > time.Minute {
					t.Errorf("took %s, want at least %s", took, test.atLeast)
				}
				if masked := out.String() == "::add-mask::e30.e30.c2ln\n"; masked != (test.want == nil) {
					t.Errorf("wrote %q", out.String())
				}
			})
		})
	}
}

func checkIDToken(t *testing.T, token string, err error, want []string) {
	t.Helper()
	if want == nil {
		if token != "e30.e30.c2ln" || err != nil {
			t.Errorf("got %q, %v", token, err)
		}
		return
	}
	var p *problem.Error
	if !errors.As(err, &p) || token != "" {
		t.Fatalf("got %q, %v, want a problem", token, err)
	}
	for _, words := range want {
		if !strings.Contains(p.Error(), words) {
			t.Errorf("got %q, want %q in it", p, words)
		}
	}
	if len(p.Error()) > 2500 || strings.Contains(p.Error(), "request-token") {
		t.Errorf("got %q", p)
	}
}

func TestIDTokenRequest(t *testing.T) {
	t.Parallel()
	s := &tokenService{answers: []func(http.ResponseWriter){answer(200, `{"value":"a.b.c"}`)}}
	r, _ := tokenRunner(s)
	if _, err := r.IDToken(t.Context(), "a b&c"); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(s.asked[0].URL, " ", s.asked[0].Header.Get("Authorization"), " ", s.asked[0].Header.Get("Accept"))
	want := "https://pipelines.example/token?api-version=2.0&audience=a+b%26c Bearer request-token application/json; api-version=2.0"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestIDTokenCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := tokenRunner(&tokenService{broken: 99})
		why := errors.New("the step was cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
		if _, err := r.IDToken(ctx, ""); !errors.Is(err, why) {
			t.Errorf("got %v, want %v", err, why)
		}
	})
}

// silence is a service that never answers.
type silence struct{}

func (silence) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestIDTokenSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := tokenRunner(silence{})
		start := time.Now()
		token, err := r.IDToken(t.Context(), "x")
		checkIDToken(t, token, err, []string{"exceeded", "Run the job again"})
		if took := time.Since(start); took < 75*time.Second || took > 2*time.Minute {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestNoIDToken(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env  environ
		want []string
	}{
		"no permission": {environ{}, []string{"permissions:\n  id-token: write", "reusable workflow"}},
		"pull request":  {environ{"GITHUB_EVENT_NAME": "pull_request"}, []string{"forks never", "id-token: write"}},
		"dependabot":    {environ{"GITHUB_ACTOR": "dependabot[bot]"}, []string{"Dependabot", "id-token: write"}},
		"act":           {environ{"ACT": "true"}, []string{"act offers", "aws-access-key-id"}},
		"laptop":        {environ{"GITHUB_ACTIONS": ""}, []string{"only a job on GitHub", "role-to-assume"}},
		"half":          {environ{"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x"}, []string{"id-token: write"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := onGitHub(test.env)
			if r.HasIDToken() {
				t.Error("HasIDToken: got true")
			}
			token, err := r.IDToken(t.Context(), "x")
			checkIDToken(t, token, err, test.want)
		})
	}
	r, _ := onGitHub(environ{"ACTIONS_ID_TOKEN_REQUEST_URL": "ftp://x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"})
	_, err := r.IDToken(t.Context(), "x")
	checkIDToken(t, "", err, []string{"ftp://x", "not an http"})
}
