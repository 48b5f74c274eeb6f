package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sethvargo/go-githubactions"

	"github.com/towline/towline/internal/problem"
)

const (
	idTokenTries   = 5
	idTokenTimeout = 15 * time.Second // of one try
	maxRetryAfter  = 30 * time.Second
	maxIDToken     = 4 << 20 // bytes of an answer
	maxErrorBody   = 1 << 10 // bytes shown of an answer that is an error
)

const permissionsFix = `Give the job, and in a reusable workflow also the job that calls it, the permission:

permissions:
  id-token: write
  contents: read`

// HasIDToken says whether GitHub lets this job ask for ID tokens.
func (r *Runner) HasIDToken() bool {
	return r.getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "" && r.getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN") != ""
}

// IDToken asks GitHub for an ID token for audience (empty: GitHub's default),
// and masks it. A token is good for about five minutes; ask again for another.
// Network errors, and statuses that may pass, are tried five times.
// https://docs.github.com/actions/reference/openid-connect-reference
func (r *Runner) IDToken(ctx context.Context, audience string) (string, error) {
	if !r.HasIDToken() {
		return "", r.NoIDToken()
	}
	if err := r.checkTokenURL(); err != nil {
		return "", err
	}
	exchange := &tokenExchange{next: r.transport}
	library := githubactions.New(
		githubactions.WithWriter(io.Discard),
		githubactions.WithGetenv(r.getenv),
		githubactions.WithHTTPClient(&http.Client{Transport: exchange, Timeout: idTokenTimeout}))
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = time.Second, 10*time.Second
	token, err := backoff.Retry(ctx, func() (string, error) {
		var token string
		var err error
		if p := calmly(func() { token, err = library.GetIDToken(ctx, audience) }); p != nil {
			err = backoff.Permanent(p)
		}
		return token, exchange.judge(err)
	}, backoff.WithBackOff(wait), backoff.WithMaxTries(idTokenTries))
	if err != nil {
		return "", idTokenError(ctx, err)
	}
	r.Mask(token)
	return token, nil
}

// checkTokenURL refuses an address that no try could reach.
func (r *Runner) checkTokenURL() error {
	u, err := url.Parse(r.getenv("ACTIONS_ID_TOKEN_REQUEST_URL"))
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%q is not an http or https address", u.Redacted())
	}
	return &problem.Error{
		Op: "request ID token", Err: fmt.Errorf("ACTIONS_ID_TOKEN_REQUEST_URL: %w", err),
		Fix: "Leave ACTIONS_ID_TOKEN_REQUEST_URL as the runner sets it.",
	}
}

// tokenExchange is the transport of one IDToken call. It takes larger answers
// than the library, and keeps what the library drops.
type tokenExchange struct {
	next http.RoundTripper
	// of the last answer
	retryAfter time.Duration
	requestID  string
	malformed  error
}

