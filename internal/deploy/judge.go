package deploy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// snapshot is what AWS says of the deployment at one moment, and what the
// follower has seen before.
type snapshot struct {
	service *ecstypes.Service
	// state is our service deployment; nil while it is not found or where it
	// may not be read.
	state *ecstypes.ServiceDeployment
	// rolling: a rollback of ours has been seen or asked for.
	rolling bool
	// events are the service's messages since our deployment began.
	events []string
	// impatient: it has been odd for a while.
	impatient bool
}

// verdict is what a snapshot means. An empty status: the deployment goes on.
type verdict struct {
	status Status
	// reason is one line, in ECS's own words where it has any.
	reason string
	// sequel is what came of it afterwards: "rolled back to web:1".
	sequel string
	// state is ECS's word for where the deployment stands.
	state string
	// rolling: the service is going back.
	rolling bool
	// hopeless: ECS would go on, but its tasks keep failing.
	hopeless bool
	// abandoned: it was given up from outside.
	abandoned bool
	// noWayBack: a rollback was tried and has failed.
	noWayBack bool
	// odd: ECS's answer cannot be its last word: a failed deployment that it
	// has yet to roll back, or an answer from before our update (its reads are
	// eventually consistent). If it stays so, it is.
	odd bool
	// blind: ECS gives nothing to judge by.
	blind bool
}

// judge says where the deployment stands. It is pure.
func judge(d *deployment, s snapshot) verdict {
	v := judgeRollout
	if s.state != nil {
		v = judgeState
	}
	return awaitCount(d, s, v(d, s))
}

// awaitCount takes back the success of a deployment that was completed before
// its number of tasks was changed, until that number runs.
func awaitCount(d *deployment, s snapshot, v verdict) verdict {
	now := primary(s.service)
	if d.scaling && v.status == StatusSucceeded && now != nil && aws.ToString(now.Id) == d.id &&
		(now.RunningCount != s.service.DesiredCount || now.PendingCount != 0) {
		v.status = ""
	}
	return v
}

// judgeState goes by the service deployment's status.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html
func judgeState(d *deployment, s snapshot) verdict {
	v := verdict{state: string(s.state.Status), reason: stateReason(s.state)}
	switch s.state.Status {
	case ecstypes.ServiceDeploymentStatusSuccessful:
		v.status = StatusSucceeded
	case ecstypes.ServiceDeploymentStatusRollbackRequested, ecstypes.ServiceDeploymentStatusRollbackInProgress:
		v.rolling = true
	case ecstypes.ServiceDeploymentStatusRollbackSuccessful:
		v.status = StatusRolledBack
	case ecstypes.ServiceDeploymentStatusRollbackFailed:
		v.status, v.noWayBack = StatusFailed, true
		v.reason = strings.TrimSuffix("the rollback failed: "+v.reason, ": ")
	case ecstypes.ServiceDeploymentStatusStopped:
		v.status, v.reason = judgeStopped(d, s)
	default:
		// PENDING, IN_PROGRESS, STOP_REQUESTED, and whatever ECS may invent:
		// not over.
	}
	return v
}

// judgeStopped tells apart the three ways to STOPPED: replaced by a newer
// deployment, failed where nothing rolls back, stopped by somebody.
func judgeStopped(d *deployment, s snapshot) (Status, string) {
	reason := stateReason(s.state)
	now, ours := primary(s.service), named(s.service, d.id)
	switch {
	case triggered(s.state) || ours != nil && ours.RolloutState == ecstypes.DeploymentRolloutStateFailed:
		if reason == "" && ours != nil {
			reason = aws.ToString(ours.RolloutStateReason)
		}
		return StatusFailed, reason
	case now != nil && aws.ToString(now.Id) != d.id && !isOlder(now, d):
		return StatusSuperseded, replacedBy(now)
	case mentions(reason, "supersed", "newer", "new deployment", "new service deployment", "another deployment"):
		return StatusSuperseded, reason
	default:
		return StatusStopped, reason
	}
}

// triggered says whether ECS's own watch over the deployment has gone off.
func triggered(state *ecstypes.ServiceDeployment) bool {
	const off = ecstypes.ServiceDeploymentRollbackMonitorsStatusTriggered
	return state.DeploymentCircuitBreaker != nil && state.DeploymentCircuitBreaker.Status == off ||
		state.Alarms != nil && state.Alarms.Status == off
}

