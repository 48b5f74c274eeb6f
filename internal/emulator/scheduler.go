package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// appointment is something that happens at a time.
type appointment struct {
	at     time.Time
	serial int
	do     func(now time.Time)
}

const (
	// maxBackoff is the longest pause of the scheduler between failing tasks.
	maxBackoff = 27 * time.Minute
	// stoppedVisible is how long a stopped task can be described.
	stoppedVisible = time.Hour
	// patience is how many tasks may fail before the scheduler pauses.
	patience = 3
)

// at makes an appointment, in order of time and then of making.
func (s *service) at(when time.Time, do func(now time.Time)) {
	s.serial++
	a := appointment{at: when, serial: s.serial, do: do}
	i, _ := slices.BinarySearchFunc(s.agenda, a, func(x, y appointment) int {
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.serial, y.serial))
	})
	s.agenda = slices.Insert(s.agenda, i, a)
}

// catchUp runs what has come due, each at its own time, as though the
// scheduler had been at work all along.
func (s *service) catchUp(now time.Time) {
	for len(s.agenda) > 0 && !s.agenda[0].at.After(now) {
		at := s.agenda[0].at
		for len(s.agenda) > 0 && s.agenda[0].at.Equal(at) {
			next := s.agenda[0]
			s.agenda = s.agenda[1:]
			next.do(at)
		}
		s.reconcile(at)
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(t *task) bool {
		return t.lastStatus == "STOPPED" && now.Sub(t.stopped) > stoppedVisible
	})
}

// alive lists the tasks of a deployment, or of all, that are to run.
func (s *service) alive(d *deployment) []*task {
	var out []*task
	for _, t := range s.tasks {
		if t.desired == "RUNNING" && (d == nil || t.deployment == d) {
			out = append(out, t)
		}
	}
	return out
}

func healthy(tasks []*task) int {
	n := 0
	for _, t := range tasks {
		if t.good {
			n++
		}
	}
	return n
}

// reconcile brings the tasks nearer to what is desired: it starts and stops
// within the bounds and finds out whether the deployment is done.
func (s *service) reconcile(now time.Time) {
	primary := s.deployments[0]
	if !primary.begun {
		return
	}
	if s.controller() == "CODE_DEPLOY" {
		s.reconcileSets(now)
		return
	}
	s.dropDrained()
	started, stopped := 0, 0
	if primary.moving() {
		s.settled = false
		s.advance(primary, now)
		if primary.shift.stage != "CLEAN_UP" {
			return
		}
		s.complete(primary, now)
		return
	}
	if !primary.halted {
		started = s.scale(primary, now)
		stopped = s.drain(primary, now)
	}
	if started+stopped > 0 {
		s.settled = false
	}
	s.complain(primary, started+stopped, now)
	s.complete(primary, now)
}

// scale starts the tasks that the primary deployment lacks, as far as the
// maximum allows, or stops those that it has too many.
func (s *service) scale(primary *deployment, now time.Time) (changed int) {
	mine := s.alive(primary)
	_, most := s.bounds()
	lack := s.desired - len(mine)
	if lack < 0 {
		surplus := mine[s.desired:]
		s.stopTasks(surplus, primary, now)
		return len(surplus)
	}
	n := min(lack, most-len(s.alive(nil)))
	if n <= 0 || now.Before(primary.nextLaunch) {
		return 0
	}
	s.start(primary, n, now)
	return n
}

// start starts n tasks, unless the scheduler pauses between failing ones.
func (s *service) start(d *deployment, n int, now time.Time) {
	if now.Before(d.nextLaunch) {
		return
	}
	var names []string
	for range n {
		names = append(names, "(task "+s.launch(d, nil, now).id+")")
	}
	s.say(now, "(service %s) has started %d tasks: %s.", s.name, n, strings.Join(names, " "))
}

// drain stops tasks of other deployments, those that are not well first, as
// long as enough healthy ones remain.
func (s *service) drain(primary *deployment, now time.Time) int {
	least, _ := s.bounds()
	well := healthy(s.alive(nil))
	var ending []*task
	for _, wantWell := range []bool{false, true} {
		for _, t := range s.alive(nil) {
			if t.deployment == primary || t.good != wantWell {
				continue
			}
			if t.good {
				if well <= least {
					continue
				}
				well--
			}
			ending = append(ending, t)
		}
	}
	s.stopTasks(ending, primary, now)
	return len(ending)
}

type loadBalancer struct {
	TargetGroupArn string
	ContainerPort  int
}

// loadBalancers lists the service's target groups.
func (s *service) loadBalancers() []loadBalancer {
	var out []loadBalancer
	if raw, set := s.settings["loadBalancers"]; !set || json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return slices.DeleteFunc(out, func(lb loadBalancer) bool { return lb.TargetGroupArn == "" })
}

