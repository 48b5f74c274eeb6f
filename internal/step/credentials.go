package step

import (
	"context"
	"strings"

	"github.com/towline/towline/internal/awsauth"
	"github.com/towline/towline/internal/inputs"
)

// authenticate becomes the AWS role.
func (s *Step) authenticate(ctx context.Context) error {
	session, err := s.openSession(ctx)
	if err != nil {
		return err
	}
	s.session = session
	verb := "using"
	if strings.Contains(session.ARN, ":assumed-role/") {
		verb = "assumed"
	}
	s.report.Say(verb, session.ARN, "account "+session.Account, session.Config.Region)
	return s.output(map[string]string{inputs.OutputAWSAccountID: session.Account})
}

func (s *Step) openSession(ctx context.Context) (*awsauth.Session, error) {
	c := s.settings.Credentials
	opts := awsauth.Options{
		Region: c.AWSRegion, Role: c.RoleToAssume, SessionName: c.RoleSessionName, Duration: c.RoleDuration,
		Audience: c.Audience, AccessKeyID: c.AWSAccessKeyID, SecretAccessKey: c.AWSSecretAccessKey, SessionToken: c.AWSSessionToken,
		Getenv: s.opts.Getenv, Mask: s.runner.Mask, Transport: s.opts.Transport, Notice: func(text string) { s.report.Say("note", text) },
	}
	if s.runner.HasIDToken() {
		opts.IDToken = s.runner.IDToken
	}
	return awsauth.Open(ctx, opts)
}
