package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// blueGreen follows one deployment of CodeDeploy: it makes a second, green task
// set of the service, moves the traffic to it, and ends the blue one.
type blueGreen struct {
	// follower tells the service's events and its failing tasks. Its deployment
	// d carries the green task set's ID, once that is there.
	*follower

	id    string // d-XXXXXXXXX
	group *cdtypes.DeploymentGroupInfo
	// rollbackOn are the events after which CodeDeploy rolls back by itself.
	rollbackOn []cdtypes.AutoRollbackEvent
	targetID   string
	seen       cdSnapshot
	told       string // the last stage
	ready      bool   // and that it waits for somebody
	continued  bool   // we have let it go on
}

// cdSnapshot is what AWS says of the deployment at one moment.
type cdSnapshot struct {
	info *cdtypes.DeploymentInfo
	// target is nil while there is none, and where it may not be read.
	target *cdtypes.ECSTarget
	// primary says that the service's production traffic is on our task set.
	primary bool
	// rollsBack: CodeDeploy is to roll this end back; impatient: it has had the
	// time to begin.
	rollsBack, impatient bool
}

// events are the lifecycle events of the deployment, in their order.
func (s cdSnapshot) events() []cdtypes.LifecycleEvent {
	if s.target == nil {
		return nil
	}
	return s.target.LifecycleEvents
}

// moved says whether all production traffic is on the green tasks, and every
// hook after that has agreed.
func moved(events []cdtypes.LifecycleEvent) bool {
	allowed := false
	for _, e := range events {
		done := e.Status == cdtypes.LifecycleEventStatusSucceeded || e.Status == cdtypes.LifecycleEventStatusSkipped
		switch aws.ToString(e.LifecycleEventName) {
		case "AllowTraffic":
			allowed = e.Status == cdtypes.LifecycleEventStatusSucceeded
		case "AfterAllowTraffic":
			allowed = allowed && done
		}
	}
	return allowed
}

// judgeCodeDeploy says where the deployment stands. It is pure.
// https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_DeploymentInfo.html
func judgeCodeDeploy(s cdSnapshot, toTheEnd bool) verdict {
	v := verdict{state: string(s.info.Status)}
	switch s.info.Status {
	case cdtypes.DeploymentStatusSucceeded:
		v.status = StatusSucceeded
	case cdtypes.DeploymentStatusFailed, cdtypes.DeploymentStatusStopped:
		v.reason = cdReason(s)
		v.status = StatusFailed
		if s.info.ErrorInformation != nil && s.info.ErrorInformation.Code == cdtypes.ErrorCodeManualStop {
			v.status = StatusStopped
		}
		back := s.info.RollbackInfo
		begun := back != nil && (aws.ToString(back.RollbackDeploymentId) != "" || aws.ToString(back.RollbackMessage) != "")
		if s.rollsBack && !begun && !s.impatient {
			v.status, v.odd, v.rolling = "", true, true // the rollback is about to begin
		}
	default:
		if !toTheEnd && (moved(s.events()) || s.target == nil && s.primary) {
			v.status = StatusSucceeded
		}
	}
	return v
}

// cdReason is why a deployment failed, in CodeDeploy's words.
func cdReason(s cdSnapshot) string {
	reason := ""
	if e := s.info.ErrorInformation; e != nil {
		reason = strings.Trim(string(e.Code)+": "+strings.TrimRight(aws.ToString(e.Message), ". "), ": ")
	}
	for _, e := range s.events() {
		if e.Status == cdtypes.LifecycleEventStatusFailed {
			if name := aws.ToString(e.LifecycleEventName); !strings.Contains(reason, name) {
				reason = strings.TrimPrefix(reason+"; lifecycle event "+name+" failed", "; ")
			}
			if d := e.Diagnostics; d != nil && aws.ToString(d.Message) != "" && !strings.Contains(reason, aws.ToString(d.Message)) {
				reason += ": " + strings.TrimRight(aws.ToString(d.Message), ". ")
			}
		}
	}
	return reason
}

