package deploy

import (
	"context"
	"errors"
	"fmt"

	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"github.com/towline/towline/internal/problem"
)

// parted is the end when the caller's context has ended: the user learns what
// goes on, and how to stop it. Where that is wanted, a rollback is asked for,
// which nobody waits for.
func (f *follower) parted(ctx context.Context) (Outcome, error) {
	c, d, cause := f.c, f.d, context.Cause(ctx)
	var asked error
	if c.opts.RollbackOnCancel && !f.rolling {
		asked = f.askRollback(ctx)
	}
	reason := "no longer watched: " + cause.Error()
	what, fix := "deployment "+d.id+" goes on", "To stop it: "+c.stopCommand(d)
	look := "Look at its end: " + firstOf(c.consoleURL(d.serviceARN, d.arn), c.describeCommand())
	refused, over := errors.AsType[*ecstypes.ConflictException](asked)
	switch {
	case over: // it has ended, or turned back, since the last look
		what, fix = "deployment "+d.id+" can no longer be rolled back ("+refused.ErrorMessage()+")", look
		reason += "; its rollback was refused: " + refused.ErrorMessage()
	case asked != nil:
		what += " (its rollback could not be asked for: " + said(asked) + ")"
		reason += "; its rollback could not be asked for"
	case f.rolling:
		what, fix = "the rollback of deployment "+d.id+" goes on", look
		reason += "; its rollback goes on"
	case c.opts.RollbackOnCancel:
		what, fix = "the rollback of deployment "+d.id+" was asked for and goes on", look
		reason += "; its rollback was asked for"
	case f.asked:
		what += ", or its rollback, which was being asked for,"
	}
	return d.outcome(c, StatusStarted, reason), &problem.Error{
		Op:  "wait for service " + c.serviceName(),
		Err: fmt.Errorf("%s in cluster %s: %w", what, c.clusterName(), cause),
		Fix: fix,
	}
}

// askRollback asks for a rollback when no time is left to watch it: by
// stopping the deployment, or by an update to what the service ran before.
func (f *follower) askRollback(ctx context.Context) error {
	last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 3*parting, errors.New("no time left"))
	defer cancel()
	within := func(do func(context.Context) error) error {
		if err := do(last); err != nil {
			if last.Err() != nil {
				return context.Cause(last)
			}
			return err
		}
		return nil
	}
	if f.d.arn == "" {
		_ = within(func(ctx context.Context) error {
			s := f.service
			if s == nil {
				var err error
				if s, err = f.c.describe(ctx); err != nil {
					return err
				}
			}
			_, err := f.state(ctx, s) // finds the ARN if it can
			return err
		})
	}
	stopped := false
	err := within(func(ctx context.Context) (err error) {
		stopped, err = f.stop(ctx)
		return err
	})
	if err != nil || stopped {
		return err
	}
	return within(func(ctx context.Context) error {
		_, err := f.goBack(ctx)
		return err
	})
}

// said is a refusal in the service's own words, without the SDK's before them.
func said(err error) string {
	if refusal, ok := errors.AsType[smithy.APIError](err); ok {
		return refusal.ErrorCode() + ": " + refusal.ErrorMessage()
	}
	return firstLine(err)
}
