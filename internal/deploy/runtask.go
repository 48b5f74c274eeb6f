package deploy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

// Task is a task that is run once, such as a migration. What is empty and has no
// other meaning is taken from the client's service, where it has one.
type Task struct {
	// Definition is the document of the revision DefinitionARN.
	Definition    taskdef.Document
	DefinitionARN string
	// Container is the one whose exit code decides. Required.
	Container string
	// Command and Environment override Container's.
	Command     []string
	Environment []taskdef.Pair
	// ContainerOverrides and CapacityProviderStrategy are JSON as RunTask takes
	// it, Volume is the managedEBSVolume for VolumeName; nil: none.
	ContainerOverrides, CapacityProviderStrategy, Volume []byte
	VolumeName                                           string

	Subnets, SecurityGroups                     []string
	AssignPublicIP, LaunchType, PlatformVersion string
	// StartedBy marks the task, up to 128 characters.
	StartedBy string
	Tags      []taskdef.Pair
	// Wait follows the task to its end, for as long as Options.WaitLimit says.
	Wait bool
}

// CheckTask finds, as a *problem.Error, what is wrong with a task before anything
// is changed. DefinitionARN may still be empty. It reads the service.
func (c *Client) CheckTask(ctx context.Context, t Task) error {
	_, err := c.taskRequest(ctx, t, "")
	return err
}

// RunTask runs a task and, with Wait, follows it to its end. It gives the task's
// ARN as soon as there is one, with an error too.
//
// It succeeds when Container ended with exit code 0; the task's other containers
// do not count, and what still runs then is stopped. When ctx ends, or the wait,
// the task goes on and the error says how to stop it; with RollbackOnCancel it is
// stopped when ctx ends.
func (c *Client) RunTask(ctx context.Context, t Task) (arn string, err error) {
	// The token makes a repeated call harmless: ECS answers it with the same task.
	// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html
	request, err := c.taskRequest(ctx, t, "towline-"+rand.Text())
	if err != nil {
		return "", err
	}
	if arn, err = c.launch(ctx, t, request); err != nil {
		return "", err
	}
	r := &taskRun{c: c, t: t, arn: arn}
	c.emit(TaskStarted{TaskID: r.id(), TaskDefinitionARN: t.DefinitionARN, ConsoleURL: c.taskURL(arn)})
	if ctx.Err() != nil {
		return arn, r.parted(ctx, context.Cause(ctx))
	}
	if !t.Wait {
		return arn, nil
	}
	limit := fmt.Errorf("it has not ended after %s (input \"wait-for-minutes\")", span(c.opts.WaitLimit))
	waiting, cancel := context.WithTimeoutCause(ctx, c.opts.WaitLimit, limit)
	defer cancel()
	err = r.follow(waiting)
	switch {
	case waiting.Err() == nil:
		return arn, err
	case ctx.Err() != nil:
		return arn, r.parted(ctx, context.Cause(ctx))
	default:
		return arn, r.goesOn(limit)
	}
}

// launch calls RunTask. A nil error comes with an ARN.
func (c *Client) launch(ctx context.Context, t Task, request []byte) (string, error) {
	begin := time.Now()
	var answer []byte
	_, err := c.ecs.RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: aws.String(t.DefinitionARN)}, verbatim(request, &answer))
	if err == nil {
		return c.answered(t, answer)
	}
	arn, asked := c.launched(ctx, t, begin, err)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	switch {
	case arn != "":
		return arn, nil
	case asked != nil:
		return "", &problem.Error{
			Op: c.runOp(t), Err: fmt.Errorf("it is not known whether the task was started: %w", errors.Join(err, asked)),
			Fix: fmt.Sprintf("Nothing was deployed. Look for it: aws ecs list-tasks%s --cluster %s --started-by %s", c.regionFlag(), c.clusterName(), t.StartedBy),
		}
	case ctx.Err() != nil:
		return "", &problem.Error{Op: c.runOp(t), Err: fmt.Errorf("no task was started: %w", err), Fix: "Nothing was deployed: run the job again."}
	}
	return "", c.runProblem(t, err)
}

