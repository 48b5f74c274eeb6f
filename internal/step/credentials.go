package step

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/towline/towline/internal/awsauth"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
)

// authenticate becomes who the step is on AWS.
func (s *Step) authenticate(ctx context.Context) error {
	session, err := s.openSession(ctx)
	if err != nil {
		return err
	}
	s.session = session
	if s.settings.Credentials.MaskAccountID {
		s.runner.Mask(session.Account)
	}
	verb := "using"
	if strings.Contains(session.ARN, ":assumed-role/") {
		verb = "assumed"
	}
	s.report.Say(verb, session.ARN, "account "+session.Account, session.Config.Region)
	if err := s.output(map[string]string{
		inputs.OutputAWSAccountID: session.Account, inputs.OutputAuthenticatedARN: session.ARN,
	}); err != nil {
		return err
	}
	return s.handOver(ctx)
}

func (s *Step) openSession(ctx context.Context) (*awsauth.Session, error) {
	return awsauth.Open(ctx, s.sessionOptions())
}

// sessionOptions is what the inputs say of credentials, in awsauth's words.
func (s *Step) sessionOptions() awsauth.Options {
	c := s.settings.Credentials
	opts := awsauth.Options{
		Region: c.AWSRegion, Roles: c.RolesToAssume, SessionName: c.RoleSessionName, Duration: c.RoleDuration,
		ExternalID: c.RoleExternalID, Policy: c.InlineSessionPolicy, PolicyARNs: c.ManagedSessionPolicies,
		TransitiveTags: c.TransitiveTags, Audience: c.Audience,
		AccessKeyID: c.AWSAccessKeyID, SecretAccessKey: c.AWSSecretAccessKey, SessionToken: c.AWSSessionToken,
		TokenFile: c.WebIdentityTokenFile, Workspace: s.settings.Workspace,
		UseExisting: c.UseExisting, FromExisting: c.FromExisting, IgnoreKeys: c.IgnoreKeys,
		AllowedAccounts: c.AllowedAccountIDs, Attempts: c.Attempts, Endpoint: c.STSEndpoint,
		Getenv: s.opts.Getenv, Mask: s.runner.Mask, Transport: s.opts.Transport,
		Notice: func(text string) { s.report.Say("note", text) },
	}
	for _, tag := range c.SessionTags {
		opts.Tags = append(opts.Tags, awsauth.Tag(tag))
	}
	if s.proxy != nil { // the SDK's own transport has what the others need not have
		opts.Transport, opts.Proxy = nil, s.proxy
	}
	switch {
	case c.SkipOIDC:
		opts.NoIDToken = &problem.Error{Fix: "Remove force-skip-oidc, so that the job's ID token is used."}
	case s.runner.HasIDToken():
		opts.IDToken = s.runner.IDToken
	default:
		opts.NoIDToken = s.runner.NoIDToken()
	}
	return opts
}

// maskAccounts keeps the accounts out of the log that the inputs show.
func (s *Step) maskAccounts() {
	if !s.settings.Credentials.MaskAccountID {
		return
	}
	for _, role := range s.settings.Credentials.RolesToAssume {
		if parsed, err := arn.Parse(role); err == nil {
			s.runner.Mask(parsed.AccountID)
		}
	}
}

// handOver gives the credentials of this moment to later steps, if an input
// asks for it and they do not have these already.
func (s *Step) handOver(ctx context.Context) error {
	c := s.settings.Credentials
	if s.session == nil || !c.Output && !c.OutputEnv {
		return nil
	}
	now, err := s.session.Credentials(ctx)
	if err != nil || now.AccessKeyID == s.handed {
		return err
	}
	s.handed = now.AccessKeyID
	var errs []error
	if c.Output {
		values := []struct{ name, value string }{
			{inputs.OutputAWSAccessKeyID, now.AccessKeyID},
			{inputs.OutputAWSSecretAccessKey, now.SecretAccessKey},
			{inputs.OutputAWSSessionToken, now.SessionToken},
			{inputs.OutputAWSExpiration, ""},
		}
		if now.CanExpire {
			values[3].value = now.Expires.UTC().Format(time.RFC3339)
		}
		for _, v := range values {
			if v.value != "" {
				errs = append(errs, s.runner.SetOutput(v.name, v.value))
			}
		}
	}
	if c.OutputEnv {
		region := s.session.Config.Region
		for _, v := range []struct{ name, value string }{
			{"AWS_REGION", region},
			{"AWS_DEFAULT_REGION", region},
			{"AWS_ACCESS_KEY_ID", now.AccessKeyID},
			{"AWS_SECRET_ACCESS_KEY", now.SecretAccessKey},
			{"AWS_SESSION_TOKEN", now.SessionToken}, // empty to replace another's
		} {
			errs = append(errs, s.runner.SetEnv(v.name, v.value))
		}
	}
	return errors.Join(errs...)
}

// TimeoutError is the cause of a run that took longer than the input
// "action-timeout-s" allows.
type TimeoutError struct{ Limit time.Duration }

// Error names the limit.
func (t *TimeoutError) Error() string {
	return fmt.Sprintf("the step took longer than %d seconds, which is all that input \"action-timeout-s\" gives it", int(t.Limit/time.Second))
}
