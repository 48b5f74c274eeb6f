package emulator

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// shift is the way of a deployment that moves traffic: blue/green, linear,
// canary.
type shift struct {
	stage string
	// production and test are the new tasks' shares of the traffic, in percent.
	production, test float64
	// steps are the shares still to come; pause is how long each but the last
	// is left to prove itself, bake how long the end is.
	steps       []float64
	pause, bake time.Duration
	hooks       []lifecycleHook
	// details are the hooks that have begun.
	details []*hookDetail
}

type lifecycleHook struct {
	TargetType, HookTargetArn string
	LifecycleStages           []string
	TimeoutConfiguration      struct {
		TimeoutInMinutes *int
		Action           string
	}
}

// hookDetail is a hook at work.
type hookDetail struct {
	id, kind, target, status, then string
	expires                        time.Time
}

// HookInfo is a Lambda hook that is called.
type HookInfo struct {
	Cluster, Service, Stage string
	// DeploymentID is ecs-svc/N.
	DeploymentID string
	// TargetARN is the function's.
	TargetARN string
}

// HookEnd is what a Lambda hook answers.
type HookEnd struct {
	// After is how long it takes. Default: one pace.
	After time.Duration
	// Failed fails the deployment.
	Failed bool
}

// Hooks decides what Lambda hooks answer. f must not call the cloud. Nil: all
// succeed.
func (c *Cloud) Hooks(f func(HookInfo) HookEnd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ecs.hooks = f
}

// newShift is the way that the service's configuration says, or nil for a
// rolling deployment.
func (s *service) newShift() *shift {
	settings := s.deploymentSettings()
	minutes := func(n *int, otherwise int) time.Duration {
		if n != nil {
			otherwise = *n
		}
		return time.Duration(otherwise) * s.cloud.opts.Minute
	}
	share := func(n *float64, otherwise float64) float64 {
		if n != nil {
			return *n
		}
		return otherwise
	}
	sh := &shift{bake: minutes(settings.BakeTimeInMinutes, 0), hooks: settings.LifecycleHooks}
	switch settings.Strategy {
	case "BLUE_GREEN":
	case "CANARY":
		sh.steps = []float64{share(settings.CanaryConfiguration.CanaryPercent, 5)}
		sh.pause = minutes(settings.CanaryConfiguration.CanaryBakeTimeInMinutes, 10)
	case "LINEAR":
		step := share(settings.LinearConfiguration.StepPercent, 10)
		for at := step; at < 100; at += step {
			sh.steps = append(sh.steps, math.Round(at*10)/10)
		}
		sh.pause = minutes(settings.LinearConfiguration.StepBakeTimeInMinutes, 6)
	default:
		return nil
	}
	if len(sh.steps) == 0 || sh.steps[len(sh.steps)-1] < 100 {
		sh.steps = append(sh.steps, 100)
	}
	return sh
}

// stages are those of a deployment in their order; those of the production
// traffic come once for each step.
func stages() []string {
	return []string{
		"RECONCILE_SERVICE", "PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT",
		"PRE_PRODUCTION_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME", "CLEAN_UP",
	}
}

// moving says whether a deployment goes its way forward.
func (d *deployment) moving() bool {
	return d.shift != nil && d.status == "PRIMARY" && !d.halted && d.record.rollback == nil && !d.record.over()
}

// enter begins a stage: its change of traffic, then its hooks, then what
// follows.
func (s *service) enter(d *deployment, stage string, now time.Time) {
	if !d.moving() || d.record.status != "IN_PROGRESS" {
		return
	}
	d.shift.stage, d.record.updated = stage, now
	d.shift.details = nil
	switch stage {
	case "TEST_TRAFFIC_SHIFT":
		d.shift.test = 100
	case "PRODUCTION_TRAFFIC_SHIFT":
		d.shift.production = d.shift.steps[0]
		d.shift.steps = d.shift.steps[1:]
	}
	for _, h := range d.shift.hooks {
		if slices.Contains(h.LifecycleStages, stage) {
			s.beginHook(d, h, now)
		}
	}
	s.proceed(d, stage, now)
}

