package awsauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/problem"
)

const (
	opFind         = "find AWS credentials"
	inputTokenFile = "web-identity-token-file"
	inputRegion    = "aws-region"

	codeDenied         = "AccessDenied"
	codeInvalidToken   = "InvalidIdentityToken"
	codeExpiredToken   = "ExpiredTokenException"
	codePackedTooLarge = "PackedPolicyTooLarge"
)

// permission is what a job must be given to get ID tokens, and who gets none.
const permission = "Give the job `permissions: {id-token: write, contents: read}` (and, if it is in a reusable workflow, the calling job too); " +
	"pull requests from forks and Dependabot get no ID token."

// noIDToken explains that GitHub gave no token.
func noIDToken(o Options, to target, err error) error {
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	return &problem.Error{Op: "get ID token", Input: inputRole, Value: to.given, Err: err, Fix: o.permission()}
}

// permission is how the job gets ID tokens, as whoever looked for them knows it.
func (o Options) permission() string {
	if known, ok := errors.AsType[*problem.Error](o.NoIDToken); ok {
		return known.Fix
	}
	return permission
}

// noCredentials explains that neither keys nor surroundings have credentials.
func noCredentials(ctx context.Context, o Options, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", opFind, context.Cause(ctx))
	}
	if known, ok := errors.AsType[*problem.Error](err); ok {
		return known
	}
	reason := strings.ReplaceAll(newFailure(err, o.secrets()...).Error(), "failed to refresh cached credentials, ", "")
	elsewhere := "aws-access-key-id and aws-secret-access-key, or run where the environment, the container or the EC2 instance has credentials"
	if strings.Contains(err.Error(), "no EC2 IMDS role found") {
		reason = "none in the environment, the container or the instance" // the last place where it looked says nothing of the others
		if !o.onGitHub() {
			elsewhere += " (whose metadata a container reaches only with a hop limit of 2)"
		}
	}
	role, between := strings.Join(o.Roles, ", "), " "
	if strings.Contains(o.permission(), "\n") { // it ends in a snippet
		between = "\n\n"
	}
	switch {
	case o.UseExisting:
		return &problem.Error{
			Op: opFind, Input: "use-existing-credentials", Value: "true", Err: errors.New(reason),
			Fix: "Give the step credentials in its environment (env: AWS_ACCESS_KEY_ID and so on, as an earlier step exports them), or remove use-existing-credentials.",
		}
	case o.FromExisting:
		return &problem.Error{
			Op: opAssume, Input: "role-chaining", Value: "true",
			Err: fmt.Errorf("there are no AWS credentials to assume %s with: %s", role, reason),
			Fix: "Give the step credentials in its environment, as an earlier step exports them, or remove role-chaining and name the first role in role-to-assume too, on a line above.",
		}
	case role != "":
		return &problem.Error{
			Op: opAssume, Input: inputRole, Value: role,
			Err: fmt.Errorf("the job can get no ID token, and there are no AWS credentials to assume the role with: %s", reason),
			Fix: o.permission() + between + "Otherwise set " + elsewhere + ".",
		}
	}
	return &problem.Error{
		Op: opFind, Input: inputRole,
		Err: fmt.Errorf("neither a role nor keys are given, and there are no AWS credentials otherwise: %s", reason),
		Fix: "Set role-to-assume (and `permissions: {id-token: write, contents: read}` on the job), or " + elsewhere + ".",
	}
}

