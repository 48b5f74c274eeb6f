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
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
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
	// Account is the account's twelve digits, ARN the caller's, both as STS
	// tells them.
	Account, ARN string

	// tagged says that a role was assumed with credentials on the way here.
	tagged bool
}

// Credentials are those of this moment, with the time when they really expire:
// what Config.Credentials gives seems to end earlier, so that it is renewed in time.
func (s *Session) Credentials(ctx context.Context) (aws.Credentials, error) {
	now, err := s.Config.Credentials.Retrieve(ctx)
	if now.CanExpire {
		now.Expires = now.Expires.Add(expiryWindow)
	}
	return now, err
}

// Open gets credentials and finds out whose they are.
//
// Keys come first, if there are any; then, if there are a role and a way to
// get ID tokens, the role by ID token; then whatever is found: the
// environment, a container's, a file's or an instance's credentials. Roles are
// assumed with keys and with what was found, too, and each of several with the
// one before it. Nobody else is asked before the account is known to be
// allowed. Refusals are *problem.Error; if ctx ends, so does Open, with its cause.
func Open(ctx context.Context, opts Options) (*Session, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	if opts.UseExisting {
		session, unusable := opts.openExisting(ctx)
		if session != nil || ctx.Err() != nil || opts.AccessKeyID == "" && len(opts.Roles) == 0 {
			return session, unusable
		}
		opts.Notice(fmt.Sprintf("the credentials that are there already cannot be used: %v", cause(unusable)))
		if err = opts.withoutExisting().checkKnownAccount(); err != nil {
			return nil, err
		}
	}
	cfg, err := load(ctx, opts)
	if err != nil {
		return nil, err
	}
	start, err := opts.start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	session, err := start.follow(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := opts.checkAccount(session.Account, "the credentials are of account "+session.Account); err != nil {
		return nil, err
	}
	return session, nil
}

// openExisting gives no session if AWS does not take the credentials.
func (o Options) openExisting(ctx context.Context) (*Session, error) {
	surroundings := o
	surroundings.AccessKeyID, surroundings.Roles = "", nil
	cfg, err := load(ctx, surroundings)
	if err != nil {
		return nil, err
	}
	session, err := surroundings.existing(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return session, o.checkAccount(session.Account, "the credentials that are there already are of account "+session.Account)
}

func (o Options) withoutExisting() Options {
	o.UseExisting = false
	return o
}

// cause is an error without the remedy, for when another way is gone.
func cause(err error) error {
	if fault, ok := errors.AsType[*problem.Error](err); ok && fault.Err != nil {
		return fault.Err
	}
	return err
}

// byToken says whether the first role is assumed by ID token.
func (o Options) byToken() bool {
	return o.AccessKeyID == "" && len(o.Roles) > 0 && (o.TokenFile != "" || o.IDToken != nil && !o.FromExisting)
}

// A link is one set of credentials on the way to those that are wanted.
type link struct {
	cfg aws.Config
	// session is whose they are, where that is known without asking.
	session *Session
	// temporary credentials can only get sessions of an hour.
	temporary bool
	// roles are still to be assumed; tagged tells that one was assumed with
	// credentials already.
	roles  []string
	tagged bool
}

// start is the first link: keys, a role by ID token, or what is found.
func (o Options) start(ctx context.Context, cfg aws.Config) (*link, error) {
	l := &link{cfg: cfg, roles: o.Roles, temporary: o.SessionToken != ""}
	switch {
	case o.AccessKeyID != "":
		return l, nil
	case o.byToken():
		role, err := o.role(nil, o.Roles[0])
		if err != nil {
			return nil, err
		}
		if len(o.Roles) > 1 {
			o.capDuration()
		}
		return l.next(ctx, o.webIdentity(cfg, target{o.Roles[0], role, len(o.Roles) == 1}))
	}
	found, err := o.surroundings(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l.cfg.Credentials = found
	base, err := found.Retrieve(ctx)
	if err != nil {
		return nil, noCredentials(ctx, o, err)
	}
	l.temporary = base.SessionToken != ""
	return l, nil
}

// follow assumes the link's roles.
func (l *link) follow(ctx context.Context, o Options) (*Session, error) {
	if l.temporary && len(l.roles) > 0 || len(l.roles) > 1 {
		o.sayCap(l.roles[len(l.roles)-1])
		o.capDuration()
	}
	for len(l.roles) > 0 {
		given := l.roles[0]
		role, err := o.role(l.whose(ctx, o), given)
		if err != nil {
			return nil, err
		}
		next, err := l.next(ctx, o.assumedRole(l.cfg, target{given, role, len(l.roles) == 1}, !l.tagged))
		if err != nil {
			return nil, err
		}
		next.tagged = true
		if next.session != nil {
			next.session.tagged = true
		}
		l = next
	}
	return l.whose(ctx, o)()
}

// Assume goes on from the session: it assumes the roles of opts one after the
// other, the first with the session's credentials, and works in the region of
// opts. Of opts, keys and tokens have no effect. Without roles it is the same
// session in another region.
func (s *Session) Assume(ctx context.Context, opts Options) (*Session, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	cfg := s.Config.Copy()
	cfg.Region = opts.Region
	here := &Session{Config: cfg, Account: s.Account, ARN: s.ARN, tagged: s.tagged}
	l := &link{cfg: cfg, roles: opts.Roles, session: here, tagged: s.tagged, temporary: true}
	session, err := l.follow(ctx, opts)
	if err != nil {
		return nil, err
	}
	return session, opts.checkAccount(session.Account, "the credentials are of account "+session.Account)
}

// next is the link that provider gives, once it has given it.
func (l *link) next(ctx context.Context, provider renewing) (*link, error) {
	if _, err := provider.Retrieve(ctx); err != nil {
		return nil, err
	}
	n := &link{cfg: l.cfg, roles: l.roles[1:], tagged: l.tagged, temporary: true}
	n.cfg.Credentials = provider
	if who, err := arn.Parse(provider.session); err == nil { // nobody needs to be asked
		n.session = &Session{Config: n.cfg, Account: who.AccountID, ARN: provider.session}
	}
	return n, nil
}

// whose gives the link's session, and asks for it where it is not known.
func (l *link) whose(ctx context.Context, o Options) func() (*Session, error) {
	return func() (*Session, error) {
		if l.session != nil {
			return l.session, nil
		}
		session, err := identify(ctx, o, l.cfg)
		l.session = session
		return session, err
	}
}

// sayCap tells that a role's session cannot be as long as was asked for.
func (o Options) sayCap(role string) {
	if o.Duration > time.Hour {
		o.Notice(fmt.Sprintf("role %s is assumed with temporary credentials, for which AWS allows one hour: role-duration-seconds %s is taken as 3600, and the session renewed",
			role, seconds(o.Duration)))
	}
}

func (o *Options) capDuration() { o.Duration = min(o.Duration, time.Hour) }

// load reads the SDK's settings, and with the keys or, if there are none,
// where credentials are to be found. For an ID token it looks for none: the
// request is not signed.
func load(ctx context.Context, opts Options) (aws.Config, error) {
	with := []func(*config.LoadOptions) error{
		config.WithRegion(opts.Region),
		config.WithLogger(logging.Nop{}), // it would write to stderr, which is the user's log
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }),
	}
	switch {
	case opts.Transport != nil:
		with = append(with, config.WithHTTPClient(&http.Client{
			Transport:     opts.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	case opts.Proxy != nil:
		with = append(with, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = opts.Proxy })))
	}
	if opts.onGitHub() {
		with = append(with, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	var own aws.CredentialsProvider
	switch {
	case opts.byToken():
		own = aws.AnonymousCredentials{}
	case opts.AccessKeyID != "":
		own = masking{credentials.NewStaticCredentialsProvider(opts.AccessKeyID, opts.SecretAccessKey, opts.SessionToken), opts.Mask}
	}
	if own != nil {
		with = append(with, config.WithCredentialsProvider(own))
	} else if profile := opts.Getenv("AWS_PROFILE"); profile != "" {
		with = append(with, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, with...)
	if missing := (config.SharedConfigProfileNotExistError{}); own != nil && errors.As(err, &missing) {
		// AWS_PROFILE names one of the runner's, whose files are not in our container.
		cfg, err = opts.withoutProfile(own)
	}
	if err != nil {
		return aws.Config{}, &problem.Error{
			Op: "read AWS settings", Err: newFailure(err, opts.secrets()...),
			Fix: "Correct the AWS_ variables of the step's environment, or the files they point to: the runner's own files are not in the action's container.",
		}
	}
	cfg.ConfigSources = append([]any{endpointsNow(opts.Getenv, opts.Endpoint)}, cfg.ConfigSources...)
	return cfg, nil
}

// withoutProfile is the configuration where the environment's profile is not
// there, and not needed.
func (o Options) withoutProfile(own aws.CredentialsProvider) (aws.Config, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return aws.Config{}, err
	}
	cfg := aws.Config{Region: o.Region, Credentials: own, Logger: logging.Nop{}, ConfigSources: []any{env}}
	if address := o.Getenv("AWS_ENDPOINT_URL"); address != "" {
		cfg.BaseEndpoint = &address
	}
	switch {
	case o.Transport != nil:
		cfg.HTTPClient = &http.Client{Transport: o.Transport}
	case o.Proxy != nil:
		cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = o.Proxy })
	}
	return cfg, nil
}

// endpoints holds AWS_ENDPOINT_URL_<SERVICE> as it was when Open was called.
// The SDK reads these variables when a client is made, at which time the
// process environment may have been emptied for the build.
type endpoints map[string]string

func endpointsNow(getenv func(string) string, ofSTS string) endpoints {
	found := endpoints{}
	for _, id := range []string{"STS", "ECR", "ECR PUBLIC", "ECS", "CODEDEPLOY", "CLOUDWATCH LOGS", "ELASTIC LOAD BALANCING V2", "SECRETS MANAGER", "SSM", "IAM"} {
		if url := getenv("AWS_ENDPOINT_URL_" + strings.ReplaceAll(id, " ", "_")); url != "" {
			found[id] = url
		}
	}
	if ofSTS != "" {
		found["STS"] = ofSTS
	}
	return found
}

// GetServiceBaseEndpoint implements the SDK's ServiceBaseEndpointProvider.
func (e endpoints) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	url, ok := e[strings.ToUpper(sdkID)]
	return url, ok, nil
}