// proceed leaves a stage once its hooks are done. The scheduler itself leaves
// SCALE_UP and CLEAN_UP.
func (s *service) proceed(d *deployment, stage string, now time.Time) {
	done := func(h *hookDetail) bool { return h.status == "SUCCEEDED" }
	if !d.moving() || d.shift.stage != stage || slices.ContainsFunc(d.shift.details, func(h *hookDetail) bool { return !done(h) }) {
		return
	}
	order := stages()
	next := slices.Index(order, stage) + 1
	wait := s.cloud.opts.Pace
	switch stage {
	case "SCALE_UP", "CLEAN_UP":
		return
	case "PRODUCTION_TRAFFIC_SHIFT":
		if len(d.shift.steps) > 0 {
			next = slices.Index(order, "PRE_PRODUCTION_TRAFFIC_SHIFT")
			wait += d.shift.pause
		}
	case "BAKE_TIME":
		wait += d.shift.bake
	}
	s.at(now.Add(wait), func(now time.Time) {
		if d.moving() && d.shift.stage == stage {
			s.enter(d, order[next], now)
		}
	})
}

func (s *service) beginHook(d *deployment, h lifecycleHook, now time.Time) {
	stage := d.shift.stage
	detail := &hookDetail{id: s.cloud.unique("hook")[:20], kind: h.TargetType, target: h.HookTargetArn, then: h.TimeoutConfiguration.Action}
	d.shift.details = append(d.shift.details, detail)
	if detail.then == "" {
		detail.then = "ROLLBACK"
	}
	timeout := 24 * time.Hour
	if n := h.TimeoutConfiguration.TimeoutInMinutes; n != nil {
		timeout = time.Duration(*n) * time.Minute
	}
	detail.expires = now.Add(timeout)
	if h.TargetType == "PAUSE" {
		detail.status = "AWAITING_ACTION"
		s.at(detail.expires, func(now time.Time) {
			if detail.status == "AWAITING_ACTION" {
				// Assumed: the text of a pause that ran out.
				s.endHook(d, detail, stage, detail.then == "CONTINUE", "Service deployment rolled back because a pause hook at "+stage+" timed out.", now)
			}
		})
		return
	}
	detail.kind, detail.status = "AWS_LAMBDA", "IN_PROGRESS"
	end := HookEnd{}
	if s.cloud.ecs.hooks != nil {
		end = s.cloud.ecs.hooks(HookInfo{Cluster: s.cluster.name, Service: s.name, Stage: stage, DeploymentID: d.id, TargetARN: h.HookTargetArn})
	}
	if end.After == 0 {
		end.After = s.cloud.opts.Pace
	}
	s.at(now.Add(end.After), func(now time.Time) {
		s.endHook(d, detail, stage, !end.Failed, "Service deployment rolled back because "+stage+" lifecycle hook(s) failed. "+
			"Lifecycle hook target "+h.HookTargetArn+" returned FAILED status.", now)
	})
}

// endHook lets the deployment go on, or fails it.
func (s *service) endHook(d *deployment, detail *hookDetail, stage string, well bool, reason string, now time.Time) {
	if !d.moving() || d.shift.stage != stage {
		return
	}
	if !well {
		detail.status = "FAILED"
		s.say(now, "(service %s) (deployment %s) deployment failed: %s", s.name, d.id, reason)
		d.rollout, d.updated = "FAILED", now
		s.rollBack(d, reason, "ECS deployment rolling back to deploymentId %s.", now)
		s.at(now, func(time.Time) {})
		return
	}
	detail.status = "SUCCEEDED"
	s.proceed(d, stage, now)
}

