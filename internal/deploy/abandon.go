package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// abandonment is that a deployment is given up from outside.
type abandonment struct {
	mu     sync.Mutex
	why    error
	cancel context.CancelCauseFunc
}

// ErrAbandoned is in the errors of what Abandon has ended.
var ErrAbandoned = errors.New("given up")

// abandonedError is the cause of a wait that Abandon ended.
type abandonedError struct{ why error }

// Error says why.
func (a *abandonedError) Error() string { return ErrAbandoned.Error() + ": " + a.why.Error() }

// Is says that it is ErrAbandoned.
func (a *abandonedError) Is(target error) bool { return target == ErrAbandoned }

// Abandon gives up the deployment that Deploy is about, now or later: one that is
// under way ends as if it had failed for that reason, and is rolled back with
// RollbackOnFailure; one that has not begun does not begin. Unlike the other
// methods it may be called while Deploy runs.
func (c *Client) Abandon(why error) {
	c.abandoned.mu.Lock()
	defer c.abandoned.mu.Unlock()
	c.abandoned.why = why
	if c.abandoned.cancel != nil {
		c.abandoned.cancel(&abandonedError{why})
	}
}

// whyAbandoned is nil unless Abandon was called.
func (c *Client) whyAbandoned() error {
	c.abandoned.mu.Lock()
	defer c.abandoned.mu.Unlock()
	if c.abandoned.why == nil {
		return nil
	}
	return &abandonedError{c.abandoned.why}
}

// waiting is a context for the wait: it ends with the options' limit, or when
// the deployment is given up.
func (c *Client) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := fmt.Errorf("service not stable after %s (input \"wait-for-minutes\")", span(c.opts.WaitLimit))
	limited, end := context.WithTimeoutCause(ctx, c.opts.WaitLimit, limit)
	waiting, cancel := context.WithCancelCause(limited)
	c.abandoned.mu.Lock()
	defer c.abandoned.mu.Unlock()
	c.abandoned.cancel = cancel
	if c.abandoned.why != nil {
		cancel(&abandonedError{c.abandoned.why})
	}
	return waiting, func() {
		c.abandoned.mu.Lock()
		c.abandoned.cancel = nil
		c.abandoned.mu.Unlock()
		cancel(nil)
		end()
	}
}

// waitedOut is the verdict when a wait of waiting has ended.
func waitedOut(waiting context.Context) verdict {
	cause := context.Cause(waiting)
	if _, given := errors.AsType[*abandonedError](cause); given {
		return verdict{status: StatusFailed, reason: cause.Error(), hopeless: true, abandoned: true}
	}
	return verdict{status: StatusTimedOut, reason: cause.Error()}
}

// Revert takes the service back from a deployment that Deploy has finished or
// left under way to what it ran before, and follows that as Deploy does. The
// outcome is the deployment's with StatusRolledBack, or as it was where there is
// nothing to take back or that cannot be done. What else of the service was
// updated stays as it is.
func (c *Client) Revert(ctx context.Context, out Outcome, why string) (Outcome, error) {
	c.abandoned.mu.Lock()
	c.abandoned.why = nil
	c.abandoned.mu.Unlock()
	c.opts.Update, c.reverting = Update{}, true
	switch out.Status {
	case StatusPaused:
		back, err := c.Resume(ctx, true)
		if err == nil {
			out.Status, out.Reason = back.Status, why
		}
		return out, err
	case StatusSucceeded, StatusStarted:
	default:
		return out, nil
	}
	op := "take service " + c.serviceName() + " back"
	s, err := c.describe(ctx)
	if err != nil {
		return out, c.apiProblem(op, "", "", err)
	}
	runs, previous := runsNow(s), out.PreviousARN
	switch {
	case runs == previous && previous != "":
		return out, nil // the deployment only replaced tasks
	case runs != out.TaskDefinitionARN:
		return out, &problem.Error{
			Op: op, Err: fmt.Errorf("meanwhile somebody has deployed %s to it", lastPart(runs)),
			Fix: "Look whether that is what it should run.",
		}
	case previous == "":
		return out, &problem.Error{
			Op: op, Err: errors.New("it has no earlier completed deployment to go back to"),
			Fix: "Deploy a task definition that is known to work: " + c.updateCommand("FAMILY:REVISION"),
		}
	}
	c.emit(RollingBack{Reason: why, To: previous})
	back, err := c.Deploy(ctx, previous)
	if known, ok := errors.AsType[*problem.Error](err); ok {
		known.Op = op
	}
	if err != nil {
		return out, err
	}
	out.Status, out.Reason = StatusRolledBack, why+"; rolled back to "+lastPart(previous)
	if back.Status == StatusStarted {
		out.Reason = why + "; its rollback to " + lastPart(previous) + " was begun and not waited for"
	}
	return out, nil
}

// runsNow is the task definition that the service runs or is being moved to.
func runsNow(s *ecstypes.Service) string {
	if byCodeDeploy(s) {
		if set := taskSet(s); set != nil {
			return aws.ToString(set.TaskDefinition)
		}
	}
	return aws.ToString(s.TaskDefinition)
}

// Holds says whether a service is still well some time after a deployment: it
// runs what was deployed, with all its tasks. What cannot be read now is not
// held against it.
func (c *Client) Holds(ctx context.Context, out Outcome) error {
	s, err := c.describe(ctx)
	if err != nil || out.Status != StatusSucceeded && out.Status != StatusUnchanged {
		return nil //nolint:nilerr // as documented
	}
	op := "watch service " + c.serviceName()
	if runs := runsNow(s); runs != out.TaskDefinitionARN {
		return &problem.Error{
			Op: op, Err: fmt.Errorf("since deployment %s ended, somebody has deployed %s", out.DeploymentID, lastPart(runs)),
			Fix: "Let only one deployment at a time run for the service: give the job a concurrency group.",
		}
	}
	now := primary(s)
	if now == nil || now.RunningCount >= now.DesiredCount || now.FailedTasks == 0 && s.PendingCount > 0 {
		return nil
	}
	return &problem.Error{
		Op: op, Err: fmt.Errorf("since deployment %s ended, tasks have stopped: %d of %s running, %d failed", out.DeploymentID,
			now.RunningCount, plural(int(now.DesiredCount), "task"), now.FailedTasks),
		Fix: "Look at the service's events and at the logs of its tasks: " + firstOf(out.ConsoleURL, c.describeCommand()),
	}
}
