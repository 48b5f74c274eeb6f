// Package deploy puts a task definition into an Amazon ECS service and follows
// the deployment until it is truly over.
//
// A deployment is followed by its own identity: the ecs-svc/N of UpdateService's
// answer and the service deployment that belongs to it, through all nine of its
// states. "One deployment and running equals desired" is never taken for
// success: that also holds before anything began, and after a rollback.
//
// Nothing is printed here: typed events say what happens, see Event.
//
// Services with the ECS controller are deployed to, in all four strategies of
// ECS; others are refused before anything is changed. Three steps are kept
// apart: look (AWS's answers become a snapshot), judge (a pure function of it),
// and the loop around them.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/towline/towline/internal/problem"
)

const (
	// defaultWait is what the input wait-for-minutes stands at.
	defaultWait = 30 * time.Minute
	// rollbackWait bounds how long a rollback is followed.
	rollbackWait = 15 * time.Minute
	// attempts is how often a call is tried unless Options say otherwise: the
	// rates of ECS's API are shared by everything in the account and region.
	attempts = 8
	// parting bounds each thing that is still done after a cancellation: the
	// runner kills the container 10 s after its signal.
	parting = 1200 * time.Millisecond
)

// Options says where to deploy and how to wait. The zero value of each field
// but Config and Service works.
type Options struct {
	// Config holds credentials, region, HTTP client and endpoints.
	Config aws.Config
	// Attempts is how often a call is tried; one that ECS refuses because the
	// account makes too many calls is tried far longer. Default: 8.
	Attempts int
	// Cluster is a name or an ARN. Default: the cluster in Service's ARN, else
	// "default".
	Cluster string
	// Service is a name or an ARN. Required.
	Service string
	// Wait follows the deployment until it is over; without it, Deploy returns
	// once ECS has accepted the update.
	Wait bool
	// WaitLimit bounds Wait. Default: 30 minutes.
	WaitLimit time.Duration
	// RollbackOnFailure rolls back what fails or does not end in time, where
	// ECS does not do so by itself.
	RollbackOnFailure bool
	// RollbackOnCancel asks ECS to roll back when the context of Deploy ends
	// while a deployment is under way. Without it the deployment goes on.
	RollbackOnCancel bool
	// WaitAtPause keeps waiting while a pause hook holds the deployment.
	// Without it, that ends the wait with StatusPaused.
	WaitAtPause bool
	// Update is what else is changed with the task definition.
	Update Update
	// CodeDeploy is for a service whose controller is CODE_DEPLOY.
	CodeDeploy CodeDeploy
	// Shared is what the Clients of several services have in common; nil for one
	// service alone.
	Shared *Shared
	// Events receives what happens, always from the calling goroutine. It may
	// be nil.
	Events func(Event)
}

// Client deploys to one service. Its methods are not for concurrent use; for
// several services there is one Client each, and those may run side by side.
type Client struct {
	opts    Options
	cluster string
	ecs     *ecs.Client
	logs    *cloudwatchlogs.Client
	elb     *elb.Client
	denied  map[string]bool // actions whose refusal has been told
	failing map[string]int  // wanted actions, by how often they failed in a row
	// dice spreads the calls of several clients. It is seeded with the time, so that
	// a deployment on virtual time goes the same way each time.
	dice *rand.Rand
	// codedeploy and group are for a service whose controller is CODE_DEPLOY;
	// group is nil until it is found.
	codedeploy *cdsdk.Client
	group      *cdtypes.DeploymentGroupInfo
	abandoned  abandonment
	reverting  bool   // what is deployed now is itself a way back
	ahead      *ahead // nil unless ReadAhead has read something for Deploy
}

// New gives a Client. It contacts nobody.
func New(opts Options) *Client {
	if opts.WaitLimit <= 0 {
		opts.WaitLimit = defaultWait
	}
	cluster := opts.Cluster
	if cluster == "" {
		cluster = clusterOf(opts.Service)
	}
	if opts.Attempts <= 0 {
		opts.Attempts = attempts
	}
	if opts.Shared != nil {
		opts.Config.HTTPClient = opts.Shared.paced(opts.Config.HTTPClient)
	}
	return &Client{
		opts:    opts,
		cluster: cluster,
		ecs: ecs.NewFromConfig(opts.Config, func(o *ecs.Options) {
			o.Retryer = newRetryer(opts.Attempts, nil)
		}),
		logs:   cloudwatchlogs.NewFromConfig(opts.Config),
		elb:    elb.NewFromConfig(opts.Config),
		denied: map[string]bool{}, failing: map[string]int{},
		dice: newDice(cluster + "/" + opts.Service),
		codedeploy: cdsdk.NewFromConfig(opts.Config, func(o *cdsdk.Options) {
			o.Retryer = newRetryer(opts.Attempts, nil)
		}),
	}
}

// Status is how a deployment ended, in the words of the output
// deployment-status.
type Status string