// advance is reconcile for a deployment that moves traffic: all new tasks
// first, the old ones stay until the end.
func (s *service) advance(d *deployment, now time.Time) {
	mine := s.alive(d)
	switch d.shift.stage {
	case "", "RECONCILE_SERVICE", "PRE_SCALE_UP":
		return
	case "CLEAN_UP":
		var old []*task
		for _, t := range s.alive(nil) {
			if t.deployment != d {
				old = append(old, t)
			}
		}
		s.stopTasks(old, d, now)
	}
	if lack := s.desired - len(mine); lack > 0 {
		s.start(d, lack, now)
	} else if lack < 0 {
		s.stopTasks(mine[s.desired:], d, now)
	}
	mine = s.alive(d)
	if d.shift.stage == "SCALE_UP" && len(mine) == s.desired && healthy(mine) == s.desired {
		s.enter(d, "POST_SCALE_UP", now)
	}
}

// json is a hook as DescribeServiceDeployments shows it.
func (h *hookDetail) json() map[string]any {
	out := map[string]any{"hookId": h.id, "status": h.status, "targetType": h.kind, "expiresAt": epoch(h.expires), "timeoutAction": h.then}
	if h.target != "" {
		out["targetArn"] = h.target
	}
	return out
}

// shiftJSON adds to a service deployment what is known of its way.
func (s *service) shiftJSON(r *serviceDeployment, target map[string]any, sources []any, out map[string]any) {
	sh := r.target.shift
	if sh == nil {
		return
	}
	production, test := sh.production, sh.test
	if r.rollback != nil {
		production, test = 0, 0
	}
	target["requestedProductionTrafficWeight"], target["requestedTestTrafficWeight"] = production, test
	for i, source := range sources {
		weight := 0.0
		if i == 0 {
			weight = math.Round((100-production)*10) / 10
		}
		if m, ok := source.(map[string]any); ok {
			m["requestedProductionTrafficWeight"], m["requestedTestTrafficWeight"] = weight, 0.0
		}
	}
	if sh.stage != "" {
		out["lifecycleStage"] = sh.stage
	}
	details := []any{}
	for _, h := range sh.details {
		details = append(details, h.json())
	}
	out["lifecycleHookDetails"] = details
}

func (c *Cloud) continueServiceDeployment(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct{ ServiceDeploymentArn, HookID, Action string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	s, r := c.findRecord(in.ServiceDeploymentArn)
	if r == nil {
		return nil, refuse("ServiceDeploymentNotFoundException", "Service deployment not found.")
	}
	if in.Action != "" && in.Action != "CONTINUE" && in.Action != "ROLLBACK" {
		return nil, refuse("InvalidParameterException", "The action %s is not supported.", in.Action)
	}
	if d := r.target; d.moving() {
		for _, h := range d.shift.details {
			if h.id == in.HookID && h.status == "AWAITING_ACTION" {
				s.endHook(d, h, d.shift.stage, in.Action != "ROLLBACK", requestedReason, q.now)
				return map[string]any{"serviceDeploymentArn": r.arn}, nil
			}
		}
	}
	// Assumed: the refusal's text.
	return nil, refuse("ConflictException", "The lifecycle hook %s is not awaiting an action.", in.HookID)
}

// strategyOf refuses a configuration that ECS would.
func strategyOf(raw json.RawMessage, balancers json.RawMessage) error {
	var settings deploymentSettings
	if err := json.Unmarshal(raw, &settings); err != nil {
		return refuse("SerializationException", "%v", err)
	}
	switch settings.Strategy {
	case "", "ROLLING":
		return nil
	case "BLUE_GREEN", "LINEAR", "CANARY":
	default:
		return refuse("InvalidParameterException", "Invalid deployment strategy: %s", settings.Strategy)
	}
	var list []map[string]json.RawMessage
	if len(balancers) > 0 && json.Unmarshal(balancers, &list) == nil {
		for _, each := range list {
			if len(each["advancedConfiguration"]) == 0 {
				return refuse("InvalidParameterException", "advancedConfiguration field is required for all loadBalancers when using a non-ROLLING deployment strategy")
			}
		}
	}
	return nil
}
