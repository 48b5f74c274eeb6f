package awsauth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/towline/towline/internal/problem"
)

// permission is what a job must be given to get ID tokens, and who gets none.
const permission = "Give the job `permissions: {id-token: write, contents: read}` (and, if it is in a reusable workflow, the calling job too); " +
	"pull requests from forks and Dependabot get no ID token"

// noIDToken explains that GitHub gave no token.
func noIDToken(o Options, err error) error {
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	return &problem.Error{
		Op: "get ID token", Input: "role-to-assume", Value: o.Role, Err: err, Fix: permission + ".",
	}
}

// noCredentials explains that neither keys nor surroundings have credentials.
func noCredentials(ctx context.Context, o Options, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("find AWS credentials: %w", context.Cause(ctx))
	}
	reason := strings.ReplaceAll(newFailure(err, o.secrets()...).Error(), "failed to refresh cached credentials, ", "")
	if strings.Contains(err.Error(), "no EC2 IMDS role found") {
		reason = "none in the environment, the container or the instance" // the last place where it looked says nothing of the others
	}
	const elsewhere = "aws-access-key-id and aws-secret-access-key, or run where the environment, the container or the EC2 instance has credentials"
	if o.Role != "" {
		return &problem.Error{
			Op: "assume role", Input: "role-to-assume", Value: o.Role,
			Err: fmt.Errorf("the job can get no ID token, and there are no AWS credentials to assume the role with: %s", reason),
			Fix: permission + ". Otherwise set " + elsewhere + ".",
		}
	}
	return &problem.Error{
		Op: "find AWS credentials", Input: "role-to-assume",
		Err: fmt.Errorf("neither a role nor keys are given, and there are no AWS credentials otherwise: %s", reason),
		Fix: "Set role-to-assume (and `permissions: {id-token: write, contents: read}` on the job), or " + elsewhere + ".",
	}
}

// refusedToken explains why an ID token did not give the role.
func refusedToken(o Options, role arn.ARN, err error) error {
	f, ok := err.(*failure) //nolint:errorlint // renewing has unwrapped it
	if !ok {
		return err
	}
	fault := &problem.Error{Op: "assume role", Input: "role-to-assume", Value: o.Role, Err: f}
	switch {
	case f.code == "AccessDenied":
		fault.Detail = f.claims.lines()
		fault.Fix = fmt.Sprintf("Check that role %s exists, and let its trust policy accept the token.", role)
		if f.claims.Subject != "" {
			fault.Fix = fmt.Sprintf("Check that role %s exists, and add to its trust policy a statement that lets this token in:\n%s",
				role, f.claims.statement(role))
		}
	case strings.Contains(f.message, "No OpenIDConnect provider found"):
		fault.Fix = fmt.Sprintf("Create the provider in account %s:\naws iam create-open-id-connect-provider --url https://%s --client-id-list %s",
			role.AccountID, f.claims.provider(), o.Audience)
	case strings.Contains(f.message, "Incorrect token audience"):
		fault.Input, fault.Value = "audience", o.Audience
		fault.Fix = fmt.Sprintf("Set audience to one that the provider in account %s knows, or add this one:\n"+
			"aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn %s --client-id %s",
			role.AccountID, f.claims.providerARN(role), o.Audience)
	case f.code == "InvalidIdentityToken" && f.verdict == passing, f.code == "IDPCommunicationError":
		fault.Fix = fmt.Sprintf("Run the job again: AWS could not fetch the keys of %s in %d tries.", f.claims.provider(), passingTries)
	case f.code == "InvalidIdentityToken", f.code == "IDPRejectedClaim":
		fault.Detail = f.claims.lines()
		fault.Fix = fmt.Sprintf("Compare the token with the identity provider %s.", f.claims.providerARN(role))
	case f.code == "ExpiredTokenException":
		fault.Fix = fmt.Sprintf("Check the runner's clock: new ID tokens were already too old, %d times.", doubtfulTries)
	default:
		common(o, fault, f)
	}
	return fault
}

// refusedKeys explains why keys, or what was found around, did not give the role.
func refusedKeys(o Options, role arn.ARN, err error) error {
	f, ok := err.(*failure) //nolint:errorlint // renewing has unwrapped it
	if !ok {
		return err
	}
	if f.isAboutKeys() {
		return badCredentials(o, "assume role", f, false)
	}
	fault := &problem.Error{Op: "assume role", Input: "role-to-assume", Value: o.Role, Err: f}
	if f.code == "AccessDenied" {
		fault.Fix = fmt.Sprintf("Check that role %s exists, name the caller as a principal in its trust policy, and allow the caller sts:AssumeRole on it.", role)
		return fault
	}
	common(o, fault, f)
	return fault
}

// common explains what has nothing to do with how the role is asked for.
func common(o Options, fault *problem.Error, f *failure) {
	switch {
	case strings.Contains(f.message, "MaxSessionDuration"), strings.Contains(f.message, "DurationSeconds"):
		fault.Input, fault.Value = "role-duration-seconds", seconds(o.Duration)
		fault.Fix = "Lower it to what the role allows: sessions are renewed, however long the job takes."
	case f.code == "RegionDisabledException":
		fault.Input, fault.Value = "aws-region", o.Region
		fault.Fix = "Enable the region, and STS in it, in the account's settings, or use another one."
	case f.status == 0:
		fault.Input, fault.Value = "aws-region", o.Region
		fault.Fix = "Check that the region exists and that the runner can reach its STS endpoint."
	case f.verdict == passing:
		fault.Fix = "Run the job again: AWS STS was too busy or out of order for more than a minute."
	default:
		fault.Fix = "Check role-to-assume, aws-region and the credentials by what AWS says."
	}
}

// isAboutKeys tells that the request's signature was refused, not its content.
func (f *failure) isAboutKeys() bool {
	switch f.code {
	case "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException",
		"UnrecognizedClientException", "IncompleteSignature", "InvalidAccessKeyId":
		return true
	}
	return false
}

// badCredentials explains that AWS does not take the credentials themselves.
// assumed tells that a role has given them.
func badCredentials(o Options, op string, f *failure, assumed bool) error {
	fault := &problem.Error{Op: op, Err: f}
	switch {
	case assumed, !f.isAboutKeys():
		common(o, fault, f)
	case o.AccessKeyID == "":
		fault.Fix = "Renew the credentials that the step's environment, container or instance holds."
	case strings.HasPrefix(f.code, "ExpiredToken"):
		fault.Input, fault.Fix = "aws-session-token", "Get new temporary keys, or use role-to-assume, whose sessions are renewed."
	case f.code == "SignatureDoesNotMatch":
		fault.Input, fault.Fix = "aws-secret-access-key", "Check that it belongs to aws-access-key-id and has no blanks around it."
	default:
		fault.Input, fault.Fix = "aws-access-key-id", "Check that the key exists and is active, and that a temporary key comes with its aws-session-token."
	}
	return fault
}