// look reads the deployment, tells what is new, and judges.
func (b *blueGreen) look(ctx context.Context) (verdict, error) {
	turn := b.looks
	b.looks++
	info, err := b.c.codeDeployment(ctx, b.id)
	if err != nil {
		return verdict{}, err
	}
	b.seen.info = info
	if target, err := b.target(ctx); err != nil {
		return verdict{}, err
	} else if target != nil {
		b.seen.target = target
	}
	if b.service == nil || hasFinished(info) || turn%2 == 0 {
		if err := b.readService(ctx); err != nil {
			return verdict{}, err
		}
		if b.d.id != "" {
			b.tasks.look(ctx)
		}
	}
	b.seen.rollsBack, b.seen.impatient = b.expectsRollback(info), !b.oddSince.IsZero() && time.Since(b.oddSince) > patience
	v := judgeCodeDeploy(b.seen, b.c.opts.CodeDeploy.WaitForEnd)
	if v.odd && b.oddSince.IsZero() {
		b.oddSince = time.Now()
	}
	b.tellWay()
	if v.status == "" && !v.odd && !b.rolling {
		v = b.beyond(ctx, v)
	}
	b.tellTasks(v)
	return v, nil
}

func hasFinished(info *cdtypes.DeploymentInfo) bool {
	switch info.Status {
	case cdtypes.DeploymentStatusSucceeded, cdtypes.DeploymentStatusFailed, cdtypes.DeploymentStatusStopped:
		return true
	default:
		return false
	}
}

// expectsRollback says whether CodeDeploy follows this end of a deployment with
// a rollback.
func (b *blueGreen) expectsRollback(info *cdtypes.DeploymentInfo) bool {
	on := cdtypes.AutoRollbackEventDeploymentFailure
	if info.Status == cdtypes.DeploymentStatusStopped {
		on = cdtypes.AutoRollbackEventDeploymentStopOnRequest
		if e := info.ErrorInformation; e != nil && e.Code == cdtypes.ErrorCodeAlarmActive {
			on = cdtypes.AutoRollbackEventDeploymentStopOnAlarm
		}
	}
	return !b.back && (b.rolling || slices.Contains(b.rollbackOn, on))
}

// beyond is what CodeDeploy leaves to us: tasks that fail again and again, for
// which it waits an hour, and a deployment that waits for somebody.
func (b *blueGreen) beyond(ctx context.Context, v verdict) verdict {
	failed := b.tasks.count()
	limit := min(max((b.d.desired+1)/2, 3), 10)
	running := 0
	for _, set := range b.sets() {
		if set.TaskSetLabel == cdtypes.TargetLabelGreen {
			running = int(set.RunningCount)
		}
	}
	if failed >= limit && (running == 0 || !b.tasks.anySteady(ctx)) {
		return verdict{status: StatusFailed, reason: plural(failed, "task") + " of this deployment failed and none stays up", state: v.state, hopeless: true}
	}
	if b.seen.info.Status == cdtypes.DeploymentStatusReady && !b.c.opts.WaitAtPause && !b.continued {
		return verdict{status: StatusPaused, reason: "paused before its traffic moves", state: v.state}
	}
	return v
}

// readService reads the service: its events, and which task set is which.
func (b *blueGreen) readService(ctx context.Context) error {
	s, err := b.c.describe(ctx)
	if err != nil {
		return err
	}
	b.service, b.d.desired = s, int(s.DesiredCount)
	b.tellEvents(s)
	for _, set := range s.TaskSets {
		if aws.ToString(set.ExternalId) == b.id {
			b.take(aws.ToString(set.Id))
			b.seen.primary = aws.ToString(set.Status) == "PRIMARY" && set.StabilityStatus == ecstypes.StabilityStatusSteadyState
		}
	}
	return nil
}

// take notes the green task set.
func (b *blueGreen) take(id string) {
	if b.d.id == "" && id != "" && !b.back {
		b.d.id = id
	}
}

func (b *blueGreen) sets() []cdtypes.ECSTaskSet {
	if b.seen.target == nil {
		return nil
	}
	return b.seen.target.TaskSetsInfo
}