// refusedToken explains why an ID token did not give the role.
func refusedToken(o Options, to target, err error) error {
	f, ok := err.(*failure) //nolint:errorlint // renewing has unwrapped it
	if !ok {
		return err
	}
	fault := &problem.Error{Op: opAssume, Input: inputRole, Value: to.given, Err: f}
	provider := f.claims.provider()
	switch {
	case f.code == codeDenied:
		fault.Detail = f.claims.lines()
		fault.Fix = fmt.Sprintf("Check that role %s exists, and let its trust policy accept the token.", to.role)
		if f.claims.Subject != "" {
			fault.Fix = fmt.Sprintf("Check that role %s exists, and add to its trust policy a statement that lets this token in:\n%s",
				to.role, f.claims.statement(to.role))
		}
	case strings.Contains(f.message, "No OpenIDConnect provider found"):
		fault.Fix = fmt.Sprintf("Create the provider in account %s:\naws iam create-open-id-connect-provider --url https://%s --client-id-list %s",
			to.role.AccountID, provider, o.Audience)
	case strings.Contains(f.message, "Incorrect token audience"):
		wrongAudience(o, to, fault, f)
	case f.code == codeInvalidToken && f.verdict == passing, f.code == "IDPCommunicationError":
		fault.Fix = fmt.Sprintf("Run the job again: AWS could not fetch the keys of %s in %d tries.", provider, o.Attempts)
	case f.code == codeExpiredToken, f.code == codeInvalidToken && f.claims.validity(f.at) != "":
		untimely(o, fault, f)
	case f.code == codeInvalidToken, f.code == "IDPRejectedClaim":
		fault.Detail = f.claims.lines()
		fault.Fix = fmt.Sprintf("Compare the token with the identity provider %s.", f.claims.providerARN(to.role))
	default:
		common(o, fault, f)
	}
	return fault
}

func wrongAudience(o Options, to target, fault *problem.Error, f *failure) {
	fault.Input, fault.Value = "audience", o.Audience
	const addTo = "aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn %s --client-id %s"
	if o.TokenFile != "" {
		fault.Input, fault.Value, fault.Detail = inputTokenFile, o.TokenFile, f.claims.lines()
		fault.Fix = fmt.Sprintf("Get the token for an audience that the provider in account %s knows, or add this one:\n"+addTo,
			to.role.AccountID, f.claims.providerARN(to.role), f.claims.Audience)
		return
	}
	fault.Fix = fmt.Sprintf("Set audience to one that the provider in account %s knows, or add this one:\n"+addTo,
		to.role.AccountID, f.claims.providerARN(to.role), o.Audience)
}

// untimely explains a token that came too late, or too early. Only the clocks of
// its issuer and of AWS count.
func untimely(o Options, fault *problem.Error, f *failure) {
	if when := f.claims.validity(f.at); when != "" {
		fault.Detail = []string{when}
	}
	if o.TokenFile != "" {
		fault.Input, fault.Value = inputTokenFile, o.TokenFile
		fault.Fix = "Write a new token into the file shortly before this step, and again if the step takes longer than role-duration-seconds."
		return
	}
	if f.claims.provider() == gitHubIssuer {
		fault.Fix = "Run the job again; see https://www.githubstatus.com when it goes on: GitHub's new ID tokens are out of their time by AWS's clock. The runner's own clock plays no part in it."
		return
	}
	fault.Fix = fmt.Sprintf("Correct the clock of %s: its new ID tokens are out of their time by AWS's clock. The runner's own clock plays no part in it.", f.claims.provider())
}

// refusedKeys explains why keys, or what was found around, did not give the role.
func refusedKeys(o Options, to target, err error) error {
	f, ok := err.(*failure) //nolint:errorlint // renewing has unwrapped it
	if !ok {
		return err
	}
	if f.isAboutKeys() {
		return badCredentials(o, opAssume, f)
	}
	fault := &problem.Error{Op: opAssume, Input: inputRole, Value: to.given, Err: f}
	switch {
	case f.code == codeDenied && strings.Contains(f.message, "sts:TagSession"):
		fault.Fix = fmt.Sprintf("Allow sts:TagSession beside sts:AssumeRole in the trust policy of %s, and in the caller's own policy; or set role-skip-session-tagging: true.", to.role)
	case f.code == codeDenied && strings.Contains(f.message, "explicit deny"):
		common(o, fault, f)
	case f.code == codeDenied:
		external := "If its trust policy asks for an sts:ExternalId, set role-external-id."
		if o.ExternalID != "" {
			external = "If its trust policy asks for an sts:ExternalId, compare it with role-external-id."
		}
		fault.Fix = fmt.Sprintf("Check that role %s exists, name the caller as a principal in its trust policy, and allow the caller sts:AssumeRole on it. %s", to.role, external)
	case strings.Contains(f.message, "transitive tag key"):
		fault.Input, fault.Value = "role-skip-session-tagging", ""
		fault.Fix = "Set it to true: the credentials that are there pass session tags on already, under the same names. Or take those names out of custom-tags."
	default:
		common(o, fault, f)
	}
	return fault
}

