package awsauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/cenkalti/backoff/v5"
)

// attemptTimeout bounds one request to STS, which answers within a second.
const attemptTimeout = 20 * time.Second

// A renewing provider keeps a role's session going. The cache lets one
// attempt at a time through, in a goroutine that does not end with its
// caller's context; the waits between attempts are therefore out here.
type renewing struct {
	opts    Options
	cache   *aws.CredentialsCache
	explain func(error) error
}

// Retrieve implements aws.CredentialsProvider.
func (r renewing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := try(ctx, r.opts.Notice, "assume role "+r.opts.Role, r.cache.Retrieve)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return aws.Credentials{}, fmt.Errorf("assume role %s: %w", r.opts.Role, context.Cause(ctx))
	}
	if answered, ok := errors.AsType[*failure](err); ok {
		err = answered // without the cache's words around it
	}
	return aws.Credentials{}, r.explain(err)
}

// A provider assumes one role, once for each call.
type provider struct {
	opts   Options
	role   arn.ARN
	assume func(ctx context.Context) (*ststypes.Credentials, error)
	// ends is when the present session does. aws.CredentialsCache calls the
	// methods one at a time.
	ends time.Time
}

func (p *provider) renewing(explain func(error) error) renewing {
	cache := aws.NewCredentialsCache(p, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow })
	return renewing{p.opts, cache, explain}
}

// webIdentity assumes a role by ID token. Every attempt has a new token.
func (o Options) webIdentity(cfg aws.Config, role arn.ARN) renewing {
	client := sts.NewFromConfig(cfg, withoutRetries)
	p := &provider{opts: o, role: role, assume: func(ctx context.Context) (*ststypes.Credentials, error) {
		token, err := o.IDToken(ctx, o.Audience)
		if err != nil {
			return nil, backoff.Permanent(noIDToken(o, err))
		}
		o.Mask(token)
		ctx, cancel := withAttemptTimeout(ctx)
		defer cancel()
		answer, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
			RoleArn:          aws.String(role.String()),
			RoleSessionName:  aws.String(o.SessionName),
			WebIdentityToken: aws.String(token),
			DurationSeconds:  aws.Int32(int32(o.Duration / time.Second)),
		})
		if err != nil {
			refusal := newFailure(err, token)
			refusal.claims = readClaims(token)
			return nil, refusal
		}
		return answer.Credentials, nil
	}}
	return p.renewing(func(err error) error { return refusedToken(o, role, err) })
}

// assumedRole assumes a role with other credentials. If those are themselves
// of a role, STS grants one hour at most.
func (o Options) assumedRole(cfg aws.Config, role arn.ARN, chained bool) renewing {
	if chained && o.Duration > time.Hour {
		o.Notice(fmt.Sprintf("role %s is assumed with temporary credentials, for which AWS allows one hour: role-duration-seconds %s is taken as 3600, and the session renewed",
			o.Role, seconds(o.Duration)))
		o.Duration = time.Hour
	}
	client := sts.NewFromConfig(cfg, withoutRetries)
	p := &provider{opts: o, role: role, assume: func(ctx context.Context) (*ststypes.Credentials, error) {
		ctx, cancel := withAttemptTimeout(ctx)
		defer cancel()
		answer, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn:         aws.String(role.String()),
			RoleSessionName: aws.String(o.SessionName),
			DurationSeconds: aws.Int32(int32(o.Duration / time.Second)),
		})
		if err != nil {
			return nil, newFailure(err, o.secrets()...)
		}
		return answer.Credentials, nil
	}}
	return p.renewing(func(err error) error { return refusedKeys(o, role, err) })
}

// withoutRetries leaves the retries to try: the SDK would make three of each
// attempt, with the same token.
func withoutRetries(o *sts.Options) { o.Retryer = aws.NopRetryer{} }

func withAttemptTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, attemptTimeout, errNoAnswer)
}

// Retrieve implements aws.CredentialsProvider.
func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := p.assume(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	if got == nil || got.AccessKeyId == nil || got.SecretAccessKey == nil || got.Expiration == nil {
		return aws.Credentials{}, errors.New("the answer of STS holds no credentials")
	}
	c := aws.Credentials{
		AccessKeyID:     *got.AccessKeyId,
		SecretAccessKey: *got.SecretAccessKey,
		SessionToken:    aws.ToString(got.SessionToken),
		Source:          "towline",
		CanExpire:       true,
		Expires:         *got.Expiration,
		AccountID:       p.role.AccountID,
	}
	maskCredentials(p.opts.Mask, c)
	p.ends = c.Expires
	return c, nil
}

// HandleFailToRefresh goes on with the present session while it lasts, if it
// cannot be renewed, and lets the next attempt be made half a minute later.
// It implements aws.HandleFailRefreshCredentialsCacheStrategy.
func (p *provider) HandleFailToRefresh(_ context.Context, present aws.Credentials, err error) (aws.Credentials, error) {
	left := time.Until(p.ends)
	if !present.HasKeys() || left <= 0 {
		return aws.Credentials{}, err
	}
	p.opts.Notice(fmt.Sprintf("the session of role %s could not be renewed; it is good for another %s: %v",
		p.opts.Role, left.Round(time.Second), err))
	// The cache takes its window off this.
	present.Expires = time.Now().Add(min(left, 30*time.Second) + expiryWindow)
	return present, nil
}
