package deploy

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

const (
	// crowded is how many times longer a call is tried that ECS refuses because
	// of the account's rate: that costs time, and is no failure.
	crowded = 20
	// longestPause is between two tries of a call.
	longestPause = 5 * time.Second
)

// patient tries most failures a few times, and refusals for too many calls for
// minutes.
type patient struct {
	*retry.Standard

	attempts int
}

// newRetryer tries what the SDK holds worth it, or only what retryable says.
func newRetryer(attempts int, retryable func(error) bool) patient {
	return patient{attempts: attempts, Standard: retry.NewStandard(func(s *retry.StandardOptions) {
		s.MaxBackoff = longestPause
		// The SDK's own limit of retries is for many calls side by side: ours
		// come one by one, and it would end a watch that is throttled.
		s.RateLimiter = ratelimit.None
		if retryable != nil {
			s.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				return aws.BoolTernary(retryable(err))
			})}
		}
	})}
}

// MaxAttempts implements aws.Retryer.
func (p patient) MaxAttempts() int { return (p.attempts-1)*crowded + 1 }

// RetryDelay implements aws.Retryer. The error it gives is that of the call.
func (p patient) RetryDelay(attempt int, err error) (time.Duration, error) {
	if attempt >= p.attempts && !isThrottled(err) {
		return 0, err
	}
	return p.Standard.RetryDelay(attempt, err)
}
