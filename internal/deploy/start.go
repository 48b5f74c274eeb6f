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

// deployment is what is followed.
type deployment struct {
	id             string // ecs-svc/N, from UpdateService's answer
	arn            string // the service deployment's, once found
	serviceARN     string
	taskDefinition string
	previous       string // where a rollback ends, or empty
	since          time.Time
	desired        int
	breaker        breaker
	joined         bool // found under way, not started by us
	// watched and failedBefore: since when we watch a joined deployment, and
	// how many of its tasks had failed by then. Those do not count: what made
	// them fail may have been put right since.
	watched      time.Time
	failedBefore int
	unchanged    bool // already there, completed
	settings     bool // other settings of the service were sent
	scaling      bool // completed before, and given another number of tasks
	uncertain    bool // asked for, but ECS's answer was lost
	// before and events are the service deployments and service events that
	// were there before ours: none of them is ours.
	before, events map[string]bool
	// answer is ECS's answer to our update, or nil.
	answer *ecstypes.Service
}

func (d *deployment) outcome(c *Client, status Status, reason string) Outcome {
	return Outcome{
		Status: status, Reason: reason, DeploymentID: d.id, DeploymentARN: d.arn,
		ConsoleURL:        c.consoleURL(d.serviceARN, d.arn),
		TaskDefinitionARN: d.taskDefinition, PreviousARN: d.previous,
	}
}

// start brings the service to the task definition arn, unless it is there or
// on its way already. The deployment is never nil.
func (c *Client) start(ctx context.Context, before *ecstypes.Service, arn string) (*deployment, error) {
	d := &deployment{
		serviceARN: aws.ToString(before.ServiceArn), taskDefinition: arn, previous: stable(before),
		desired: int(before.DesiredCount), breaker: c.breakerOf(before),
		before: map[string]bool{}, events: map[string]bool{},
	}
	in, err := c.updateInput(before, arn)
	if err != nil {
		return d, err
	}
	if c.present(ctx, d, before, in) {
		if !d.unchanged {
			c.started(d)
		}
		return d, nil
	}
	c.remember(ctx, d, before)
	if why := c.whyAbandoned(); why != nil {
		return d, &problem.Error{Op: "update service " + c.serviceName(), Err: why, Fix: "The service was not updated: run the job again."}
	}
	after, err := c.update(ctx, d, before, in)
	if err != nil {
		return d, err
	}
	now := primary(after)
	if now == nil {
		return d, c.lost(d, errors.New("the answer of ECS holds no PRIMARY deployment"))
	}
	d.take(after, now)
	d.answer = after
	if was := primary(before); was != nil && aws.ToString(was.Id) == d.id {
		if runs := aws.ToString(now.TaskDefinition); runs != arn {
			d.uncertain = true
			return d, c.uncertain(d, fmt.Errorf("the answer of ECS shows deployment %s of %s still", d.id, lastPart(runs)))
		}
		if runs := aws.ToString(now.TaskDefinition); runs != "" && runs != arn {
			return d, c.lost(d, fmt.Errorf("ECS took the update, and its answer shows no deployment of %s", lastPart(arn)))
		}
		// ECS made no new deployment: the task definition was the same.
		d.joined, d.settings = true, c.opts.Update.asks()
		d.unchanged = c.rollout(ctx, after, now) == ecstypes.DeploymentRolloutStateCompleted
		if d.unchanged && c.opts.Wait && after.DesiredCount != before.DesiredCount {
			d.unchanged, d.scaling = false, true
			d.watched, d.failedBefore = time.Now(), int(now.FailedTasks)
		}
		clear(d.before)
	}
	if !d.unchanged {
		c.started(d)
	}
	return d, nil
}

// present says whether nothing has to be sent, because the service runs the
// task definition already or is on its way to it. A deployment of it that has
// failed is forced to be tried again.
func (c *Client) present(ctx context.Context, d *deployment, before *ecstypes.Service, in *ecs.UpdateServiceInput) bool {
	was := primary(before)
	if was == nil || aws.ToString(was.TaskDefinition) != d.taskDefinition || in.ForceNewDeployment {
		return false
	}
	stuck := was.FailedTasks > 0 && was.RunningCount == 0 // ECS tries again ever more rarely
	switch rollout := c.rollout(ctx, before, was); {
	case rollout == ecstypes.DeploymentRolloutStateCompleted:
		d.unchanged = !c.opts.Update.asks()
	case rollout == ecstypes.DeploymentRolloutStateInProgress && !stuck:
		d.joined = !c.opts.Update.asks()
	case rollout != "":
		c.emit(Notice{Message: fmt.Sprintf("the tasks of deployment %s, of this same task definition, have failed before: a new deployment is forced", aws.ToString(was.Id))})
		in.ForceNewDeployment = true
	}
	if !d.unchanged && !d.joined {
		return false
	}
	d.take(before, was)
	if d.joined && was.RolloutState == "" {
		d.arn = aws.ToString(before.CurrentServiceDeployment)
	}
	if d.joined {
		d.watched, d.failedBefore = time.Now(), int(was.FailedTasks)
	}
	return true
}

// rollout is the rollout state of the service's newest deployment, by its
// service deployment where ECS gives none; empty where neither is known.
func (c *Client) rollout(ctx context.Context, s *ecstypes.Service, now *ecstypes.Deployment) ecstypes.DeploymentRolloutState {
	current := aws.ToString(s.CurrentServiceDeployment)
	if now.RolloutState != "" || current == "" {
		return now.RolloutState
	}
	state, err := c.serviceDeployment(ctx, current)
	if err != nil || state == nil {
		return ""
	}
	switch state.Status {
	case ecstypes.ServiceDeploymentStatusSuccessful, ecstypes.ServiceDeploymentStatusRollbackSuccessful:
		return ecstypes.DeploymentRolloutStateCompleted
	case ecstypes.ServiceDeploymentStatusPending, ecstypes.ServiceDeploymentStatusInProgress:
		return ecstypes.DeploymentRolloutStateInProgress
	case ecstypes.ServiceDeploymentStatusStopped, ecstypes.ServiceDeploymentStatusRollbackFailed:
		return ecstypes.DeploymentRolloutStateFailed
	default:
		return ""
	}
}

