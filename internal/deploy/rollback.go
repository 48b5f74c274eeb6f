package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// rollBack takes the service back after a bad verdict, where that is wanted
// and ECS has not done it, and follows that to its end. It gives the verdict
// with what came of it.
func (f *follower) rollBack(ctx context.Context, v verdict) verdict {
	switch {
	case v.status != StatusTimedOut && v.status != StatusFailed, v.noWayBack, f.c.reverting:
		return v
	case v.status == StatusTimedOut && f.rolling:
		return f.awaitRollback(ctx, f, v) // ECS is at it, or somebody asked for it
	case f.d.scaling:
		v.sequel = "not rolled back: the task definition is the one that ran before"
		return v
	case !f.c.opts.RollbackOnFailure:
		v.sequel = `not rolled back (input "rollback-on-failure" is false)`
		return v
	}
	f.announce(v.reason, false)
	f.asked = true
	if f.stopsWithRollback(ctx, v) {
		f.rolling = true
		end := f.awaitRollback(ctx, f, v)
		if !end.noWayBack || ctx.Err() != nil {
			return end
		}
	}
	if last, err := within(ctx, f.look); err == nil && last.status == StatusSucceeded {
		return last // it has succeeded since
	}
	back, err := f.goBack(ctx)
	if errors.Is(err, errCompleted) {
		return verdict{status: StatusSucceeded}
	}
	if err != nil {
		v.sequel = "not rolled back: " + firstLine(err)
		return v
	}
	return f.awaitRollback(ctx, back, v)
}

// stopsWithRollback asks ECS to stop the deployment and return to the last
// revision that was successful. It says whether ECS agreed.
func (f *follower) stopsWithRollback(ctx context.Context, v verdict) bool {
	if !v.hopeless && v.status != StatusTimedOut {
		return false // ECS has ended it itself: nothing is left to stop
	}
	if f.d.arn == "" {
		if s, err := f.c.describe(ctx); err == nil {
			_, _ = f.state(ctx, s) // finds the ARN if it can
		}
	}
	if f.d.arn == "" {
		return false
	}
	ok, err := f.stop(ctx)
	if err != nil && ctx.Err() == nil {
		f.c.emit(Notice{Message: "ECS does not stop the deployment: " + firstLine(err)})
	}
	return ok
}

// stop asks ECS to stop our service deployment and roll it back. It is not ok
// where that may not be asked, or the service deployment is not known.
func (f *follower) stop(ctx context.Context) (ok bool, err error) {
	if f.d.arn == "" {
		return false, nil
	}
	f.asked = true
	return f.c.spare(ctx, "ecs:StopServiceDeployment", "the rollback updates the service to its previous task definition instead", func() error {
		_, err := f.c.ecs.StopServiceDeployment(ctx, &ecs.StopServiceDeploymentInput{
			ServiceDeploymentArn: aws.String(f.d.arn), StopType: ecstypes.StopServiceDeploymentStopTypeRollback,
		})
		return err
	})
}

// errCompleted says that there is nothing to go back from.
var errCompleted = errors.New("the deployment has been completed")

// goBack updates the service to what it last ran well, unless somebody else
// has updated it since.
func (f *follower) goBack(ctx context.Context) (*follower, error) {
	d := f.d
	if d.previous == "" || d.previous == d.taskDefinition {
		return nil, errors.New("the service has no earlier completed deployment to go back to")
	}
	now, err := f.c.describe(ctx)
	if err != nil {
		return nil, err
	}
	if p := primary(now); p != nil && aws.ToString(p.Id) != d.id {
		return nil, errors.New("meanwhile " + replacedBy(p))
	} else if p != nil && p.RolloutState == ecstypes.DeploymentRolloutStateCompleted {
		return nil, errCompleted // between two looks
	}
	back := &deployment{
		serviceARN: d.serviceARN, taskDefinition: d.previous, previous: d.taskDefinition,
		breaker: d.breaker, before: d.before, events: d.events,
	}
	in := &ecs.UpdateServiceInput{Service: aws.String(f.c.opts.Service), TaskDefinition: aws.String(d.previous)}
	if f.c.cluster != "" {
		in.Cluster = aws.String(f.c.cluster)
	}
	if d.arn != "" {
		back.before[d.arn] = true
	}
	after, err := f.c.update(ctx, back, now, in)
	if err != nil {
		return nil, err
	}
	p := primary(after)
	if p == nil || aws.ToString(p.Id) == d.id {
		return nil, errors.New("ECS has begun no deployment of " + lastPart(d.previous))
	}
	back.take(after, p)
	f.rolling = true
	follower := newFollower(f.c, back)
	follower.back = true
	return follower, nil
}

// awaitRollback follows a rollback that was begun, whether f's own deployment
// is rolling back or back is a deployment of the previous task definition.
func (f *follower) awaitRollback(ctx context.Context, back *follower, v verdict) verdict {
	waiting, cancel := context.WithTimeoutCause(ctx, rollbackWait, fmt.Errorf("not finished after %s", span(rollbackWait)))
	defer cancel()
	end, err := back.follow(waiting)
	switch {
	case err != nil:
		v.sequel = "the rollback is under way, its end was not seen: " + firstLine(err)
	case end.status == StatusRolledBack, end.status == StatusSucceeded && back.back:
		v.status = StatusRolledBack
		v.sequel = "rolled back"
		if f.d.previous != "" {
			v.sequel += " to " + lastPart(f.d.previous)
		}
	case end.status == StatusSucceeded:
		// The deployment was completed before ECS heard of the rollback.
		return end
	default:
		v.sequel = "the rollback did not succeed: " + firstOf(end.reason, string(end.status))
		v.noWayBack = end.noWayBack
	}
	return v
}