// target reads the deployment's one target, the service. It is nil while there
// is none and where it may not be read.
func (b *blueGreen) target(ctx context.Context) (*cdtypes.ECSTarget, error) {
	const loss = "the deployment's lifecycle events and its traffic are not shown"
	if b.targetID == "" {
		var out *cdsdk.ListDeploymentTargetsOutput
		ok, err := b.c.spare(ctx, "codedeploy:ListDeploymentTargets", loss, func() (err error) {
			out, err = b.c.codedeploy.ListDeploymentTargets(ctx, &cdsdk.ListDeploymentTargetsInput{DeploymentId: aws.String(b.id)})
			return err
		})
		switch {
		case isNotYet(err):
			return nil, nil
		case !ok || len(out.TargetIds) == 0:
			return nil, err
		}
		b.targetID = out.TargetIds[0]
	}
	var out *cdsdk.BatchGetDeploymentTargetsOutput
	ok, err := b.c.spare(ctx, "codedeploy:BatchGetDeploymentTargets", loss, func() (err error) {
		out, err = b.c.codedeploy.BatchGetDeploymentTargets(ctx, &cdsdk.BatchGetDeploymentTargetsInput{DeploymentId: aws.String(b.id), TargetIds: []string{b.targetID}})
		return err
	})
	if !ok || len(out.DeploymentTargets) == 0 {
		return nil, err
	}
	target := out.DeploymentTargets[0].EcsTarget
	if target != nil {
		for _, set := range target.TaskSetsInfo {
			if set.TaskSetLabel == cdtypes.TargetLabelGreen {
				b.take(aws.ToString(set.Identifer)) //nolint:misspell // the API spells it so
			}
		}
	}
	return target, nil
}

// isNotYet says whether the deployment has not begun to work on its target.
func isNotYet(err error) bool {
	_, early := errors.AsType[*cdtypes.DeploymentNotStartedException](err)
	return early
}

// tellWay tells each lifecycle event and each shift of traffic once.
func (b *blueGreen) tellWay() {
	e := Stage{DeploymentID: b.id, Elapsed: time.Since(b.d.since)}
	for _, event := range b.seen.events() {
		switch event.Status {
		case cdtypes.LifecycleEventStatusPending, cdtypes.LifecycleEventStatusSkipped, cdtypes.LifecycleEventStatusUnknown:
		case cdtypes.LifecycleEventStatusFailed:
			e.Stage = aws.ToString(event.LifecycleEventName) + " failed"
		default:
			e.Stage = aws.ToString(event.LifecycleEventName)
		}
	}
	if e.Stage == "" {
		return
	}
	for _, set := range b.sets() {
		if set.TaskSetLabel == cdtypes.TargetLabelGreen {
			e.Production = aws.Float64(set.TrafficWeight)
		}
	}
	if now := fmt.Sprint(e.Stage, aws.ToFloat64(e.Production)); now != b.told {
		b.told = now
		b.c.emit(e)
	}
	if b.seen.info.Status == cdtypes.DeploymentStatusReady && !b.ready {
		b.ready = true
		b.c.emit(Paused{DeploymentID: b.id, Stage: "ready to move the traffic", Until: b.readyUntil(), Then: "stopped"})
	}
}

// readyUntil is when CodeDeploy stops a deployment that nobody continues.
func (b *blueGreen) readyUntil() time.Time {
	blue := b.seen.info.BlueGreenDeploymentConfiguration
	if blue == nil || blue.DeploymentReadyOption == nil || blue.DeploymentReadyOption.WaitTimeInMinutes == 0 {
		return time.Time{}
	}
	var since time.Time
	for _, event := range b.seen.events() {
		if end := aws.ToTime(event.EndTime); end.After(since) {
			since = end
		}
	}
	if since.IsZero() {
		return since
	}
	return since.Add(time.Duration(blue.DeploymentReadyOption.WaitTimeInMinutes) * time.Minute)
}

// tellTasks tells how many green tasks run when that has changed, and now and
// then.
func (b *blueGreen) tellTasks(v verdict) {
	w := Waiting{DeploymentID: b.id, State: v.state, Desired: b.d.desired, Failed: b.tasks.count()}
	i := slices.IndexFunc(b.sets(), func(set cdtypes.ECSTaskSet) bool { return set.TaskSetLabel == cdtypes.TargetLabelGreen })
	if i >= 0 {
		set := b.sets()[i]
		w.Running, w.Pending, w.Desired = int(set.RunningCount), int(set.PendingCount), int(set.DesiredCount)
	}
	b.runs = fmt.Sprintf("%d of %s running", w.Running, plural(w.Desired, "new task"))
	if v.status != "" || w == b.last && time.Since(b.lastAt) < quiet {
		return
	}
	b.last, b.lastAt = w, time.Now()
	w.Elapsed = time.Since(b.d.since)
	b.c.emit(w)
}
