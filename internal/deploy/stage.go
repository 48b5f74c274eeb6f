package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// shown is what has been told of a deployment's way.
type shown struct {
	stage            string
	production, test float64 // -1: ECS does not say
	hook             string
	alarms           bool
}

// tellStage tells at which stage the deployment is, how the traffic is shared,
// whether a hook holds it and which alarms have gone off, each at its change.
func (f *follower) tellStage(state *ecstypes.ServiceDeployment) {
	if state == nil {
		return
	}
	now := f.shown
	now.stage, now.production, now.test = string(state.LifecycleStage), -1, -1
	e := Stage{DeploymentID: f.d.id, Stage: now.stage, Elapsed: time.Since(f.d.since)}
	if t := state.TargetServiceRevision; t != nil {
		e.Production, e.Test = t.RequestedProductionTrafficWeight, t.RequestedTestTrafficWeight
	}
	if e.Production != nil {
		now.production = *e.Production
	}
	if e.Test != nil {
		now.test = *e.Test
	}
	if now.stage != "" && now != f.shown {
		f.c.emit(e)
	}
	if hook := held(state); hook != nil && aws.ToString(hook.HookId) != now.hook {
		now.hook = aws.ToString(hook.HookId)
		f.c.emit(Paused{
			DeploymentID: f.d.id, HookID: now.hook, Stage: now.stage, Until: aws.ToTime(hook.ExpiresAt), Then: string(hook.TimeoutAction),
		})
	}
	if names := raised(state); len(names) > 0 && !now.alarms {
		now.alarms = true
		f.c.emit(AlarmRaised{Names: names})
	}
	f.shown = now
}

// held is the hook that waits for somebody's decision, or nil.
func held(state *ecstypes.ServiceDeployment) *ecstypes.DeploymentLifecycleHookDetail {
	if state == nil {
		return nil
	}
	i := slices.IndexFunc(state.LifecycleHookDetails, func(h ecstypes.DeploymentLifecycleHookDetail) bool {
		return h.Status == ecstypes.DeploymentLifecycleHookStatusAwaitingAction
	})
	if i < 0 {
		return nil
	}
	return &state.LifecycleHookDetails[i]
}

// pauseText says where and until when a deployment is held.
func pauseText(state *ecstypes.ServiceDeployment, hook *ecstypes.DeploymentLifecycleHookDetail) string {
	text := "held at " + stageName(string(state.LifecycleStage)) + " by a pause hook"
	if hook.ExpiresAt != nil {
		text += fmt.Sprintf(" until %s", hook.ExpiresAt.UTC().Format("2006-01-02 15:04 MST"))
	}
	switch hook.TimeoutAction {
	case ecstypes.DeploymentLifecycleHookActionContinue:
		text += ", then it goes on by itself"
	case ecstypes.DeploymentLifecycleHookActionRollback:
		text += ", then it is rolled back"
	}
	return text
}

// stageName is ECS's word for a stage as people write it.
func stageName(stage string) string { return strings.ToLower(strings.ReplaceAll(stage, "_", " ")) }

// raised names the alarms that fail the deployment.
func raised(state *ecstypes.ServiceDeployment) []string {
	if state.Alarms == nil || state.Alarms.Status != ecstypes.ServiceDeploymentRollbackMonitorsStatusTriggered {
		return nil
	}
	if len(state.Alarms.TriggeredAlarmNames) > 0 {
		return state.Alarms.TriggeredAlarmNames
	}
	return state.Alarms.AlarmNames
}
