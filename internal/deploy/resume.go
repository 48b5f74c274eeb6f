package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// Resume decides about the service's deployment that is paused or under way,
// which an earlier run started: it goes on, or with back it is rolled back.
// With Wait it is then followed as Deploy does; StatusRolledBack is no error
// where it was asked for.
func (c *Client) Resume(ctx context.Context, back bool) (Outcome, error) {
	s, err := c.usable(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if byCodeDeploy(s) {
		return c.resumeCodeDeploy(ctx, s, back)
	}
	f, state, err := c.underWay(ctx, s)
	if err != nil {
		return Outcome{}, err
	}
	c.started(f.d)
	if err = f.decide(ctx, state, back); err != nil {
		if ctx.Err() != nil {
			return f.parted(ctx)
		}
		out := f.d.outcome(c, StatusStarted, "not decided: "+firstLine(err))
		return out, c.apiProblem(f.deciding(back), "", "", err)
	}
	var out Outcome
	if back {
		out, err = f.seeBack(ctx)
	} else {
		out, err = c.conclude(ctx, f.d)
	}
	c.emit(Done{Outcome: out})
	return out, err
}

func (f *follower) deciding(back bool) string {
	if back {
		return "roll back deployment " + f.d.id
	}
	return "continue deployment " + f.d.id
}

// underWay finds the service's deployment that is not over.
func (c *Client) underWay(ctx context.Context, s *ecstypes.Service) (*follower, *ecstypes.ServiceDeployment, error) {
	d := &deployment{
		serviceARN: aws.ToString(s.ServiceArn), previous: stable(s), desired: int(s.DesiredCount), breaker: c.breakerOf(s),
		joined: true, watched: time.Now(), before: map[string]bool{}, events: map[string]bool{}, since: time.Now(),
	}
	if now := primary(s); now != nil {
		d.take(s, now)
		d.taskDefinition, d.failedBefore = aws.ToString(now.TaskDefinition), int(now.FailedTasks)
	}
	for _, e := range s.Events {
		d.events[aws.ToString(e.Id)] = true
	}
	in := &ecs.ListServiceDeploymentsInput{Service: aws.String(c.opts.Service), Status: []ecstypes.ServiceDeploymentStatus{
		ecstypes.ServiceDeploymentStatusPending, ecstypes.ServiceDeploymentStatusInProgress,
		ecstypes.ServiceDeploymentStatusRollbackRequested, ecstypes.ServiceDeploymentStatusRollbackInProgress,
	}}
	if c.cluster != "" {
		in.Cluster = aws.String(c.cluster)
	}
	const op = "find the service's deployment"
	listed, err := c.ecs.ListServiceDeployments(ctx, in)
	if err != nil {
		return nil, nil, c.apiProblem(op, "service", c.opts.Service, err)
	}
	if len(listed.ServiceDeployments) == 0 {
		return nil, nil, &problem.Error{
			Op: op, Input: "service", Value: c.opts.Service, Err: errors.New("no deployment of the service is paused or under way"),
			Fix: "Look at its deployments: " + firstOf(c.consoleURL(d.serviceARN, ""), c.describeCommand()),
		}
	}
	d.arn = aws.ToString(listed.ServiceDeployments[0].ServiceDeploymentArn)
	state, err := c.serviceDeployment(ctx, d.arn)
	if err == nil && state == nil {
		err = fmt.Errorf("service deployment %s cannot be read", d.arn)
	}
	if err != nil {
		return nil, nil, c.apiProblem(op, "", "", err)
	}
	f := newFollower(c, d)
	f.service = s
	return f, state, nil
}

// decide continues the deployment or asks for its rollback. What was decided
// already, by a request whose answer was lost or by somebody else, is followed.
func (f *follower) decide(ctx context.Context, state *ecstypes.ServiceDeployment, back bool) error {
	hook := held(state)
	switch {
	case state.Status == ecstypes.ServiceDeploymentStatusRollbackRequested, state.Status == ecstypes.ServiceDeploymentStatusRollbackInProgress:
		f.rolling = true
		return nil
	case hook == nil && back:
		f.asked = true
		_, err := f.c.ecs.StopServiceDeployment(ctx, &ecs.StopServiceDeploymentInput{
			ServiceDeploymentArn: aws.String(f.d.arn), StopType: ecstypes.StopServiceDeploymentStopTypeRollback,
		})
		f.rolling = err == nil
		return err
	case hook == nil:
		f.c.emit(Notice{Message: fmt.Sprintf("deployment %s is not paused (any more): it is followed as it goes on", f.d.id)})
		return nil
	}
	action := ecstypes.DeploymentLifecycleHookActionContinue
	if back {
		action, f.asked = ecstypes.DeploymentLifecycleHookActionRollback, true
	}
	_, err := f.c.ecs.ContinueServiceDeployment(ctx, &ecs.ContinueServiceDeploymentInput{
		ServiceDeploymentArn: aws.String(f.d.arn), HookId: hook.HookId, Action: action,
	}, onlyThrottling)
	if err == nil {
		f.rolling = back
		return nil
	}
	if isDenied(err) || ctx.Err() != nil {
		return err
	}
	now, lookErr := f.c.serviceDeployment(ctx, f.d.arn)
	if lookErr != nil || now == nil {
		return errors.Join(err, lookErr)
	}
	if h := held(now); h != nil && aws.ToString(h.HookId) == aws.ToString(hook.HookId) {
		return err // it still waits
	}
	return nil
}

// seeBack follows a rollback that was asked for.
func (f *follower) seeBack(ctx context.Context) (Outcome, error) {
	c, d := f.c, f.d
	if !c.opts.Wait {
		return d.outcome(c, StatusStarted, `not waited for (input "wait-for-service-stability" is false)`), nil
	}
	f.announce("asked for by the input \"rollback-deployment\"", false)
	v, err := c.await(ctx, f)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return f.parted(ctx)
	default:
		return d.outcome(c, StatusStarted, "no longer watched: "+firstLine(err)), c.lost(d, err)
	}
	switch v.status {
	case StatusRolledBack:
		return d.outcome(c, StatusRolledBack, "as asked for"), nil
	case StatusSucceeded:
		return d.outcome(c, StatusSucceeded, "it was completed before it could be rolled back"), &problem.Error{
			Op: f.deciding(true), Err: errors.New("it was completed before it could be rolled back"),
			Fix: "Deploy the former task definition: " + c.updateCommand(firstOf(d.previous, "FAMILY:REVISION")),
		}
	default:
	}
	why := f.explain(ctx, v)
	return d.outcome(c, v.status, reason(v, why)), f.problem(v, why)
}
