package awsauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/towline/towline/internal/problem"
)

// Options says which credentials are wanted. Only a region must be known;
// without anything else the surroundings' credentials are taken.
type Options struct {
	// Region, like eu-west-1. Default: AWS_REGION, then AWS_DEFAULT_REGION.
	Region string
	// Roles are assumed one after the other, each with the credentials of the
	// one before. Each is an ARN or, if the account is known from keys, the
	// surroundings or the role before, a name. Default: none.
	Roles []string
	// SessionName shows in CloudTrail. What STS does not allow in it is
	// replaced, and it is cut to 64 characters. Default: towline.
	SessionName string
	// Duration of a role's session before it is renewed, from 15 minutes to 12
	// hours. Default: 1 hour, which is also the most where one role assumes
	// another.
	Duration time.Duration
	// ExternalID is presented where a role is assumed with credentials.
	ExternalID string
	// Policy is a session policy, and PolicyARNs are managed ones: the last
	// role's session may do no more than they allow. Default: what the role may.
	Policy     string
	PolicyARNs []string
	// Tags are put on the session of a role that is assumed with credentials,
	// and those named in TransitiveTags are passed on to the roles behind it.
	Tags           []Tag
	TransitiveTags []string
	// Audience of the ID token. Default: sts.amazonaws.com, and
	// sts.amazonaws.com.cn for a role of the partition aws-cn.
	Audience string
	// AccessKeyID, SecretAccessKey and, for temporary keys, SessionToken.
	AccessKeyID, SecretAccessKey, SessionToken string
	// TokenFile holds an ID token, and is read at each renewal. It is looked for
	// in the folder Workspace if it is a relative path.
	TokenFile, Workspace string
	// IDToken asks for a new ID token. It retries by itself what is worth it.
	// Nil if the job has none, and NoIDToken says why.
	IDToken   func(ctx context.Context, audience string) (string, error)
	NoIDToken error
	// UseExisting takes the surroundings' credentials as they are, if AWS takes
	// them, and assumes no role then. FromExisting assumes the first role with
	// them, rather than with an ID token.
	UseExisting, FromExisting bool
	// IgnoreKeys overlooks the access key of the environment.
	IgnoreKeys bool
	// AllowedAccounts are the only ones that may be acted in. Default: all.
	AllowedAccounts []string
	// Attempts bounds how often a request to STS is made that is worth another
	// attempt. Default: 12.
	Attempts int
	// Endpoint is the address of STS. Default: AWS_ENDPOINT_URL_STS,
	// AWS_ENDPOINT_URL, or the region's.
	Endpoint string
	// Getenv reads the environment for Region, RUNNER_ENVIRONMENT, the
	// surroundings' credentials and AWS_ENDPOINT_URL_<SERVICE>. Other AWS_
	// variables the SDK reads from the process. Both happens only while Open
	// runs. Default: nothing is set.
	Getenv func(string) string
	// Mask is called with every secret before its first use. Default: none.
	Mask func(secret string)
	// Transport carries all requests. Nil: the SDK's own.
	Transport http.RoundTripper
	// Proxy chooses the proxy of a request, for the SDK's own transport.
	// Default: HTTPS_PROXY and its like.
	Proxy func(*http.Request) (*url.URL, error)
	// Notice is told what takes longer, such as retries. It may be called
	// whenever credentials are renewed, from any goroutine. Default: none.
	Notice func(string)
}

// Tag is a session tag.
type Tag struct {
	Key, Value string
	// Optional ones are given up if STS finds the session's policy too large.
	Optional bool
}

const (
	opAssume  = "assume role"
	inputRole = "role-to-assume"
)

var errNameOnly = errors.New("a role's name alone does not tell its account")

