package emulator

import (
	"fmt"
	"time"
)

// serviceDeployment is the record of one deployment, which stays.
type serviceDeployment struct {
	arn, status, reason string

	created, started, finished, stopped, updated time.Time

	target  *deployment
	sources []*deployment
	// tripped is whether the circuit breaker fired.
	tripped bool
	// alarms are those that went off, ignored those that had before it began.
	alarms, ignored []string
	rollback        *rollback
}

type rollback struct {
	reason  string
	started time.Time
	to      *deployment
}

func (r *serviceDeployment) set(status, reason string, now time.Time) {
	r.status, r.updated = status, now
	if reason != "" {
		r.reason = reason
	}
	switch status {
	case "SUCCESSFUL", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED":
		r.finished = now
	case "STOPPED":
		r.finished, r.stopped = now, now
	}
}

// complete ends the record well, or its rollback.
func (r *serviceDeployment) complete(now time.Time) {
	if r.rollback != nil {
		r.set("ROLLBACK_SUCCESSFUL", "", now)
		return
	}
	r.set("SUCCESSFUL", "", now)
}

// over reports whether the record is in a final state.
func (r *serviceDeployment) over() bool { return !r.finished.IsZero() }

const (
	breakerReason = "Service deployment rolled back because the circuit breaker threshold was exceeded."
	noCandidate   = "No rollback candidate was found to run the rollback."
	// Assumed: public sources show these two states without their texts.
	requestedReason  = "Service deployment rolled back because of a request to stop it."
	supersededReason = "Service deployment stopped because a newer service deployment replaced it."
)

// trip fails a deployment by its circuit breaker.
func (s *service) trip(d *deployment, back bool, now time.Time) {
	d.rollout, d.updated = "FAILED", now
	d.reason = "ECS deployment circuit breaker: tasks failed to start."
	s.say(now, "(service %s) (deployment %s) deployment failed: tasks failed to start.", s.name, d.id)
	rolledBack := d.record.rollback != nil
	d.record.tripped = true
	switch {
	case rolledBack:
		d.halted = true
		d.record.set("ROLLBACK_FAILED", "", now)
	case back:
		s.rollBack(d, breakerReason, "ECS deployment circuit breaker: rolling back to deploymentId %s.", now)
	default:
		d.halted = true
		// Assumed: the text of a breaker that does not roll back.
		d.record.set("STOPPED", "Service deployment stopped because the circuit breaker threshold was exceeded.", now)
	}
}

// rollBack makes the last completed deployment the PRIMARY again.
func (s *service) rollBack(d *deployment, reason, rolloutReason string, now time.Time) {
	target := s.candidate
	if target == nil || target == d {
		d.halted = true
		d.record.rollback = &rollback{reason: reason, started: now}
		d.record.set("ROLLBACK_FAILED", noCandidate, now)
		return
	}
	s.say(now, "(service %s) rolling back to deployment %s.", s.name, target.id)
	d.status = "ACTIVE"
	target.status, target.rollout, target.updated = "PRIMARY", "IN_PROGRESS", now
	target.reason = fmt.Sprintf(rolloutReason, target.id)
	target.begun, target.halted, target.failed, target.rounds, target.nextLaunch = true, false, 0, 0, time.Time{}
	target.record, target.shift = d.record, nil
	d.record.rollback = &rollback{reason: reason, started: now, to: target}
	d.record.set("ROLLBACK_IN_PROGRESS", reason, now)
	others := []*deployment{target}
	for _, each := range s.deployments {
		if each != target {
			others = append(others, each)
		}
	}
	s.deployments = others
}

// deploy starts a deployment of def, which replaces one that goes on.
func (s *service) deploy(def *taskDefinition, now time.Time) {
	d := s.newDeployment(def, now)
	d.shift = s.newShift()
	s.watch(d.record)
	for _, old := range s.deployments {
		old.status = "ACTIVE"
		if !old.record.over() {
			old.record.set("STOPPED", supersededReason, now)
		}
	}
	s.deployments = append([]*deployment{d}, s.deployments...)
	s.settled = false
	s.at(now.Add(s.cloud.opts.Pace/2), func(now time.Time) {
		d.begun = true
		if d.record.status == "PENDING" {
			d.record.set("IN_PROGRESS", "", now)
			d.record.started = now
		}
		if d.shift != nil {
			first := "PRE_SCALE_UP"
			if len(s.deployments) > 2 {
				first = "RECONCILE_SERVICE"
			}
			s.enter(d, first, now)
		}
	})
}

// requestRollback stops the deployment of a record, which is still going on.
func (s *service) requestRollback(r *serviceDeployment, now time.Time) {
	r.set("ROLLBACK_REQUESTED", "", now)
	s.at(now.Add(s.cloud.opts.Pace), func(now time.Time) {
		d := r.target
		if r.status != "ROLLBACK_REQUESTED" {
			return
		}
		d.rollout, d.updated, d.begun = "FAILED", now, true
		d.reason = requestedReason
		s.rollBack(d, requestedReason, "ECS deployment rolling back to deploymentId %s.", now)
	})
}