// answered reads RunTask's answer: a task, or why there is none.
func (c *Client) answered(t Task, answer []byte) (string, error) {
	var got struct {
		Tasks    []struct{ TaskArn string }
		Failures []struct{ Arn, Reason, Detail string }
	}
	switch err := json.Unmarshal(answer, &got); {
	case err != nil:
		return "", fmt.Errorf("answer of RunTask: %w", err)
	case len(got.Tasks) > 0 && got.Tasks[0].TaskArn != "":
		return got.Tasks[0].TaskArn, nil
	case len(got.Failures) == 0:
		return "", &problem.Error{Op: c.runOp(t), Err: errors.New("ECS started no task and does not say why"), Fix: "Run the job again, and look at the cluster's capacity."}
	}
	var reasons []string
	e := &problem.Error{Op: c.runOp(t), Fix: "Look at the cluster's capacity, and at what the task definition asks for."}
	for _, f := range got.Failures {
		reason := strings.TrimSpace(f.Reason + " " + f.Detail)
		if why, known := explainText(causes(), "TaskFailedToStart: "+reason); known {
			e.Fix = firstOf(why.fix, e.Fix)
			reason += ": " + why.summary
		}
		reasons = append(reasons, reason)
	}
	e.Err = errors.New("ECS did not start the task: " + strings.Join(reasons, "; "))
	return "", e
}

// launched finds the task of a call whose answer was lost; empty where there is
// none, or ECS has refused it. The error says why that cannot be known.
func (c *Client) launched(ctx context.Context, t Task, begin time.Time, err error) (string, error) {
	if ctx.Err() == nil && !isPassing(err) {
		return "", nil
	}
	ask := ctx
	if ctx.Err() != nil {
		last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), parting, errors.New("no time left to ask ECS"))
		defer cancel()
		ask = last
	}
	for _, status := range []ecstypes.DesiredStatus{ecstypes.DesiredStatusRunning, ecstypes.DesiredStatusStopped} {
		in := &ecs.ListTasksInput{StartedBy: aws.String(t.StartedBy), DesiredStatus: status}
		if c.cluster != "" {
			in.Cluster = aws.String(c.cluster)
		}
		listed, err := c.ecs.ListTasks(ask, in)
		if err != nil {
			return "", err
		}
		if len(listed.TaskArns) == 0 {
			continue
		}
		out, err := c.ecs.DescribeTasks(ask, &ecs.DescribeTasksInput{Cluster: in.Cluster, Tasks: listed.TaskArns[:min(100, len(listed.TaskArns))]})
		if err != nil {
			return "", err
		}
		for _, task := range out.Tasks {
			if aws.ToString(task.TaskDefinitionArn) == t.DefinitionARN && !aws.ToTime(task.CreatedAt).Before(begin.Add(-time.Minute)) {
				return aws.ToString(task.TaskArn), nil
			}
		}
	}
	return "", nil
}

func (c *Client) runOp(t Task) string {
	return "run task of " + firstOf(lastPart(t.DefinitionARN), t.Definition.Family())
}

// runProblem explains why a task was refused.
func (c *Client) runProblem(t Task, err error) error {
	var (
		said      smithy.APIError
		noCluster *ecstypes.ClusterNotFoundException
	)
	switch {
	case errors.As(err, &noCluster):
		return &problem.Error{
			Op: c.runOp(t), Input: "cluster", Value: c.clusterName(), Err: err,
			Fix: fmt.Sprintf("Check the name of the cluster, the account and the region (%s).", c.opts.Config.Region),
		}
	case errors.As(err, &said) && !isDenied(err) && !isPassing(err) && !strings.Contains(said.ErrorCode(), "Expired"):
		e := &problem.Error{Op: c.runOp(t), Err: err, Fix: "Correct what ECS refuses: the inputs that begin with run-task-, or the task definition."}
		if why, known := explainText(causes(), said.ErrorMessage()); known && why.fix != "" {
			e.Fix = why.fix
		}
		return e
	}
	return c.apiProblem(c.runOp(t), "", "", err)
}

// parted is the end when the caller's context has ended.
func (r *taskRun) parted(ctx context.Context, cause error) error {
	if !r.c.opts.RollbackOnCancel {
		return r.goesOn(cause)
	}
	last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), parting, errors.New("no time left to stop the task"))
	defer cancel()
	if err := r.stop(last, "The job that ran this task was cancelled"); err != nil {
		return r.goesOn(cause)
	}
	return &problem.Error{
		Op: r.c.runOp(r.t), Err: fmt.Errorf("task %s in cluster %s was stopped: %w", r.id(), r.c.clusterName(), cause),
		Fix: "Nothing was deployed. Look at how far the task has come before you run it again.",
	}
}

// goesOn is the end of a watch whose task has not ended.
func (r *taskRun) goesOn(cause error) error {
	return &problem.Error{
		Op: r.c.runOp(r.t), Err: fmt.Errorf("task %s goes on in cluster %s: %w", r.id(), r.c.clusterName(), cause),
		Fix: fmt.Sprintf("Nothing was deployed. To stop the task: aws ecs stop-task%s --cluster %s --task %s", r.c.regionFlag(), r.c.clusterName(), r.id()),
	}
}
