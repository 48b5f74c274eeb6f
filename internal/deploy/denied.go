package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/towline/towline/internal/problem"
)

// isDenied says whether err is the refusal of a missing permission.
func isDenied(err error) bool {
	var said smithy.APIError
	if ofCredentials(err) || !errors.As(err, &said) {
		return false
	}
	return strings.HasPrefix(said.ErrorCode(), "AccessDenied") || said.ErrorCode() == "UnauthorizedOperation" ||
		strings.Contains(said.ErrorMessage(), "is not authorized to perform")
}

// ofCredentials says whether the call was never made because no credentials
// could be had for it: then what is in err is another service's answer.
func ofCredentials(err error) bool {
	if _, explained := errors.AsType[*problem.Error](err); explained {
		return true
	}
	outer, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return false
	}
	_, inner := errors.AsType[*smithy.OperationError](outer.Unwrap())
	return inner
}

// isPassing says whether trying again may help: the network, throttling or a
// fault of the service itself.
func isPassing(err error) bool {
	var said smithy.APIError
	if ofCredentials(err) {
		return false // whoever gets them has tried again already
	}
	if !errors.As(err, &said) {
		return true // no answer at all, or none that could be read
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && (answer.HTTPStatusCode() >= http.StatusInternalServerError || answer.HTTPStatusCode() == http.StatusTooManyRequests) {
		return true
	}
	return said.ErrorFault() == smithy.FaultServer || isThrottled(err)
}

// isThrottled says whether ECS refused a call before looking at it.
func isThrottled(err error) bool {
	var said smithy.APIError
	if !errors.As(err, &said) {
		return false
	}
	switch said.ErrorCode() {
	case "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
		"RequestThrottled", "RequestThrottledException", "RequestLimitExceeded":
		return true
	}
	return false
}

// apiProblem explains a failed call: above all, which permission is missing.
func (c *Client) apiProblem(op, input, value string, err error) error {
	e := &problem.Error{Op: op, Input: input, Value: value, Err: err}
	var said smithy.APIError
	inner, explained := errors.AsType[*problem.Error](err)
	switch {
	case explained:
		e.Fix = inner.Fix
	case isDenied(err):
		e.Fix = permission(err)
	case errors.As(err, &said) && strings.Contains(said.ErrorCode(), "Expired"):
		e.Fix = "Give the role a longer session, or let it be assumed with an ID token, which is renewed."
	case errors.As(err, &said) && (said.ErrorCode() == "UnrecognizedClientException" || said.ErrorCode() == "InvalidSignatureException"):
		e.Fix = fmt.Sprintf("Check the credentials and the region (%s).", c.opts.Config.Region)
	case isThrottled(err):
		e.Fix = "Run the job again: the API's rate is shared by everything in the account and region."
	case isPassing(err):
		e.Fix = "Run the job again; if it persists, check the network and the state of ECS in the region."
	}
	return e
}

// permission says what to add to the role's policy.
func permission(err error) string {
	action, resource := deniedAction(err)
	switch action {
	case "":
		return "Allow the action in the policy of the role that runs the deployment."
	case "iam:PassRole":
		return fmt.Sprintf("Allow iam:PassRole on %s with the condition iam:PassedToService = ecs-tasks.amazonaws.com in the policy of the role that runs the deployment.", resource)
	case "ecs:TagResource":
		return fmt.Sprintf("Allow ecs:TagResource on %s with the condition ecs:CreateAction = RegisterTaskDefinition in the policy of the role that runs the deployment: the task definition has tags.", resource)
	default:
		return fmt.Sprintf("Allow %s on %s in the policy of the role that runs the deployment.", action, resource)
	}
}

// deniedAction finds the action and the resource in the text of a refusal:
// "User: ... is not authorized to perform: ACTION on resource: ARN because ...".
func deniedAction(err error) (action, resource string) {
	var said smithy.APIError
	if !errors.As(err, &said) {
		return "", ""
	}
	found := regexp.MustCompile(`not authorized to perform: ([\w-]+:\w+)(?: on resource: (\S+))?`).FindStringSubmatch(said.ErrorMessage())
	if found == nil {
		return "", ""
	}
	action, resource = found[1], strings.TrimRight(found[2], ".,")
	if resource == "" {
		resource = "*"
	}
	return action, resource
}

// mostFaults is how many calls in a row, each tried several times, a wanted
// action may answer with a fault of the service while the needed ones work.
const mostFaults = 2

// isFault says whether the service failed: with a status of 500 and above, or
// an answer that is none of AWS's.
func isFault(err error) bool {
	var answer *awshttp.ResponseError
	return !ofCredentials(err) && !isThrottled(err) && errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusInternalServerError
}

// spare makes a call that is wanted, not needed. Where it is not allowed, or
// this endpoint does not know it or always fails at it, that is told by one
// Notice for each action, it is never made again, and ok is false. err is any
// other failure.
func (c *Client) spare(ctx context.Context, action, loss string, call func() error) (ok bool, err error) {
	if c.denied[action] {
		return false, nil
	}
	err = call()
	switch {
	case err == nil:
		delete(c.failing, action)
		return true, nil
	case ctx.Err() != nil:
		return false, err
	case isFault(err):
		if c.failing[action]++; c.failing[action] < mostFaults {
			return false, err
		}
		c.emit(Notice{Message: fmt.Sprintf("%s does not work here: %s. %s", action, loss, firstLine(err))})
	case isDenied(err):
		c.emit(Notice{Message: fmt.Sprintf("%s is not allowed: %s. %s", action, loss, permission(err))})
	case isUnknown(err):
		c.emit(Notice{Message: fmt.Sprintf("%s is not known here: %s.", action, loss)})
	default:
		return false, err
	}
	c.denied[action] = true
	return false, nil
}

// isUnknown says whether the endpoint does not know the call at all.
func isUnknown(err error) bool {
	var said smithy.APIError
	if !errors.As(err, &said) {
		return false
	}
	switch said.ErrorCode() {
	case "UnknownOperationException", "UnsupportedFeatureException", "InvalidAction", "NotImplemented":
		return true
	}
	return false
}
