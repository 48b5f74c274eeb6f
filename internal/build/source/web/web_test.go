package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/towline/towline/internal/problem"
)

// script answers each request by the next of its handlers, the last ever again;
// a nil one is a lost connection.
type script struct {
	handlers []http.HandlerFunc
	requests []*http.Request
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
	}
	handler := s.handlers[min(len(s.requests), len(s.handlers)-1)]
	s.requests = append(s.requests, req)
	if handler == nil {
		return nil, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	}
	rec := httptest.NewRecorder()
	handler(rec, req)
	return rec.Result(), nil
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func content(text string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		_, _ = io.WriteString(w, text)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	sum := digest.FromString("hello")
	modified := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	tests := map[string]struct {
		source Source
		answer http.HandlerFunc
		want   File
		mode   os.FileMode
		time   time.Time
	}{
		"plain": {
			source: Source{URL: "https://h/dir/file.txt?x=1"}, answer: content("hello"),
			want: File{Name: "file.txt", Digest: sum, Size: 5}, mode: 0o600, time: time.Unix(0, 0),
		},
		"named, dated, with a mode": {
			source: Source{URL: "https://h/", Filename: "context", Perm: 0o755, Checksum: sum}, answer: content("hello", "Last-Modified", modified.Format(http.TimeFormat)),
			want: File{Name: "context", Digest: sum, Size: 5, Modified: &modified}, mode: 0o755, time: modified,
		},
		"named by the server": {
			source: Source{URL: "https://h/x"}, answer: content("hello", "Content-Disposition", `attachment; filename="../../etc/evil"`),
			want: File{Name: "evil", Digest: sum, Size: 5}, mode: 0o600, time: time.Unix(0, 0),
		},
		"without a name": {
			source: Source{URL: "https://h"}, answer: content("hello"),
			want: File{Name: "download", Digest: sum, Size: 5}, mode: 0o600, time: time.Unix(0, 0),
		},
		"another algorithm": {
			source: Source{URL: "https://h/a", Checksum: digest.SHA512.FromString("hello")}, answer: content("hello"),
			want: File{Name: "a", Digest: digest.SHA512.FromString("hello"), Size: 5}, mode: 0o600, time: time.Unix(0, 0),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			got, err := (&Client{Transport: &script{handlers: []http.HandlerFunc{test.answer}}}).Get(t.Context(), test.source, dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
			info, err := os.Stat(filepath.Join(dir, got.Name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != test.mode || !info.ModTime().Equal(test.time) {
				t.Errorf("mode %v, time %v; want %v, %v", info.Mode(), info.ModTime(), test.mode, test.time)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		source Source
		answer http.HandlerFunc
		want   []string
	}{
		"other content": {
			source: Source{URL: "https://h/a", Checksum: digest.FromString("hello")}, answer: content("world"),
			want: []string{digest.FromString("world").String(), "(expected: " + digest.FromString("hello").String() + ")"},
		},
		"not there": {source: Source{URL: "https://u:hidden@h/a?token=hidden"}, answer: status(404), want: []string{"https://h/a", "404 Not Found"}},
		"forbidden": {source: Source{URL: "https://h/a"}, answer: status(403), want: []string{"HTTP_AUTH_TOKEN_HOST"}},
		"no secret": {source: Source{URL: "https://h/a", AuthHeaderSecret: "x"}, want: []string{`no secret has the id "x"`}},
		"no upload": {source: Source{URL: "http://buildkit-session/a"}, want: []string{"no upload"}},
		"loop": {
			source: Source{URL: "https://h/a?hidden"}, want: []string{"10 redirects"},
			answer: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://h/a?hidden", http.StatusFound)
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := (&Client{Transport: &script{handlers: []http.HandlerFunc{test.answer}}}).Get(t.Context(), test.source, t.TempDir())
			var p *problem.Error
			if !errors.As(err, &p) {
				t.Fatalf("error %v, want a problem", err)
			}
			for _, want := range test.want {
				if !strings.Contains(p.Error(), want) && !strings.Contains(p.Fix, want) {
					t.Errorf("error %v (%s), want %q", p, p.Fix, want)
				}
			}
			if strings.Contains(p.Error(), "hidden") {
				t.Errorf("a password shows: %v", p)
			}
		})
	}
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"own": "Own x", "HTTP_AUTH_HEADER_a.example": "Header x", "HTTP_AUTH_TOKEN_b.example": "tok\n"}
	for name, test := range map[string]struct {
		source Source
		want   string
	}{
		"named":  {source: Source{URL: "https://a.example/x", AuthHeaderSecret: "own"}, want: "Own x"},
		"header": {source: Source{URL: "https://a.example:1/x"}, want: "Header x"},
		"token":  {source: Source{URL: "https://b.example/x"}, want: "Bearer tok"},
		"none":   {source: Source{URL: "https://c.example/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{
				func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "https://elsewhere.example/y", http.StatusFound)
				}, content("x"),
			}}
			client := &Client{Transport: s, Secret: func(name string) ([]byte, bool) { v, ok := secrets[name]; return []byte(v), ok }}
			if _, err := client.Get(t.Context(), test.source, t.TempDir()); err != nil {
				t.Fatal(err)
			}
			if got := s.requests[0].Header.Get("Authorization"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := s.requests[1].Header.Get("Authorization"); got != "" {
				t.Errorf("another server was shown %q", got)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	later := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	for name, test := range map[string]struct {
		answers  []http.HandlerFunc
		requests int
		took     time.Duration
		fails    bool
	}{
		"at once":         {answers: []http.HandlerFunc{content("x")}, requests: 1},
		"bad moments":     {answers: []http.HandlerFunc{status(503), nil, content("x")}, requests: 3, took: 3 * time.Second},
		"as asked":        {answers: []http.HandlerFunc{later, content("x")}, requests: 2, took: 20 * time.Second},
		"never":           {answers: []http.HandlerFunc{status(500)}, requests: 4, took: 7 * time.Second, fails: true},
		"for good":        {answers: []http.HandlerFunc{status(404)}, requests: 1, fails: true},
		"not implemented": {answers: []http.HandlerFunc{status(501)}, requests: 1, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := &script{handlers: test.answers}
				begin := time.Now()
				_, err := (&Client{Transport: &Retry{Next: s}}).Get(t.Context(), Source{URL: "https://h/a"}, dir)
				if (err != nil) != test.fails {
					t.Errorf("error %v", err)
				}
				if len(s.requests) != test.requests || time.Since(begin) != test.took {
					t.Errorf("%d requests in %v, want %d in %v", len(s.requests), time.Since(begin), test.requests, test.took)
				}
			})
		})
	}
}

// A body is sent again in full, or not at all.
func TestRetryBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{handlers: []http.HandlerFunc{status(502), status(200)}}
		for body, want := range map[io.Reader]int{strings.NewReader("x"): 2, io.LimitReader(strings.NewReader("x"), 1): 1} {
			s.requests = nil
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://h/", body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := (&Retry{Next: s}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if len(s.requests) != want {
				t.Errorf("%d requests, want %d", len(s.requests), want)
			}
		}
	})
}

