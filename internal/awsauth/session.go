// Package awsauth turns what a job has (an OIDC ID token, keys, or what its
// surroundings offer) into an AWS configuration whose credentials renew
// themselves.
//
// A role that is assumed by ID token is assumed again, shortly before its
// session ends, with a new ID token each time: GitHub's tokens live for five
// minutes, but a job may ask for as many as it likes. No token is ever kept.
// A refusal is a *problem.Error that says what would be accepted.
package awsauth

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/towline/towline/internal/problem"
)

// expiryWindow is how long before its end a session is renewed. STS's shortest
// session is 15 minutes.
const expiryWindow = 5 * time.Minute

// Session is an identity that AWS has confirmed.
type Session struct {
	// Config has the region, credentials that renew themselves for as long as
	// they can, and endpoints from AWS_ENDPOINT_URL and its like.
	Config aws.Config
	// Account is the account's twelve digits, ARN the caller's, both from
	// sts:GetCallerIdentity.
	Account, ARN string
}

// Open gets credentials and asks AWS whose they are.
//
// Keys come first, if there are any; then, if there are a role and a way to
// get ID tokens, the role by ID token; then whatever the SDK finds: the
// environment, a container's or an instance's credentials. A role is assumed
// with keys and with what was found, too. Refusals are *problem.Error; if ctx
// ends, so does Open, with its cause.
func Open(ctx context.Context, opts Options) (*Session, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	byToken := opts.AccessKeyID == "" && opts.Role != "" && opts.IDToken != nil
	cfg, err := load(ctx, opts, byToken)
	if err != nil {
		return nil, err
	}
	if byToken {
		return openByToken(ctx, opts, cfg)
	}
	cfg.Credentials = aws.NewCredentialsCache(masking{cfg.Credentials, opts.Mask})
	base, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, noCredentials(ctx, opts, err)
	}
	if opts.Role == "" {
		return identify(ctx, opts, cfg, false)
	}
	role, err := opts.role(func() (*Session, error) { return identify(ctx, opts, cfg, false) })
	if err != nil {
		return nil, err
	}
	cfg.Credentials = opts.assumedRole(cfg, role, base.SessionToken != "")
	return identify(ctx, opts, cfg, true)
}

func openByToken(ctx context.Context, opts Options, cfg aws.Config) (*Session, error) {
	role, err := opts.role(nil)
	if err != nil {
		return nil, err
	}
	cfg.Credentials = opts.webIdentity(cfg, role)
	return identify(ctx, opts, cfg, true)
}

// load reads the SDK's settings, and with the keys or, if there are none,
// where credentials are to be found. For an ID token it looks for none: the
// request is not signed.
func load(ctx context.Context, opts Options, byToken bool) (aws.Config, error) {
	with := []func(*config.LoadOptions) error{
		config.WithRegion(opts.Region),
		config.WithLogger(logging.Nop{}), // it would write to stderr, which is the user's log
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }),
	}
	if opts.Transport != nil {
		with = append(with, config.WithHTTPClient(&http.Client{
			Transport:     opts.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	}
	switch {
	case byToken:
		with = append(with, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	case opts.AccessKeyID != "":
		with = append(with, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			opts.AccessKeyID, opts.SecretAccessKey, opts.SessionToken)))
	case opts.Getenv("RUNNER_ENVIRONMENT") == "github-hosted":
		// Not an EC2 instance: its metadata service would only be waited for.
		with = append(with, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, with...)
	if err != nil {
		return aws.Config{}, &problem.Error{
			Op: "read AWS settings", Err: newFailure(err, opts.secrets()...),
			Fix: "Correct the AWS_ variables of the step's environment, or the files they point to.",
		}
	}
	cfg.ConfigSources = append([]any{endpointsNow(opts.Getenv)}, cfg.ConfigSources...)
	return cfg, nil
}

// endpoints holds AWS_ENDPOINT_URL_<SERVICE> as it was when Open was called.
// The SDK reads these variables when a client is made, at which time the
// process environment may have been emptied for the build.
type endpoints map[string]string

func endpointsNow(getenv func(string) string) endpoints {
	found := endpoints{}
	for _, id := range []string{"STS", "ECR", "ECR PUBLIC", "ECS", "CODEDEPLOY", "CLOUDWATCH LOGS", "ELASTIC LOAD BALANCING V2"} {
		if url := getenv("AWS_ENDPOINT_URL_" + strings.ReplaceAll(id, " ", "_")); url != "" {
			found[id] = url
		}
	}
	return found
}

// GetServiceBaseEndpoint implements the SDK's ServiceBaseEndpointProvider.
func (e endpoints) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	url, ok := e[strings.ToUpper(sdkID)]
	return url, ok, nil
}

// identify asks whose the credentials are, which is also their first use.
// assumed tells that a role has given them.
func identify(ctx context.Context, opts Options, cfg aws.Config, assumed bool) (*Session, error) {
	// Retrieved by themselves first, so that a refusal arrives as it is.
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, err
	}
	// The SDK makes three attempts, and none of them would end by itself.
	limited, cancel := context.WithTimeoutCause(ctx, 3*attemptTimeout, errNoAnswer)
	defer cancel()
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(limited, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("check AWS credentials: %w", context.Cause(ctx))
		}
		return nil, badCredentials(opts, "check AWS credentials", newFailure(err, opts.secrets()...), assumed)
	}
	return &Session{Config: cfg, Account: aws.ToString(who.Account), ARN: aws.ToString(who.Arn)}, nil
}

// role gives the role's ARN. For a bare name the account and the partition are
// those of the caller, which is asked for only then and may be nil.
func (o Options) role(caller func() (*Session, error)) (arn.ARN, error) {
	if arn.IsARN(o.Role) {
		return arn.Parse(o.Role)
	}
	if caller == nil {
		return arn.ARN{}, &problem.Error{
			Op: "assume role", Input: "role-to-assume", Value: o.Role,
			Err: errNameOnly, Fix: "Give the role's whole ARN, like arn:aws:iam::111122223333:role/" + o.Role + ".",
		}
	}
	session, err := caller()
	if err != nil {
		return arn.ARN{}, err
	}
	who, err := arn.Parse(session.ARN)
	if err != nil {
		return arn.ARN{}, fmt.Errorf("caller %q: %w", session.ARN, err)
	}
	return arn.ARN{Partition: who.Partition, Service: "iam", AccountID: session.Account, Resource: "role/" + o.Role}, nil
}

// masking hides what another provider gives before anyone can use it.
type masking struct {
	inner aws.CredentialsProvider
	mask  func(string)
}

// Retrieve implements aws.CredentialsProvider.
func (m masking) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := m.inner.Retrieve(ctx)
	if err == nil {
		maskCredentials(m.mask, found)
	}
	return found, err
}

func maskCredentials(mask func(string), c aws.Credentials) {
	for _, secret := range []string{c.AccessKeyID, c.SecretAccessKey, c.SessionToken} {
		if secret != "" {
			mask(secret)
		}
	}
}