func (s *service) stopTasks(tasks []*task, primary *deployment, now time.Time) {
	var names []string
	for _, t := range tasks {
		if t.lastStatus == "RUNNING" {
			names = append(names, "(task "+t.id+")")
		}
		t.stop(now, "ServiceSchedulerInitiated", fmt.Sprintf("Scaling activity initiated by (deployment %s)", primary.id))
	}
	for _, lb := range s.loadBalancers() {
		if len(names) > 0 {
			s.say(now, "(service %s) deregistered %d targets in (target-group %s)", s.name, len(names), lb.TargetGroupArn)
		}
	}
	if len(names) > 0 {
		s.say(now, "(service %s) has stopped %d running tasks: %s.", s.name, len(names), strings.Join(names, " "))
	}
}

// complain says so when the bounds leave nothing to do for good.
func (s *service) complain(primary *deployment, changed int, now time.Time) {
	if changed > 0 || primary.halted || len(s.alive(primary)) >= s.desired || now.Before(primary.nextLaunch) {
		return
	}
	for _, t := range s.tasks {
		if t.lastStatus != "STOPPED" && (t.lastStatus != "RUNNING" || !t.good) {
			return
		}
	}
	s.grumble(now, "(service %s) was unable to stop or start tasks during a deployment because of the service deployment configuration. "+
		"Update the minimumHealthyPercent or maximumPercent value and try again.", s.name)
}

// complete ends the primary deployment when it is done, and announces the
// steady state.
func (s *service) complete(primary *deployment, now time.Time) {
	mine := s.alive(primary)
	if len(s.deployments) > 1 || len(mine) != s.desired || healthy(mine) != s.desired || s.bakes(primary, now) {
		return
	}
	if primary.rollout == "IN_PROGRESS" {
		primary.rollout, primary.updated = "COMPLETED", now
		primary.reason = fmt.Sprintf("ECS deployment %s completed.", primary.id)
		primary.record.complete(now)
		primary.failed, primary.rounds = 0, 0
		s.candidate = primary
		s.settled = false
		s.say(now, "(service %s) (deployment %s) deployment completed.", s.name, primary.id)
	}
	if !s.settled {
		s.say(now, "(service %s) has reached a steady state.", s.name)
		s.settled = true
		clear(s.grumbled)
	}
}

// dropDrained forgets deployments whose tasks have all stopped.
func (s *service) dropDrained() {
	s.deployments = slices.DeleteFunc(s.deployments, func(d *deployment) bool {
		return d.status != "PRIMARY" && !slices.ContainsFunc(s.tasks, func(t *task) bool {
			return t.deployment == d && t.lastStatus != "STOPPED"
		})
	})
}

// taskFailed counts a task that ended by itself before it was well.
func (s *service) taskFailed(t *task, now time.Time) {
	s.settled = false
	if t.stopCode == "TaskFailedToStart" {
		s.grumble(now, "(service %s) was unable to place a task. Reason: %s.", s.name, strings.TrimSuffix(t.stoppedReason, "."))
	}
	if t.good {
		return
	}
	d := t.deployment
	d.failed++
	d.updated = now
	breaker := s.deploymentSettings().DeploymentCircuitBreaker
	if breaker.Enable && d.status == "PRIMARY" && d.rollout == "IN_PROGRESS" {
		if d.failed >= s.threshold() {
			s.trip(d, breaker.Rollback, now)
		}
		return
	}
	if d.failed < patience || now.Before(d.nextLaunch) {
		return
	}
	pause := maxBackoff
	if d.rounds < 12 {
		pause = min(maxBackoff, s.cloud.opts.Pace*10<<d.rounds)
	}
	d.rounds++
	d.nextLaunch = now.Add(pause)
	s.at(d.nextLaunch, func(time.Time) {})
	s.grumble(now, "(service %s) is unable to consistently start tasks successfully. "+
		"For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.", s.name)
}

// taskWell counts a task that became healthy.
func (s *service) taskWell(t *task) {
	t.good = true
	reset := s.deploymentSettings().DeploymentCircuitBreaker.ResetOnHealthyTask
	if reset == nil || *reset {
		t.deployment.failed, t.deployment.rounds = 0, 0
	}
}

// threshold is how many failing tasks trip the circuit breaker.
func (s *service) threshold() int {
	kind, value := "BOUNDED_PERCENT", 50
	if t := s.deploymentSettings().DeploymentCircuitBreaker.ThresholdConfiguration; t != nil {
		kind, value = t.Type, t.Value
	}
	part := (s.desired*value + 99) / 100
	switch kind {
	case "COUNT":
		return value
	case "UNBOUNDED_PERCENT":
		return max(part, 1)
	default:
		return min(max(part, 3), 200)
	}
}