// Content that breaks off is asked for again, and never taken for all of it.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			w.Header().Set("Content-Length", "10")
		}
		_, _ = io.WriteString(w, "hello")
	}))
	defer server.Close()
	got, err := (&Client{}).Get(t.Context(), Source{URL: server.URL + "/a"}, t.TempDir())
	if err != nil || got.Size != 5 || n != 2 {
		t.Errorf("got %+v, %v after %d requests", got, err, n)
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "context.tar")
	if err := os.WriteFile(from, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := (&Client{Uploads: map[string]string{"context": from}}).Get(t.Context(), Source{URL: "http://buildkit-session/context", Filename: "context"}, t.TempDir())
	if err != nil || got.Size != 5 || got.Name != "context" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	sum := digest.FromString("x")
	got, err := Parse("https://h/a", map[string]string{
		pb.AttrHTTPChecksum: sum.String(), pb.AttrHTTPPerm: "0644", pb.AttrHTTPUID: "5", pb.AttrHTTPGID: "6", pb.AttrHTTPFilename: "n",
		pb.AttrHTTPHeaderPrefix + "accept": "text/plain", pb.AttrHTTPHeaderPrefix + "cookie": "no", pb.AttrHTTPAuthHeaderSecret: "s",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Source{URL: "https://h/a", Filename: "n", Checksum: sum, Perm: 0o644, UID: 5, GID: 6, Header: http.Header{"Accept": {"text/plain"}}, AuthHeaderSecret: "s"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	for _, bad := range []string{"https://", "https://u:hidden@h:port/", "ftp://h/a"} {
		if _, err := Parse(bad, nil); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}
