package awsauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/cenkalti/backoff/v5"
)

// A verdict says whether another attempt is worth it.
type verdict int

const (
	// final: the same answer would come again.
	final verdict = iota
	// refused: only a role or policy that IAM is still spreading would change
	// the answer. Three tries in six seconds.
	refused
	// doubtful: the token was too old, the clock off, a host's name is not known,
	// or a proxy not there. Three tries, each with a new token.
	doubtful
	// passing: load, network, an identity provider that did not answer.
	passing
)

// These bound the tries of one renewal.
const (
	refusedTries  = 3
	doubtfulTries = 3
	passingTries  = 12
	tryingTime    = 100 * time.Second
)

var errNoAnswer = errors.New("no answer from STS in time")

// A failure is what came of one attempt, in the service's own words and
// without any secret. It hides the SDK's error, which may repeat the request.
type failure struct {
	words         string
	code, message string
	status        int // HTTP's, or 0 if there was no answer
	verdict       verdict
	claims        claims    // of the ID token, if one was presented
	at            time.Time // by AWS's clock, or zero
}

func (f *failure) Error() string { return f.words }

func newFailure(err error, secrets ...string) *failure {
	f := &failure{}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		f.code, f.message = api.ErrorCode(), api.ErrorMessage()
	}
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		f.status = response.HTTPStatusCode()
		if response.Response != nil {
			f.at, _ = http.ParseTime(response.Response.Header.Get("Date")) // zero without one
		}
	}
	f.verdict = f.judge(err)
	f.words = f.inOwnWords(err)
	for _, secret := range secrets {
		if secret != "" {
			f.words = strings.ReplaceAll(f.words, secret, "***")
		}
	}
	return f
}

func (f *failure) judge(err error) verdict {
	switch f.code {
	case "AccessDenied":
		return refused
	case "ExpiredTokenException":
		return doubtful
	case "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired":
		if f.isSkewed() { // the SDK has learnt AWS's time from the answer
			return doubtful
		}
		return final
	case "IDPCommunicationError":
		return passing
	case "InvalidIdentityToken":
		if strings.Contains(f.message, "retrieve verification key") {
			return passing
		}
		return final
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok && unknown.IsNotFound {
		return doubtful
	}
	if proxy, ok := errors.AsType[*net.OpError](err); ok && proxy.Op == "proxyconnect" {
		return doubtful
	}
	// The end of a context can only be that of the attempt: try looks at the
	// caller's first.
	if f.status >= http.StatusInternalServerError || f.status == http.StatusTooManyRequests || errors.Is(err, context.DeadlineExceeded) {
		return passing
	}
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return passing
	}
	return final
}

// isSkewed tells that a request was signed at a time that AWS does not take.
func (f *failure) isSkewed() bool {
	return f.code == "RequestTimeTooSkewed" || f.code == "RequestExpired" ||
		strings.Contains(f.message, "Signature expired") || strings.Contains(f.message, "Signature not yet current")
}

// inOwnWords gives the service's code, message and request ID, or what kept
// the request from being answered.
func (f *failure) inOwnWords(err error) string {
	words := f.code + ": " + strings.TrimSuffix(f.message, ".")
	if f.code == "" || f.message == "" || f.message == "UnknownError" {
		words = err.Error()
		if f.status != 0 {
			words = strings.TrimSpace(fmt.Sprintf("HTTP status %d %s", f.status, http.StatusText(f.status)))
		} else if unsent, ok := errors.AsType[*url.Error](err); ok {
			words = unsent.Error()
		}
		if errors.Is(err, context.DeadlineExceeded) {
			words = errNoAnswer.Error()
		}
	}
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok && response.ServiceRequestID() != "" {
		words += " (request " + response.ServiceRequestID() + ")"
	}
	return words
}

// A pace is the wait before the next attempt, by what came of the last ones.
type pace struct {
	last   verdict
	limit  int // of attempts, whatever comes of them
	made   int
	counts map[verdict]int
	jitter *backoff.ExponentialBackOff
}

func newPace(limit int) *pace {
	jitter := backoff.NewExponentialBackOff()
	jitter.InitialInterval, jitter.MaxInterval, jitter.Multiplier = 500*time.Millisecond, 8*time.Second, 2
	return &pace{limit: limit, counts: map[verdict]int{}, jitter: jitter}
}

// NextBackOff implements backoff.BackOff.
func (p *pace) NextBackOff() time.Duration {
	p.counts[p.last]++
	n := p.counts[p.last]
	p.made++
	switch {
	case p.made >= p.limit:
	case p.last == refused && n < refusedTries:
		return time.Duration(n) * 2 * time.Second
	case p.last == doubtful && n < doubtfulTries, p.last == passing:
		return p.jitter.NextBackOff()
	}
	return backoff.Stop
}

// Reset implements backoff.BackOff.
func (p *pace) Reset() {
	clear(p.counts)
	p.made = 0
	p.jitter.Reset()
}

// try repeats op while that is worth it.
func try[T any](ctx context.Context, o Options, what string, op func(context.Context) (T, error)) (T, error) {
	p := newPace(o.Attempts)
	return backoff.Retry(ctx, func() (T, error) {
		got, err := op(ctx)
		p.last = final
		if answered, ok := errors.AsType[*failure](err); ok {
			p.last = answered.verdict
		}
		return got, err
	}, backoff.WithBackOff(p), backoff.WithMaxElapsedTime(tryingTime),
		backoff.WithNotify(func(err error, wait time.Duration) {
			if answered, ok := errors.AsType[*failure](err); ok {
				err = answered
			}
			why := ""
			if p.last == refused {
				why = "; a new role or policy may take a moment to arrive everywhere"
			}
			o.Notice(fmt.Sprintf("%s: %v%s; trying again in %s", what, err, why, wait.Round(100*time.Millisecond)))
		}))
}
