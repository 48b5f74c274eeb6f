// Package actionscache speaks to GitHub's cache service, version 2: entries are
// reserved, found and completed over Twirp (actions/toolkit, packages/cache), and
// their content lies in Azure's block blobs behind signed addresses.
package actionscache

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Version is the version of all entries. BuildKit's are of the same, so that each
// finds the other's: sha256 of "|go-actionscache-1.0".
const Version = "693bb7016429d80366022f036f84856888c9f13e00145f5f6f4dce303a38d6f2"

// ErrExists says that there is an entry of this key, which cannot be written again.
var ErrExists = errors.New("there is an entry of this key already")

const (
	service = "/twirp/github.actions.results.api.v1.CacheService/"
	// tries is how often a request is made that the service failed at, first after
	// firstWait, then after twice as long.
	tries     = 4
	firstWait = time.Second
	// maxAnswer bounds the service's answers; they are of some hundred bytes.
	maxAnswer = 64 << 10
)

// Options say where the service is.
type Options struct {
	// URL is that of ACTIONS_RESULTS_URL, and Token ACTIONS_RUNTIME_TOKEN. Required.
	URL, Token string
	// Transport carries all requests. Default: http.DefaultTransport.
	Transport http.RoundTripper
}

// Client is one job's access to the cache of its repository.
type Client struct {
	url, token string
	http       *http.Client
	scopes     []scope
}

// scope is what a token may reach: the caches of a branch or of a pull request.
type scope struct {
	Scope string
	// Permission has bit 1 for reading and bit 2 for writing.
	Permission int
}

const writes = 2

// New reads the token; nothing is asked.
func New(opts Options) (*Client, error) {
	if opts.URL == "" || opts.Token == "" {
		return nil, errors.New("this job has no cache service: ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN are not set")
	}
	c := &Client{
		url: strings.TrimRight(opts.URL, "/") + service, token: opts.Token,
		http: &http.Client{Transport: opts.Transport},
	}
	parts := strings.Split(opts.Token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the token is no JSON web token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil, errors.New("the token's claims are not in base64")
	}
	var claims struct {
		AccessControl string `json:"ac"`
	}
	if err = json.Unmarshal(payload, &claims); err == nil {
		err = json.Unmarshal([]byte(claims.AccessControl), &c.scopes)
	}
	if err != nil {
		return nil, errors.New("the token does not say which caches it is for")
	}
	return c, nil
}

// Scopes are those that may be read, the job's own first: the most specific one
// is the one that may be written.
func (c *Client) Scopes() []string {
	own := func(s scope) int { return s.Permission & writes }
	sorted := slices.SortedStableFunc(slices.Values(c.scopes), func(a, b scope) int { return own(b) - own(a) })
	var names []string
	for _, s := range sorted {
		names = append(names, s.Scope)
	}
	return names
}

// WriteScope is the scope that entries are written to; empty if there is none, as
// for a pull request of a fork.
func (c *Client) WriteScope() string {
	for _, s := range slices.Backward(c.scopes) {
		if s.Permission&writes != 0 {
			return s.Scope
		}
	}
	return ""
}

// Entry is one that was found.
type Entry struct {
	// Key is its whole key.
	Key string
	url string
}

// Find gives the entry of a key, or with prefix the latest whose key begins so;
// nil if there is none.
func (c *Client) Find(ctx context.Context, key string, prefix bool) (*Entry, error) {
	ask := map[string]any{"key": key, "version": Version, "restore_keys": []string{}}
	if prefix {
		ask["restore_keys"] = []string{key}
	}
	var answer struct {
		OK  bool   `json:"ok"`
		URL string `json:"signed_download_url"`
		Key string `json:"matched_key"`
	}
	err := c.call(ctx, "GetCacheEntryDownloadURL", ask, &answer)
	switch {
	case errors.Is(err, errNotFound), err == nil && !answer.OK:
		return nil, nil
	case err != nil:
		return nil, err
	case !prefix && answer.Key != "" && answer.Key != key:
		return nil, nil // some services take any key for a prefix
	}
	return &Entry{Key: cmp.Or(answer.Key, key), url: answer.URL}, nil
}

// Open reads an entry.
func (c *Client) Open(ctx context.Context, e *Entry) (io.ReadCloser, error) {
	resp, err := c.try(ctx, func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, e.url, http.NoBody)
	})
	if err != nil {
		return nil, fmt.Errorf("entry %s: %w", e.Key, err)
	}
	return resp.Body, nil
}

// Save writes an entry of size bytes; open may be called several times. The error
// is ErrExists where there is one.
func (c *Client) Save(ctx context.Context, key string, size int64, open func() (io.ReadCloser, error)) error {
	var reserved struct {
		OK      bool   `json:"ok"`
		URL     string `json:"signed_upload_url"`
		Message string `json:"message"`
	}
	if err := c.call(ctx, "CreateCacheEntry", map[string]any{"key": key, "version": Version}, &reserved); err != nil {
		return fmt.Errorf("entry %s: %w", key, err)
	}
	if !reserved.OK {
		if reserved.Message != "" && !strings.Contains(reserved.Message, "exists") {
			return fmt.Errorf("entry %s: %s", key, reserved.Message)
		}
		return fmt.Errorf("entry %s: %w", key, ErrExists)
	}
	if err := c.upload(ctx, reserved.URL, size, open); err != nil {
		return fmt.Errorf("entry %s: %w", key, err)
	}
	var done struct {
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	}
	if err := c.call(ctx, "FinalizeCacheEntryUpload", map[string]any{"key": key, "version": Version, "size_bytes": fmt.Sprint(size)}, &done); err != nil {
		return fmt.Errorf("entry %s: %w", key, err)
	}
	if !done.OK {
		return fmt.Errorf("entry %s: %s", key, cmp.Or(done.Message, "it was not accepted"))
	}
	return nil
}

// errNotFound is Twirp's not_found.
var errNotFound = errors.New("not found")

func (c *Client) call(ctx context.Context, method string, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	resp, err := c.try(ctx, func() (*http.Request, error) {
		req, reqErr := http.NewRequestWithContext(ctx, http.MethodPost, c.url+method, bytes.NewReader(body))
		if reqErr != nil {
			return nil, reqErr
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("User-Agent", "towline")
		return req, nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// try makes a request, and again after a fault that may pass. Where there are too
// many requests it does not: a cache is not worth the wait.
func (c *Client) try(ctx context.Context, request func() (*http.Request, error)) (*http.Response, error) {
	wait := firstWait
	for n := 1; ; n++ {
		req, err := request()
		if err != nil {
			return nil, err
		}
		resp, err := c.http.Do(req)
		if err == nil && resp.StatusCode < http.StatusMultipleChoices {
			return resp, nil
		}
		passing := err != nil
		if err != nil {
			err = withoutAddress(err)
		} else {
			passing = resp.StatusCode >= http.StatusInternalServerError
			err = refusal(resp)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !passing || n == tries {
			return nil, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		wait *= 2
	}
}