// common explains what has nothing to do with how the role is asked for.
func common(o Options, fault *problem.Error, f *failure) {
	switch {
	case f.code == codeDenied:
		fault.Fix = "Ask who administers the AWS organization or the role's permissions boundary: its own policies cannot lift an explicit deny."
	case strings.Contains(f.message, "MaxSessionDuration"), strings.Contains(f.message, "DurationSeconds"), strings.Contains(f.message, "durationSeconds"):
		fault.Input, fault.Value = "role-duration-seconds", seconds(o.Duration)
		fault.Fix = "Lower it to what the role allows: sessions are renewed, however long the job takes."
	case f.code == "MalformedPolicyDocument":
		fault.Input, fault.Value = cmp.Or(o.policyInput(), "inline-session-policy"), ""
		fault.Fix = "Correct the policy, or the ARNs of the managed ones, by what AWS says of them."
	case f.code == codePackedTooLarge:
		fault.Input, fault.Value = cmp.Or(o.policyInput(), "custom-tags"), ""
		fault.Fix = "Shorten inline-session-policy, or give fewer managed-session-policies and custom-tags: AWS counts them together. Tags that are not essential were left out already."
	case f.code == "RegionDisabledException":
		fault.Input, fault.Value = inputRegion, o.Region
		fault.Fix = "Enable the region, and STS in it, in the account's settings, or use another one."
	case f.status == 0:
		unreached(o, fault, f)
	case f.isSkewed():
		fault.Input, fault.Value = "", ""
		fault.Fix = "Set the runner's clock by NTP" + f.skew() + "."
	case f.verdict == passing:
		fault.Fix = "Run the job again: AWS STS was too busy or out of order for more than a minute."
		if o.Attempts < passingTries {
			fault.Fix = fmt.Sprintf("Run the job again, or allow more tries: %d was the most (inputs disable-retry and retry-max-attempts).", o.Attempts)
		}
	case o.Endpoint != "" && f.code == "":
		fault.Input, fault.Value, fault.Fix = "sts-endpoint", o.Endpoint, "Check that this is the address of an STS."
	default:
		fault.Fix = "Check role-to-assume, aws-region and the credentials by what AWS says."
	}
}

// unreached explains that there was no answer.
func unreached(o Options, fault *problem.Error, f *failure) {
	switch {
	case strings.Contains(f.words, "proxyconnect"):
		fault.Input, fault.Value = "http-proxy", ""
		fault.Fix = "Check the proxy's address (http-proxy, or HTTPS_PROXY in the environment), and that it lets requests to STS through; or name the hosts that need no proxy in no-proxy."
	case o.Endpoint != "":
		fault.Input, fault.Value = "sts-endpoint", o.Endpoint
		fault.Fix = "Check the address, and that the runner can reach it."
	default:
		fault.Input, fault.Value = inputRegion, o.Region
		fault.Fix = "Check that the region exists and that the runner can reach its STS endpoint."
	}
}

// skew tells by how much the clock is off, if the answer's time is known.
func (f *failure) skew() string {
	if f.at.IsZero() {
		return ""
	}
	off := int(time.Since(f.at).Round(time.Minute) / time.Minute) // AWS bears five
	if off < 0 {
		return fmt.Sprintf(": it is %d minutes behind AWS's", -off)
	}
	return fmt.Sprintf(": it is %d minutes ahead of AWS's", off)
}

// policyInput is the input that a session policy came from, or empty.
func (o Options) policyInput() string {
	switch {
	case o.Policy != "":
		return "inline-session-policy"
	case len(o.PolicyARNs) > 0:
		return "managed-session-policies"
	}
	return ""
}

// isAboutKeys tells that the request's signature was refused, not its content.
func (f *failure) isAboutKeys() bool {
	switch f.code {
	case "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", codeExpiredToken,
		"UnrecognizedClientException", "IncompleteSignature", "InvalidAccessKeyId":
		return !f.isSkewed()
	}
	return false
}

// badCredentials explains that AWS does not take the credentials themselves.
func badCredentials(o Options, op string, f *failure) error {
	fault := &problem.Error{Op: op, Err: f}
	switch {
	case !f.isAboutKeys():
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