// RoundTrip passes a shortened answer on: the token alone, or a legible error.
func (t *tokenExchange) RoundTrip(req *http.Request) (*http.Response, error) {
	t.retryAfter, t.requestID, t.malformed = 0, "", nil
	req = req.Clone(req.Context())
	req.Header.Set("Accept", "application/json; api-version=2.0")
	req.Header.Set("User-Agent", "towline")
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxIDToken+1))
	_ = resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	for _, name := range []string{"X-Github-Request-Id", "X-Vss-E2eid", "Activityid"} {
		if t.requestID = resp.Header.Get(name); t.requestID != "" {
			break
		}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		t.retryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if resp.StatusCode == http.StatusOK {
		body, t.malformed = tokenOnly(body)
	} else {
		body = bytes.Join(bytes.Fields(body), []byte(" "))
		body = body[:min(len(body), maxErrorBody)]
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}

// tokenOnly reduces an answer to the member that counts. The answer itself is
// never part of an error: it may hold the token.
func tokenOnly(body []byte) ([]byte, error) {
	if len(body) > maxIDToken {
		return []byte("{}"), fmt.Errorf("answer of more than %d bytes", maxIDToken)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return []byte("{}"), errors.New("answer is not the JSON that GitHub's service gives")
	}
	if strings.TrimSpace(answer.Value) == "" {
		return []byte("{}"), errors.New("answer holds no token")
	}
	short, err := json.Marshal(answer)
	return short, err
}

// judge decides which errors of one try end the tries, and adds what the
// library drops.
func (t *tokenExchange) judge(err error) error {
	if err == nil {
		err = t.malformed
		if err == nil {
			return nil
		}
	}
	if t.requestID != "" {
		err = fmt.Errorf("%w (request ID %s)", err, t.requestID)
	}
	var failed *githubactions.RequestFailedError
	var network *url.Error
	var netErr net.Error
	switch {
	case errors.As(err, &failed):
		// Others pass: the service may not have heard yet that the job is running.
		if failed.StatusCode == http.StatusBadRequest || failed.StatusCode == http.StatusUnauthorized {
			return backoff.Permanent(err)
		}
	case errors.As(err, &network), errors.As(err, &netErr):
	case t.malformed != nil: // a proxy's page in place of the answer: try again
	default:
		return backoff.Permanent(err)
	}
	if t.retryAfter > 0 {
		return &delayed{err: err, after: backoff.RetryAfterError{Duration: t.retryAfter}}
	}
	return err
}

// delayed is an error together with how long the service wants to be left alone.
type delayed struct {
	err   error
	after backoff.RetryAfterError
}

func (d *delayed) Error() string { return d.err.Error() }

// Unwrap gives the cause and what backoff looks for.
func (d *delayed) Unwrap() []error { return []error{d.err, &d.after} }

// idTokenError explains why GitHub gave no token although the job may ask.
func idTokenError(ctx context.Context, err error) error {
	if permanent, ok := errors.AsType[*backoff.PermanentError](err); ok {
		err = permanent.Unwrap()
	}
	if wait, ok := errors.AsType[*delayed](err); ok {
		err = wait.err
	}
	p := &problem.Error{
		Op: "request ID token", Err: err,
		Fix: "Run the job again; see https://www.githubstatus.com when it goes on.",
	}
	if strings.Contains(err.Error(), "proxyconnect") {
		p.Input, p.Fix = "http-proxy", "Check the proxy's address (http-proxy, or HTTPS_PROXY in the environment), and that it lets requests to GitHub through; or name the hosts that need no proxy in no-proxy."
	}
	if failed, ok := errors.AsType[*githubactions.RequestFailedError](err); ok {
		switch {
		case failed.StatusCode == http.StatusUnauthorized || failed.StatusCode == http.StatusForbidden:
			p.Fix = "GitHub refuses the job's own request token, which ends with the job. " + permissionsFix
		case failed.StatusCode < 500 && failed.StatusCode != http.StatusTooManyRequests:
			p.Fix = `Check input "audience": GitHub refuses the request as it stands.`
		}
	}
	if ctx.Err() != nil {
		p.Fix = ""
	}
	return p
}

// NoIDToken explains, as a *problem.Error, why the job may not ask for ID tokens.
func (r *Runner) NoIDToken() error {
	p := &problem.Error{
		Op:  "request ID token",
		Err: errors.New("GitHub gave this job no ACTIONS_ID_TOKEN_REQUEST_URL and _TOKEN, so it may not ask for ID tokens"),
		Fix: permissionsFix,
	}
	event := r.getenv("GITHUB_EVENT_NAME")
	switch {
	case r.getenv("ACT") == "true":
		p.Err = errors.New("act offers no ID tokens")
		p.Fix = `Pass AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment, or set the inputs "aws-access-key-id", "aws-secret-access-key" and "aws-session-token".`
	case r.getenv("GITHUB_ACTIONS") != "true":
		p.Err = errors.New("only a job on GitHub can ask for ID tokens")
		p.Fix = `Use AWS credentials of the environment and leave input "role-to-assume" empty, or run in a workflow with "permissions: id-token: write".`
	case r.getenv("GITHUB_ACTOR") == "dependabot[bot]":
		p.Fix = "Runs that Dependabot starts get a read-only token: skip the step for them (if: github.actor != 'dependabot[bot]'), or state the permission. " + permissionsFix
	case event == "pull_request":
		p.Fix = "Pull requests from forks never get ID tokens: skip the step for them (if: github.event.pull_request.head.repo.full_name == github.repository). Otherwise: " + permissionsFix
	}
	return p
}

// newTransport has the settings of net/http's default transport, without
// sharing that one's connections.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          100,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}
