package awsauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"
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
	// Role is the ARN of the role to assume, or its name, if the account is
	// known from keys or the surroundings. Default: none.
	Role string
	// SessionName shows in CloudTrail. What STS does not allow in it is
	// replaced, and it is cut to 64 characters. Default: towline.
	SessionName string
	// Duration of a role's session before it is renewed, from 15 minutes to 12
	// hours. Default: 1 hour, which is also the most where one role assumes
	// another.
	Duration time.Duration
	// Audience of the ID token. Default: sts.amazonaws.com, and
	// sts.amazonaws.com.cn for a role of the partition aws-cn.
	Audience string
	// AccessKeyID, SecretAccessKey and, for temporary keys, SessionToken.
	AccessKeyID, SecretAccessKey, SessionToken string
	// IDToken asks for a new ID token. It retries by itself what is worth it.
	// Nil if the job has none.
	IDToken func(ctx context.Context, audience string) (string, error)
	// Getenv reads the environment for Region, RUNNER_ENVIRONMENT and
	// AWS_ENDPOINT_URL_<SERVICE>. Other AWS_ variables the SDK reads from the
	// process. Both happens only while Open runs. Default: nothing is set.
	Getenv func(string) string
	// Mask is called with every secret before its first use. Default: none.
	Mask func(secret string)
	// Transport carries all requests. Nil: the SDK's own.
	Transport http.RoundTripper
	// Notice is told what takes longer, such as retries. It may be called
	// whenever credentials are renewed, from any goroutine. Default: none.
	Notice func(string)
}

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
	if o.Audience == "" {
		o.Audience = "sts.amazonaws.com"
		if strings.HasPrefix(o.Role, "arn:aws-cn:") {
			o.Audience = "sts.amazonaws.com.cn"
		}
	}
	return o, errors.Join(o.checkRegion(), o.checkKeys(), o.checkRole())
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

func (o Options) checkRole() error {
	if o.Duration < 15*time.Minute || o.Duration > 12*time.Hour {
		return &problem.Error{
			Op: "assume role", Input: "role-duration-seconds", Value: seconds(o.Duration),
			Err: errors.New("out of bounds"), Fix: "Give 900 to 43200 seconds.",
		}
	}
	wrong := &problem.Error{
		Op: "assume role", Input: "role-to-assume", Value: o.Role,
		Fix: "Give an ARN like arn:aws:iam::111122223333:role/NAME.",
	}
	if strings.HasPrefix(o.Role, "arn:") {
		role, err := arn.Parse(o.Role)
		if err != nil {
			wrong.Err = err
			return wrong
		}
		if role.Service != "iam" || role.AccountID == "" || len(role.Resource) <= len("role/") || !strings.HasPrefix(role.Resource, "role/") {
			wrong.Err = errors.New("not the ARN of a role")
			return wrong
		}
	} else if o.Role != "" && !regexp.MustCompile(`^[\w+=,.@/-]+$`).MatchString(o.Role) {
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