const (
	// StatusSucceeded says that ECS completed this very deployment.
	StatusSucceeded Status = "succeeded"
	// StatusRolledBack says that the deployment failed or ran out of time, and
	// that the service is back on what it ran before.
	StatusRolledBack Status = "rolled-back"
	// StatusFailed says that the deployment failed and nothing was rolled back.
	StatusFailed Status = "failed"
	// StatusSuperseded says that somebody else's later deployment replaced it.
	StatusSuperseded Status = "superseded"
	// StatusTimedOut says that the wait ran out; the deployment, or its
	// rollback, may still be under way.
	StatusTimedOut Status = "timed-out"
	// StatusStopped says that somebody stopped the deployment.
	StatusStopped Status = "stopped"
	// StatusUnchanged says that the service already runs this task definition;
	// nothing was updated.
	StatusUnchanged Status = "unchanged"
	// StatusPaused says that a pause hook holds the deployment until somebody
	// continues it or rolls it back.
	StatusPaused Status = "paused"
	// StatusStarted says that ECS accepted the update and that how it ends is
	// not known here: waiting was not asked for, was cancelled, or could not go
	// on.
	StatusStarted Status = "started"
)

// Outcome is what is known about a deployment when Deploy returns.
type Outcome struct {
	// Status is empty when nothing was started because of an error.
	Status Status
	// Reason is one line in ECS's or our own words, or empty.
	Reason string
	// DeploymentID is ECS's name of the deployment: "ecs-svc/1234567890".
	DeploymentID string
	// DeploymentARN is the service deployment's ARN, or empty where it cannot
	// be read.
	DeploymentARN string
	// CodeDeployID is CodeDeploy's name of the deployment, d-XXXXXXXXX, where it
	// is CodeDeploy's; DeploymentID is the same then.
	CodeDeployID string
	// ConsoleURL shows the deployment in the AWS console; empty in partitions
	// whose console is not known.
	ConsoleURL string
	// TaskDefinitionARN is what was deployed, PreviousARN what the service
	// last ran well before, or empty when there is no such thing.
	TaskDefinitionARN, PreviousARN string
	// Abandoned says that the deployment was given up from outside; see Abandon.
	Abandoned bool
}

// Deploy makes the service run the task definition arn and, with Wait, follows
// the deployment until it is over.
//
// Every Status but StatusSucceeded, StatusUnchanged, StatusPaused and (without
// Wait) StatusStarted comes with a *problem.Error. When ctx ends while a
// deployment is under way, Deploy returns within four seconds; the error says
// which deployment goes on and how to stop it, or that its rollback was asked
// for.
func (c *Client) Deploy(ctx context.Context, arn string) (Outcome, error) {
	defer func() { c.ahead = nil }()
	before, err := c.first(ctx)
	if err != nil {
		return Outcome{TaskDefinitionARN: arn}, err
	}
	if byCodeDeploy(before) {
		return c.deployByCodeDeploy(ctx, before, arn)
	}
	d, err := c.start(ctx, before, arn)
	if err != nil {
		out := d.outcome(c, "", "")
		if d.uncertain {
			out.Status, out.Reason = StatusStarted, "it is not known whether the deployment has begun"
		}
		return out, err
	}
	out, err := c.conclude(ctx, d)
	c.emit(Done{Outcome: out})
	return out, err
}

// conclude waits for a started deployment, rolls back where that is wanted,
// and puts the end into words.
func (c *Client) conclude(ctx context.Context, d *deployment) (Outcome, error) {
	if d.unchanged {
		return d.outcome(c, StatusUnchanged, d.same()), nil
	}
	if !c.opts.Wait {
		return d.outcome(c, StatusStarted, `not waited for (input "wait-for-service-stability" is false)`), nil
	}
	f := newFollower(c, d)
	v, err := c.await(ctx, f)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return f.parted(ctx)
	default:
		return d.outcome(c, StatusStarted, "no longer watched: "+firstLine(err)), c.lost(d, err)
	}
	f.tasks.tellTimes(ctx)
	switch v.status {
	case StatusSucceeded:
		return d.outcome(c, StatusSucceeded, f.praise()), nil
	case StatusPaused:
		return d.outcome(c, StatusPaused, v.reason), nil
	default:
	}
	why := f.explain(ctx, v)
	v = f.rollBack(ctx, v)
	switch {
	case ctx.Err() != nil && (v.status == StatusTimedOut || v.status == StatusFailed && v.hopeless):
		return f.parted(ctx) // it goes on
	case v.status == StatusSucceeded:
		return d.outcome(c, StatusSucceeded, f.praise()), nil
	}
	out := d.outcome(c, v.status, reason(v, why))
	out.Abandoned = v.abandoned
	return out, f.problem(v, why)
}

// await follows a deployment for as long as the options say; running out of
// time is a verdict.
func (c *Client) await(ctx context.Context, f *follower) (verdict, error) {
	waiting, cancel := c.waiting(ctx)
	defer cancel()
	v, err := f.follow(waiting)
	if err == nil || ctx.Err() != nil || waiting.Err() == nil {
		return v, err
	}
	// It may have ended since the last look.
	if last, err := within(ctx, f.look); err == nil && last.status != "" {
		return last, nil
	}
	return waitedOut(waiting), nil
}

// lost is the end when ECS's answers ceased.
func (c *Client) lost(d *deployment, err error) error {
	e := &problem.Error{
		Op:  "wait for service " + c.serviceName(),
		Err: fmt.Errorf("deployment %s goes on, but can no longer be watched: %w", d.id, err),
		Fix: "Look at its end in the console; to stop it: " + c.stopCommand(d),
	}
	if inner, explained := errors.AsType[*problem.Error](err); explained && inner.Fix != "" {
		e.Fix = inner.Fix + " " + e.Fix
	}
	return e
}

func (c *Client) emit(e Event) {
	if c.opts.Events != nil {
		c.opts.Events(e)
	}
}