// same is the reason of an update that began no deployment.
func (d *deployment) same() string {
	text := "the service already runs this task definition"
	if d.settings {
		text += "; its settings were updated, which starts no deployment"
	}
	return text
}

// take makes d the deployment that ECS calls now.
func (d *deployment) take(s *ecstypes.Service, now *ecstypes.Deployment) {
	d.id = aws.ToString(now.Id)
	d.since = aws.ToTime(now.CreatedAt)
	d.desired = int(s.DesiredCount)
	if d.since.IsZero() {
		d.since = time.Now()
	}
}

func (c *Client) started(d *deployment) {
	c.emit(Started{
		DeploymentID: d.id, TaskDefinitionARN: d.taskDefinition, PreviousARN: d.previous,
		ConsoleURL: c.consoleURL(d.serviceARN, d.arn), Joined: d.joined,
	})
}

// remember notes what was there before the update.
func (c *Client) remember(ctx context.Context, d *deployment, before *ecstypes.Service) {
	for _, e := range before.Events {
		d.events[aws.ToString(e.Id)] = true
	}
	if arn := aws.ToString(before.CurrentServiceDeployment); arn != "" {
		d.before[arn] = true
	}
	if !c.opts.Wait {
		return
	}
	known, err := c.earlier(ctx)
	if err != nil {
		return // the moment of their creation tells them apart as well
	}
	for _, b := range known {
		d.before[aws.ToString(b.ServiceDeploymentArn)] = true
	}
}

// update calls UpdateService once. Only a refusal for too many calls is simply
// repeated: after an answer that was lost, ECS is first asked whether the
// update took effect, for a second one might start a second deployment.
func (c *Client) update(ctx context.Context, d *deployment, before *ecstypes.Service, in *ecs.UpdateServiceInput) (*ecstypes.Service, error) {
	const tries = 4
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return nil, &problem.Error{
				Op: "update service " + c.serviceName(), Err: context.Cause(ctx),
				Fix: "The service was not updated: run the job again.",
			}
		}
		out, err := c.ecs.UpdateService(ctx, in, onlyThrottling)
		if err == nil {
			return out.Service, nil
		}
		if ctx.Err() == nil && !isPassing(err) {
			return nil, c.updateProblem(d, err)
		}
		d.uncertain = true
		now, asked := c.tookEffect(ctx, before, aws.ToString(in.TaskDefinition))
		switch {
		case now != nil:
			d.uncertain = false
			return now, nil
		case ctx.Err() != nil:
			return nil, c.uncertain(d, context.Cause(ctx))
		case asked != nil:
			return nil, c.uncertain(d, errors.Join(err, asked))
		}
		d.uncertain = false
		if try == tries {
			return nil, c.updateProblem(d, err)
		}
	}
}

// onlyThrottling retries nothing but refusals that say "too many calls".
func onlyThrottling(o *ecs.Options) {
	tries := attempts
	if p, ours := o.Retryer.(patient); ours {
		tries = p.attempts
	}
	o.Retryer = newRetryer(tries, isThrottled)
}

// tookEffect asks whether the service is being moved to arn by a deployment
// that was not there before. A nil service and a nil error mean that it is not.
func (c *Client) tookEffect(ctx context.Context, before *ecstypes.Service, arn string) (*ecstypes.Service, error) {
	if ctx.Err() == nil {
		c.pause(ctx, 2*time.Second, 0.2) // a request whose answer was lost may still be worked on
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), parting, errors.New("no time left to ask ECS"))
		defer cancel()
		ctx = last
	}
	now, err := c.describe(ctx)
	if err != nil {
		return nil, err
	}
	was, is := primary(before), primary(now)
	switch {
	case is == nil || was != nil && aws.ToString(is.Id) == aws.ToString(was.Id):
		return nil, nil
	case aws.ToString(is.TaskDefinition) == arn:
		return now, nil
	default:
		return nil, fmt.Errorf("the service is now being moved to %s by deployment %s, which somebody else started",
			aws.ToString(is.TaskDefinition), aws.ToString(is.Id))
	}
}

func (c *Client) updateProblem(d *deployment, err error) error {
	var (
		gone    *ecstypes.ServiceNotActiveException
		missing *ecstypes.ServiceNotFoundException
	)
	if errors.As(err, &gone) || errors.As(err, &missing) {
		return &problem.Error{
			Op: "update service", Input: "service", Value: c.opts.Service, Err: err,
			Fix: "The service was deleted meanwhile: create it again.",
		}
	}
	if !isPassing(err) && !isDenied(err) {
		return &problem.Error{
			Op: "update service " + c.serviceName(), Err: err,
			Fix: fmt.Sprintf("Correct what ECS refuses: task definition %s does not fit the service.", d.taskDefinition),
		}
	}
	return c.apiProblem("update service "+c.serviceName(), "", "", err)
}

// uncertain is the error for an update of which nobody knows whether it began.
func (c *Client) uncertain(d *deployment, err error) error {
	return &problem.Error{
		Op:  "update service " + c.serviceName(),
		Err: fmt.Errorf("it is not known whether the deployment of %s has begun: %w", d.taskDefinition, err),
		Fix: fmt.Sprintf("Look at the service's deployments: aws ecs describe-services --cluster %s --services %s", c.clusterName(), c.serviceName()),
	}
}
