package actionscache

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/emulator"
)

func client(t *testing.T, service *emulator.ActionsCache, token string) *Client {
	t.Helper()
	c, err := New(Options{URL: emulator.ActionsCacheURL, Token: token, Transport: service})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func opener(content []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
}

func TestSaveAndFind(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		size  int
		calls map[string]int
	}{
		"nothing":  {0, map[string]int{"PUT": 1}},
		"small":    {1000, map[string]int{"PUT": 1}},
		"3 blocks": {2*blockSize + 1, map[string]int{"PUT block": 3, "PUT blocklist": 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &emulator.ActionsCache{}
			c := client(t, service, emulator.ActionsCacheToken("refs/heads/main"))
			content := bytes.Repeat([]byte("0123456"), tt.size/7+1)[:tt.size]
			for _, key := range []string{"index#1", "index#2", "blob"} {
				if err := c.Save(t.Context(), key, int64(tt.size), opener(content)); err != nil {
					t.Fatal(err)
				}
			}
			calls := service.Calls()
			for call, want := range tt.calls {
				if calls[call] != 3*want {
					t.Errorf("got %d of %s, want %d", calls[call], call, 3*want)
				}
			}
			found, err := c.Find(t.Context(), "index#", true)
			if err != nil || found == nil || found.Key != "index#2" {
				t.Fatalf("got %+v, %v", found, err)
			}
			r, err := c.Open(t.Context(), found)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if err := c.Save(t.Context(), "blob", 1, opener([]byte("x"))); !errors.Is(err, ErrExists) {
				t.Errorf("again: got %v", err)
			}
			if found, err := c.Find(t.Context(), "index#", false); err != nil || found != nil {
				t.Errorf("no prefix: got %+v, %v", found, err)
			}
		})
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	c := client(t, &emulator.ActionsCache{}, emulator.ActionsCacheToken("refs/pull/7/merge", "refs/heads/main"))
	if diff := cmp.Diff(c.Scopes(), []string{"refs/pull/7/merge", "refs/heads/main"}); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	if got := c.WriteScope(); got != "refs/pull/7/merge" {
		t.Errorf("got %q", got)
	}
	if got := client(t, &emulator.ActionsCache{}, emulator.ActionsCacheToken("", "refs/heads/main")).WriteScope(); got != "" {
		t.Errorf("a fork writes to %q", got)
	}
	for token, want := range map[string]string{"": "ACTIONS_RUNTIME_TOKEN", "a.b": "no JSON web token", "e30.!.c": "base64", "e30.e30.c": "which caches"} {
		if _, err := New(Options{URL: emulator.ActionsCacheURL, Token: token}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", token, err, want)
		}
	}
}

// A fault that may pass is tried again, others are not, and no error shows an
// address that lets others in.
func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status, times int
		method        string
		took          time.Duration
		want          string
	}{
		"passes":            {http.StatusServiceUnavailable, 2, http.MethodPost, 3 * time.Second, ""},
		"storage passes":    {http.StatusInternalServerError, 1, http.MethodPut, time.Second, ""},
		"stays":             {http.StatusBadGateway, 100, http.MethodPost, 7 * time.Second, "502"},
		"too many requests": {http.StatusTooManyRequests, 1, http.MethodPost, 0, "429"},
		"storage refuses":   {http.StatusForbidden, 1, http.MethodPut, 0, "403"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				left := tt.times
				service := &emulator.ActionsCache{Fault: func(req *http.Request) int {
					if req.Method != tt.method || left == 0 {
						return 0
					}
					left--
					return tt.status
				}}
				begin := time.Now()
				err := client(t, service, emulator.ActionsCacheToken("refs/heads/main")).Save(t.Context(), "k", 1, opener([]byte("x")))
				if took := time.Since(begin); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
				if tt.want == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sig=") {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			})
		})
	}
}