// identify asks whose the credentials are, which is also their first use.
func identify(ctx context.Context, opts Options, cfg aws.Config) (*Session, error) {
	// The SDK makes three attempts, and none of them would end by itself.
	limited, cancel := context.WithTimeoutCause(ctx, 3*attemptTimeout, errNoAnswer)
	defer cancel()
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(limited, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("check AWS credentials: %w", context.Cause(ctx))
		}
		return nil, badCredentials(opts, "check AWS credentials", newFailure(err, opts.secrets()...))
	}
	return &Session{Config: cfg, Account: aws.ToString(who.Account), ARN: aws.ToString(who.Arn)}, nil
}

// role gives the ARN of the role that is given. For a bare name the account and
// the partition are those of the caller, which is asked for only then and may be nil.
func (o Options) role(caller func() (*Session, error), given string) (arn.ARN, error) {
	if arn.IsARN(given) {
		return arn.Parse(given)
	}
	if caller == nil {
		return arn.ARN{}, &problem.Error{
			Op: opAssume, Input: inputRole, Value: given,
			Err: errNameOnly, Fix: "Give the role's whole ARN, like arn:aws:iam::111122223333:role/" + given + ".",
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
	return arn.ARN{Partition: who.Partition, Service: "iam", AccountID: session.Account, Resource: "role/" + given}, nil
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
