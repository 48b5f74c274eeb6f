package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// newBlueGreen begins with a service whose controller is CODE_DEPLOY.
func (c *Client) newBlueGreen(ctx context.Context, s *ecstypes.Service, arn string) (*blueGreen, error) {
	d := &deployment{
		serviceARN: aws.ToString(s.ServiceArn), taskDefinition: arn, previous: aws.ToString(s.TaskDefinition),
		desired: int(s.DesiredCount), before: map[string]bool{}, events: map[string]bool{}, since: time.Now(), watched: time.Now(),
	}
	if set := taskSet(s); set != nil {
		d.previous = aws.ToString(set.TaskDefinition)
	}
	for _, e := range s.Events {
		d.events[aws.ToString(e.Id)] = true
	}
	b := &blueGreen{follower: newFollower(c, d)}
	b.service = s
	if c.group == nil {
		group, err := c.findGroup(ctx, s)
		if err != nil {
			return b, err
		}
		c.group = group
	}
	b.group = c.group
	return b, nil
}

// deployByCodeDeploy is Deploy for a service whose controller is CODE_DEPLOY.
func (c *Client) deployByCodeDeploy(ctx context.Context, s *ecstypes.Service, arn string) (Outcome, error) {
	b, err := c.newBlueGreen(ctx, s, arn)
	if err != nil {
		return Outcome{TaskDefinitionARN: arn}, err
	}
	if c.opts.Update.asks() {
		c.emit(Notice{Message: "the service's other settings are not changed: with the controller CODE_DEPLOY a deployment carries the task definition alone"})
	}
	done := len(s.TaskSets) == 1 || !c.opts.CodeDeploy.WaitForEnd
	if set := taskSet(s); set != nil && aws.ToString(set.TaskDefinition) == arn && done && !c.opts.Update.ForceNewDeployment {
		b.id = aws.ToString(set.ExternalId)
		return b.outcome(StatusUnchanged, b.d.same()), nil
	}
	if err = b.start(ctx); err != nil {
		out := b.outcome("", "")
		if b.d.uncertain {
			out.Status = StatusStarted
		}
		return out, err
	}
	out, err := b.conclude(ctx)
	c.emit(Done{Outcome: out})
	return out, err
}

// outcome names the deployment as CodeDeploy does.
func (b *blueGreen) outcome(status Status, reason string) Outcome {
	return Outcome{
		Status: status, Reason: reason, DeploymentID: b.id, CodeDeployID: b.id, ConsoleURL: b.consoleURL(),
		TaskDefinitionARN: b.d.taskDefinition, PreviousARN: b.d.previous,
	}
}

// consoleURL shows the deployment in CodeDeploy's console.
func (b *blueGreen) consoleURL() string {
	host, region := consoleOf(b.d.serviceARN)
	if host == "" || b.id == "" {
		return ""
	}
	return fmt.Sprintf("https://%s.%s/codesuite/codedeploy/deployments/%s?region=%s", region, host, url.PathEscape(b.id), url.QueryEscape(region))
}

// conclude waits for a started deployment, rolls back where that is wanted, and
// puts the end into words.
func (b *blueGreen) conclude(ctx context.Context) (Outcome, error) {
	if !b.c.opts.Wait {
		return b.outcome(StatusStarted, `not waited for (input "wait-for-service-stability" is false)`), nil
	}
	waiting, cancel := b.c.waiting(ctx)
	defer cancel()
	v, err := b.c.watch(waiting, "CodeDeploy", b.look, b.early)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return b.parted(ctx)
	case waiting.Err() != nil:
		v = waitedOut(waiting)
	default:
		return b.outcome(StatusStarted, "no longer watched: "+firstLine(err)), &problem.Error{
			Op: "wait for service " + b.c.serviceName(), Err: fmt.Errorf("deployment %s goes on, but can no longer be watched: %w", b.id, err),
			Fix: "Look at its end in the console; to stop it: " + b.stopCommand(),
		}
	}
	switch v.status {
	case StatusSucceeded:
		return b.outcome(StatusSucceeded, b.praise()), nil
	case StatusPaused:
		return b.outcome(StatusPaused, v.reason), nil
	default:
	}
	why := b.explain(ctx, v)
	v = b.rollBack(ctx, v)
	switch {
	case ctx.Err() != nil && (v.status == StatusTimedOut || v.status == StatusFailed && v.hopeless):
		return b.parted(ctx)
	case v.status == StatusSucceeded:
		return b.outcome(StatusSucceeded, b.praise()), nil
	}
	out := b.outcome(v.status, reason(v, why))
	out.Abandoned = v.abandoned
	return out, b.problem(v, why)
}