// complete fills in defaults and refuses what cannot work.
func (o Options) complete() (Options, error) {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Mask == nil {
		o.Mask = func(string) {}
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	o.maskInputs()
	o.Region = cmp.Or(o.Region, o.Getenv("AWS_REGION"), o.Getenv("AWS_DEFAULT_REGION"))
	o.SessionName = sessionName(o.SessionName)
	o.Duration = cmp.Or(o.Duration, time.Hour)
	o.Attempts = cmp.Or(o.Attempts, passingTries)
	if o.Audience == "" {
		o.Audience = "sts.amazonaws.com"
		if len(o.Roles) > 0 && strings.HasPrefix(o.Roles[0], "arn:aws-cn:") {
			o.Audience = "sts.amazonaws.com.cn"
		}
	}
	return o, errors.Join(o.checkRegion(), o.checkKeys(), o.checkRoles(), o.checkKnownAccount())
}

func (o Options) maskInputs() {
	for _, secret := range o.secrets() {
		if secret != "" {
			o.Mask(secret)
		}
	}
}

func (o Options) checkRegion() error {
	switch {
	case o.Region == "":
		return &problem.Error{
			Op: "choose region", Input: "aws-region", Err: errors.New("no region is given"),
			Fix: "Set aws-region, or AWS_REGION in the step's environment, to the region of the ECS service, like eu-west-1.",
		}
	case !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(o.Region):
		return &problem.Error{
			Op: "choose region", Input: "aws-region", Value: o.Region, Err: errors.New("not a region's name"),
			Fix: "Give a name like eu-west-1.",
		}
	}
	return nil
}

func (o Options) checkKeys() error {
	fault := &problem.Error{Op: "read AWS keys", Fix: "Give both keys, or neither and role-to-assume."}
	switch {
	case o.AccessKeyID != "" && o.SecretAccessKey == "":
		fault.Input, fault.Err = "aws-secret-access-key", errors.New("missing, but aws-access-key-id is given")
	case o.AccessKeyID == "" && o.SecretAccessKey != "":
		fault.Input, fault.Err = "aws-access-key-id", errors.New("missing, but aws-secret-access-key is given")
	case o.AccessKeyID == "" && o.SessionToken != "":
		fault.Input, fault.Err = "aws-access-key-id", errors.New("missing, but aws-session-token is given")
	default:
		return nil
	}
	return fault
}

func (o Options) checkRoles() error {
	if o.Duration < 15*time.Minute || o.Duration > 12*time.Hour {
		return &problem.Error{
			Op: opAssume, Input: "role-duration-seconds", Value: seconds(o.Duration),
			Err: errors.New("out of bounds"), Fix: "Give 900 to 43200 seconds.",
		}
	}
	var errs []error
	for _, role := range o.Roles {
		errs = append(errs, checkRole(role))
	}
	return errors.Join(errs...)
}

func checkRole(role string) error {
	wrong := &problem.Error{
		Op: opAssume, Input: inputRole, Value: role,
		Fix: "Give an ARN like arn:aws:iam::111122223333:role/NAME.",
	}
	if strings.HasPrefix(role, "arn:") {
		parsed, err := arn.Parse(role)
		if err != nil {
			wrong.Err = err
			return wrong
		}
		if parsed.Service != "iam" || parsed.AccountID == "" || len(parsed.Resource) <= len("role/") || !strings.HasPrefix(parsed.Resource, "role/") {
			wrong.Err = errors.New("not the ARN of a role")
			return wrong
		}
	} else if !regexp.MustCompile(`^[\w+=,.@/-]+$`).MatchString(role) {
		wrong.Err = errors.New("neither an ARN nor a role's name")
		return wrong
	}
	return nil
}

// sessionName makes any text one that STS accepts: [\w+=,.@-]{2,64}.
func sessionName(s string) string {
	s = regexp.MustCompile(`[^a-zA-Z0-9_+=,.@-]+`).ReplaceAllString(s, "-")
	s = s[:min(len(s), 64)]
	if len(s) < 2 {
		return strings.TrimSuffix("towline-"+s, "-")
	}
	return s
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func (o Options) secrets() []string {
	return []string{o.SecretAccessKey, o.SessionToken, o.AccessKeyID}
}
