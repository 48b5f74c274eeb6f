package awsauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/cenkalti/backoff/v5"

	"github.com/towline/towline/internal/problem"
)

// attemptTimeout bounds one request to STS, which answers within a second.
const attemptTimeout = 20 * time.Second

// A target is a role to assume.
type target struct {
	// given is a line of the input, role what it means.
	given string
	role  arn.ARN
	// last tells that no other role is assumed with this one.
	last bool
}

// A renewing provider keeps a role's session going. The cache lets one
// attempt at a time through, in a goroutine that does not end with its
// caller's context; the waits between attempts are therefore out here.
type renewing struct {
	*provider

	cache   *aws.CredentialsCache
	explain func(error) error
}

// Retrieve implements aws.CredentialsProvider.
func (r renewing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := try(ctx, r.opts, "assume role "+r.target.given, r.cache.Retrieve)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return aws.Credentials{}, fmt.Errorf("assume role %s: %w", r.target.given, context.Cause(ctx))
	}
	if answered, ok := errors.AsType[*failure](err); ok {
		err = answered // without the cache's words around it
	} else if known, ok := errors.AsType[*problem.Error](err); ok {
		err = known
	}
	return aws.Credentials{}, r.explain(err)
}

// A provider assumes one role, once for each call.
type provider struct {
	opts   Options
	target target
	assume func(ctx context.Context) (*grant, error)
	// session is the ARN of the present session, and ends is when it does.
	// aws.CredentialsCache calls the methods one at a time.
	session string
	ends    time.Time
}

// A grant is what STS gives.
type grant struct {
	credentials *ststypes.Credentials
	user        *ststypes.AssumedRoleUser
	// from has the answer's time by AWS's clock, if it was told.
	from middleware.Metadata
}

func (p *provider) renewing(explain func(error) error) renewing {
	cache := aws.NewCredentialsCache(p, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow })
	return renewing{p, cache, explain}
}

// webIdentity assumes a role by ID token. Every attempt has a new token.
func (o Options) webIdentity(cfg aws.Config, to target) renewing {
	client := sts.NewFromConfig(cfg, withoutRetries)
	p := &provider{opts: o, target: to, assume: func(ctx context.Context) (*grant, error) {
		token, err := o.idToken(ctx)
		if err != nil {
			return nil, backoff.Permanent(noIDToken(o, to, err))
		}
		o.Mask(token)
		in := &sts.AssumeRoleWithWebIdentityInput{
			RoleArn:          aws.String(to.role.String()),
			RoleSessionName:  aws.String(o.SessionName),
			WebIdentityToken: aws.String(token),
			DurationSeconds:  aws.Int32(int32(o.Duration / time.Second)),
		}
		if to.last {
			in.Policy, in.PolicyArns = given(o.Policy), policyARNs(o.PolicyARNs)
		}
		ctx, cancel := withAttemptTimeout(ctx)
		defer cancel()
		answer, err := client.AssumeRoleWithWebIdentity(ctx, in)
		if err != nil {
			refusal := newFailure(err, token)
			refusal.claims = readClaims(token)
			return nil, refusal
		}
		return &grant{answer.Credentials, answer.AssumedRoleUser, answer.ResultMetadata}, nil
	}}
	return p.renewing(func(err error) error { return refusedToken(o, to, err) })
}

// assumedRole assumes a role with the credentials of cfg. first tells that no
// other role was assumed with credentials before.
func (o Options) assumedRole(cfg aws.Config, to target, first bool) renewing {
	client := sts.NewFromConfig(cfg, withoutRetries)
	tags := o.tagging(first)
	p := &provider{opts: o, target: to, assume: func(ctx context.Context) (*grant, error) {
		// By themselves first, so that a refusal arrives as it is.
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			return nil, backoff.Permanent(err)
		}
		in := &sts.AssumeRoleInput{
			RoleArn:         aws.String(to.role.String()),
			RoleSessionName: aws.String(o.SessionName),
			DurationSeconds: aws.Int32(int32(o.Duration / time.Second)),
			ExternalId:      given(o.ExternalID),
		}
		if to.last {
			in.Policy, in.PolicyArns = given(o.Policy), policyARNs(o.PolicyARNs)
		}
		ctx, cancel := withAttemptTimeout(ctx)
		defer cancel()
		for {
			in.Tags, in.TransitiveTagKeys = tags.forSTS(), tags.transitive
			answer, err := client.AssumeRole(ctx, in)
			if err == nil {
				return &grant{answer.Credentials, answer.AssumedRoleUser, answer.ResultMetadata}, nil
			}
			refusal := newFailure(err, o.secrets()...)
			fewer, smaller := tags.smaller()
			if refusal.code != codePackedTooLarge || !smaller {
				return nil, refusal
			}
			o.Notice(fmt.Sprintf("role %s is assumed without the session tags that are not essential: with them, its session policy is too large", to.given))
			tags = fewer
		}
	}}
	return p.renewing(func(err error) error { return refusedKeys(o, to, err) })
}

// given is nil for an empty string, which STS does not take.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// withoutRetries leaves the retries to try: the SDK would make three of each
// attempt, with the same token.
func withoutRetries(o *sts.Options) { o.Retryer = aws.NopRetryer{} }

func withAttemptTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, attemptTimeout, errNoAnswer)
}

// Retrieve implements aws.CredentialsProvider.
func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	granted, err := p.assume(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	got := granted.credentials
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
		AccountID:       p.target.role.AccountID,
	}
	maskCredentials(p.opts.Mask, c)
	// AWS's clock counts, and this machine's may be off.
	if now, ok := awsmiddleware.GetServerTime(granted.from); ok {
		c.Expires = time.Now().Add(c.Expires.Sub(now))
	}
	p.ends = c.Expires
	if granted.user != nil {
		p.session = aws.ToString(granted.user.Arn)
	}
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
		p.target.given, left.Round(time.Second), err))
	// The cache takes its window off this.
	present.Expires = time.Now().Add(min(left, 30*time.Second) + expiryWindow)
	return present, nil
}