// praise is the reason of a success: what should be known in spite of it.
func (b *blueGreen) praise() string {
	var parts []string
	if text := b.follower.praise(); text != "" {
		parts = append(parts, text)
	}
	if b.seen.info != nil && b.seen.info.Status != cdtypes.DeploymentStatusSucceeded {
		text := "all traffic is on the new tasks; CodeDeploy ends the old ones"
		if blue := b.seen.info.BlueGreenDeploymentConfiguration; blue != nil && blue.TerminateBlueInstancesOnDeploymentSuccess != nil {
			if wait := blue.TerminateBlueInstancesOnDeploymentSuccess.TerminationWaitTimeInMinutes; wait > 0 {
				text += fmt.Sprintf(" after %s, until when no other deployment can start", plural(int(wait), "minute"))
			}
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// explain adds to why tasks failed what CodeDeploy itself and its hooks say.
func (b *blueGreen) explain(ctx context.Context, v verdict) told {
	best := b.follower.explain(ctx, v)
	for _, e := range b.seen.events() {
		if e.Status == cdtypes.LifecycleEventStatusFailed && e.Diagnostics != nil {
			best.detail = append(best.detail, diagnostics(e)...)
		}
	}
	if b.seen.info == nil || b.seen.info.ErrorInformation == nil {
		return best
	}
	if e, known := explainCode(b.seen.info.ErrorInformation); known && e.rank >= best.rank {
		best.explanation = e
		if strings.HasPrefix(v.reason, e.words) {
			best.words = v.reason // which says it
		}
	}
	return best
}

// diagnostics are the words of a lifecycle event that failed.
func diagnostics(e cdtypes.LifecycleEvent) []string {
	d := e.Diagnostics
	head := "lifecycle event " + aws.ToString(e.LifecycleEventName) + ": " + firstOf(string(d.ErrorCode), "failed")
	if d.ScriptName != nil && *d.ScriptName != "" {
		head += " (" + *d.ScriptName + ")"
	}
	if d.Message != nil && *d.Message != "" {
		head += ": " + *d.Message
	}
	lines := []string{head}
	for line := range strings.Lines(aws.ToString(d.LogTail)) {
		lines = append(lines, cut(strings.TrimRight(line, "\r\n"), logWidth))
	}
	return lines
}

// rollBack follows the rollback that CodeDeploy has begun, or asks for one
// where that is wanted.
func (b *blueGreen) rollBack(ctx context.Context, v verdict) verdict {
	if v.status == StatusTimedOut || v.hopeless {
		if !b.c.opts.RollbackOnFailure {
			v.sequel = `not rolled back (input "rollback-on-failure" is false)`
			return v
		}
		b.announce(v.reason, false)
		b.rolling = true
		if err := b.stop(ctx); err != nil {
			b.rolling = false
			v.sequel = "not rolled back: " + firstLine(err)
			return v
		}
		limited, cancel := context.WithTimeoutCause(ctx, rollbackWait, fmt.Errorf("not finished after %s", span(rollbackWait)))
		defer cancel()
		end, err := b.c.watch(limited, "CodeDeploy", b.look, b.early)
		if err != nil {
			v.sequel = "the rollback was asked for, its end was not seen: " + firstLine(err)
			return v
		}
		if end.status == StatusSucceeded {
			return end // it was completed before CodeDeploy heard of the stop
		}
	}
	info := b.seen.info.RollbackInfo
	if info == nil || aws.ToString(info.RollbackDeploymentId) == "" {
		return b.notRolledBack(v, info)
	}
	b.announce(firstOf(v.reason, aws.ToString(info.RollbackMessage)), !b.rolling)
	b.rolling = true
	return b.awaitRollback(ctx, aws.ToString(info.RollbackDeploymentId), v)
}

// notRolledBack is the end without a rollback deployment: where no traffic had
// moved there is nothing to move back.
func (b *blueGreen) notRolledBack(v verdict, info *cdtypes.RollbackInfo) verdict {
	set := taskSet(b.service)
	stays := set != nil && aws.ToString(set.ExternalId) != b.id
	switch {
	case stays && b.rolling:
		v.status, v.sequel = StatusRolledBack, "stopped; all traffic is on "+lastPart(b.d.previous)+" as before"
	case stays:
		v.sequel = "no traffic stays on the new tasks, the service runs " + lastPart(b.d.previous)
	case info != nil && aws.ToString(info.RollbackMessage) != "":
		v.sequel = "not rolled back: " + strings.TrimRight(*info.RollbackMessage, ". ")
	default:
		v.sequel = "not rolled back"
	}
	return v
}

// awaitRollback follows the rollback's own deployment to its end.
func (b *blueGreen) awaitRollback(ctx context.Context, id string, v verdict) verdict {
	d := *b.d
	d.id, d.taskDefinition, d.previous = "", b.d.previous, b.d.taskDefinition
	back := &blueGreen{follower: newFollower(b.c, &d), id: id, group: b.group}
	back.back, back.announced, back.rolling = true, true, true
	limited, cancel := context.WithTimeoutCause(ctx, rollbackWait, fmt.Errorf("not finished after %s", span(rollbackWait)))
	defer cancel()
	end, err := b.c.watch(limited, "CodeDeploy", back.look, back.early)
	switch {
	case err != nil:
		v.sequel = "the rollback (deployment " + id + ") is under way, its end was not seen: " + firstLine(err)
	case end.status == StatusSucceeded:
		v.status, v.sequel = StatusRolledBack, "rolled back to "+lastPart(b.d.previous)+" by deployment "+id
	default:
		v.status, v.sequel, v.noWayBack = StatusFailed, "the rollback (deployment "+id+") did not succeed: "+firstOf(end.reason, string(end.status)), true
	}
	return v
}

// announce tells once that the service is going back.
func (b *blueGreen) announce(reason string, byItself bool) {
	if !b.announced && !b.back {
		b.announced = true
		b.c.emit(RollingBack{Reason: reason, To: b.d.previous, ByECS: byItself, CodeDeploy: true})
	}
}

// stop asks CodeDeploy to stop the deployment and to go back.
func (b *blueGreen) stop(ctx context.Context) error {
	_, err := b.c.codedeploy.StopDeployment(ctx, &cdsdk.StopDeploymentInput{DeploymentId: aws.String(b.id), AutoRollbackEnabled: aws.Bool(true)})
	if over, done := errors.AsType[*cdtypes.DeploymentAlreadyCompletedException](err); done {
		b.c.emit(Notice{Message: "the deployment is over already: " + over.ErrorMessage()})
		return nil
	}
	return err
}

func (b *blueGreen) stopCommand() string {
	return fmt.Sprintf("aws deploy stop-deployment%s --deployment-id %s --auto-rollback-enabled", b.c.regionFlag(), b.id)
}

// parted is the end when the caller's context has ended.
func (b *blueGreen) parted(ctx context.Context) (Outcome, error) {
	cause := context.Cause(ctx)
	reason := "no longer watched: " + cause.Error()
	what, fix := "deployment "+b.id+" goes on", "To stop it: "+b.stopCommand()
	look := "Look at its end: " + firstOf(b.consoleURL(), "aws deploy get-deployment"+b.c.regionFlag()+" --deployment-id "+b.id)
	switch {
	case b.rolling:
		what, fix, reason = "the rollback of deployment "+b.id+" goes on", look, reason+"; its rollback goes on"
	case b.c.opts.RollbackOnCancel:
		last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), parting, errors.New("no time left"))
		defer cancel()
		if err := b.stop(last); err != nil {
			what += " (its rollback could not be asked for: " + said(err) + ")"
			reason += "; its rollback could not be asked for"
		} else {
			what, fix, reason = "the rollback of deployment "+b.id+" was asked for and goes on", look, reason+"; its rollback was asked for"
		}
	}
	return b.outcome(StatusStarted, reason), &problem.Error{
		Op: "wait for service " + b.c.serviceName(), Err: fmt.Errorf("%s in cluster %s: %w", what, b.c.clusterName(), cause), Fix: fix,
	}
}

// problem is the error of a deployment that did not succeed.
func (b *blueGreen) problem(v verdict, t told) error {
	e := &problem.Error{Op: "deploy to service " + b.c.serviceName(), Fix: t.fix, Detail: t.detail}
	what := fmt.Sprintf("deployment %s of %s ", b.id, lastPart(b.d.taskDefinition))
	switch v.status {
	case StatusRolledBack:
		what += "did not succeed"
	case StatusTimedOut:
		e.Input, e.Value = "wait-for-minutes", fmt.Sprint(b.c.opts.WaitLimit.Minutes())
		what += "goes on with " + b.runs
		e.Fix = firstOf(t.fix, "Raise wait-for-minutes: starting the tasks and moving the traffic by the group's deployment configuration must fit into it.") +
			" To stop the deployment: " + b.stopCommand()
	case StatusStopped:
		what += "was stopped by somebody"
		e.Fix, e.Detail = "Look in CloudTrail for who called StopDeployment, and run the job again.", nil
	default:
		what += "failed"
		if v.hopeless {
			e.Fix = strings.TrimSpace(e.Fix + " The deployment goes on; to stop it: " + b.stopCommand())
		}
	}
	if t.words != "" && t.words != v.reason && !strings.Contains(v.reason, t.words) {
		t.summary += " (" + cut(t.words, 400) + ")"
	}
	e.Err = errors.New(what + ": " + reason(v, t))
	e.Fix = firstOf(e.Fix, "Look at the deployment's lifecycle events, the service's events and the logs of its tasks.")
	return e
}

// resumeCodeDeploy is Resume for a service whose controller is CODE_DEPLOY: the
// deployment that waits moves its traffic, or is stopped and rolled back.
func (c *Client) resumeCodeDeploy(ctx context.Context, s *ecstypes.Service, back bool) (Outcome, error) {
	b, err := c.newBlueGreen(ctx, s, "")
	if err != nil {
		return Outcome{}, err
	}
	for _, set := range s.TaskSets {
		if aws.ToString(set.Status) != "PRIMARY" || b.id == "" {
			b.id, b.d.taskDefinition = aws.ToString(set.ExternalId), aws.ToString(set.TaskDefinition)
		}
	}
	op := "continue deployment " + b.id
	if back {
		op = "roll back deployment " + b.id
	}
	none := &problem.Error{
		Op: op, Input: "service", Value: c.opts.Service, Err: errors.New("no deployment of the service is paused or under way"),
		Fix: fmt.Sprintf("Look at the group's deployments: aws deploy list-deployments%s --application-name %s --deployment-group-name %s",
			c.regionFlag(), aws.ToString(b.group.ApplicationName), aws.ToString(b.group.DeploymentGroupName)),
	}
	if b.id == "" {
		none.Op = "find the service's deployment"
		return Outcome{}, none
	}
	info, err := c.codeDeployment(ctx, b.id)
	if err != nil {
		return Outcome{}, c.apiProblem(op, "service", c.opts.Service, err)
	}
	if hasFinished(info) {
		none.Err = fmt.Errorf("%w: the last one is %s", none.Err, info.Status)
		return Outcome{}, none
	}
	b.d.joined, b.d.since = true, aws.ToTime(info.CreateTime)
	c.emit(Started{DeploymentID: b.id, TaskDefinitionARN: b.d.taskDefinition, PreviousARN: b.d.previous, ConsoleURL: b.consoleURL(), Joined: true})
	out, err := b.resume(ctx, info, op, back)
	c.emit(Done{Outcome: out})
	return out, err
}

func (b *blueGreen) resume(ctx context.Context, info *cdtypes.DeploymentInfo, op string, back bool) (Outcome, error) {
	if !back {
		if info.Status == cdtypes.DeploymentStatusReady {
			_, err := b.c.codedeploy.ContinueDeployment(ctx, &cdsdk.ContinueDeploymentInput{
				DeploymentId: aws.String(b.id), DeploymentWaitType: cdtypes.DeploymentWaitTypeReadyWait,
			})
			if err != nil {
				return b.outcome(StatusStarted, "not decided: "+firstLine(err)), b.c.apiProblem(op, "", "", err)
			}
			b.continued = true
		} else {
			b.c.emit(Notice{Message: fmt.Sprintf("deployment %s is not paused (any more): it is followed as it goes on", b.id)})
		}
		return b.conclude(ctx)
	}
	b.announce(`asked for by the input "rollback-deployment"`, false)
	if err := b.stop(ctx); err != nil {
		return b.outcome(StatusStarted, "not decided: "+firstLine(err)), b.c.apiProblem(op, "", "", err)
	}
	b.rolling = true
	if !b.c.opts.Wait {
		return b.outcome(StatusStarted, `not waited for (input "wait-for-service-stability" is false)`), nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, b.c.opts.WaitLimit, fmt.Errorf("not finished after %s", span(b.c.opts.WaitLimit)))
	defer cancel()
	v, err := b.c.watch(limited, "CodeDeploy", b.look, b.early)
	if err != nil {
		return b.parted(limited)
	}
	if v = b.rollBack(ctx, v); v.status == StatusRolledBack {
		return b.outcome(StatusRolledBack, "as asked for"), nil
	}
	why := b.explain(ctx, v)
	return b.outcome(v.status, reason(v, why)), b.problem(v, why)
}