// judgeRollout goes by the deployments in DescribeServices' answer.
func judgeRollout(d *deployment, s snapshot) verdict {
	ours, now := named(s.service, d.id), primary(s.service)
	if ours == nil || now == nil || aws.ToString(now.Id) != d.id {
		return judgeReplaced(d, s, ours, now)
	}
	v := verdict{state: string(ours.RolloutState), reason: aws.ToString(ours.RolloutStateReason), rolling: s.rolling}
	switch ours.RolloutState {
	case ecstypes.DeploymentRolloutStateCompleted:
		v.status, v.rolling = StatusSucceeded, false
	case ecstypes.DeploymentRolloutStateFailed:
		if d.breaker.rollback && !s.impatient {
			v.rolling, v.odd = true, true // ECS is about to begin it
		} else {
			v.status = StatusFailed
		}
	case "":
		v.blind = true
	}
	return v
}

// judgeReplaced is for a deployment that is no longer the service's newest: a
// rollback, or somebody else's.
func judgeReplaced(d *deployment, s snapshot, ours, now *ecstypes.Deployment) verdict {
	why, rolledBack := rollbackSign(d, s, ours, now)
	switch {
	case !rolledBack && !s.rolling && completed(d, s.events):
		// Somebody deployed again between two looks.
		return verdict{status: StatusSucceeded, state: string(ecstypes.DeploymentRolloutStateCompleted)}
	case rolledBack || s.rolling:
	case isOlder(now, d) && !s.impatient:
		return verdict{state: "IN_PROGRESS", odd: true}
	case isOlder(now, d):
		why = "the service is back on deployment " + aws.ToString(now.Id)
	default:
		return verdict{status: StatusSuperseded, reason: replacedBy(now), state: "gone"}
	}
	v := verdict{reason: why, state: "ROLLBACK_IN_PROGRESS", rolling: true}
	if now == nil {
		return v
	}
	switch now.RolloutState {
	case ecstypes.DeploymentRolloutStateCompleted:
		v.status = StatusRolledBack
	case ecstypes.DeploymentRolloutStateFailed:
		v.status, v.noWayBack = StatusFailed, true
		v.reason = "the rollback failed: " + aws.ToString(now.RolloutStateReason)
	}
	return v
}

// isOlder says whether the deployment was there before ours.
func isOlder(now *ecstypes.Deployment, d *deployment) bool {
	return now != nil && now.CreatedAt != nil && now.CreatedAt.Before(d.since)
}

// rollbackSign looks for ECS's statement that it gave our deployment up.
func rollbackSign(d *deployment, s snapshot, ours, now *ecstypes.Deployment) (string, bool) {
	if ours != nil {
		reason := aws.ToString(ours.RolloutStateReason)
		if ours.RolloutState == ecstypes.DeploymentRolloutStateFailed || mentions(reason, "circuit breaker", "rolling back", "alarm") {
			return reason, true
		}
	}
	for _, e := range s.events {
		if strings.Contains(e, "(deployment "+d.id+") deployment failed") ||
			now != nil && strings.Contains(e, "rolling back to deployment "+aws.ToString(now.Id)) {
			return e, true
		}
	}
	return "", false
}

// completed looks for ECS's statement that our deployment was completed.
func completed(d *deployment, events []string) bool {
	return slices.ContainsFunc(events, func(e string) bool {
		return strings.Contains(e, "(deployment "+d.id+") deployment completed")
	})
}

func replacedBy(now *ecstypes.Deployment) string {
	if now == nil {
		return "the deployment is gone"
	}
	return fmt.Sprintf("replaced by deployment %s of %s", aws.ToString(now.Id), lastPart(aws.ToString(now.TaskDefinition)))
}

func stateReason(state *ecstypes.ServiceDeployment) string {
	reason := aws.ToString(state.StatusReason)
	if reason == "" && state.Rollback != nil {
		reason = aws.ToString(state.Rollback.Reason)
	}
	if names := raised(state); len(names) > 0 {
		reason = strings.TrimPrefix(reason+" (alarm "+strings.Join(names, ", ")+")", " ")
	}
	return reason
}

// mentions says whether text holds one of the words, in any case.
func mentions(text string, words ...string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
