package emulator

import (
	"maps"
	"slices"
	"time"
)

const (
	// Assumed: public sources show the service's event for an alarm, not the
	// reason of the service deployment.
	alarmReason        = "Service deployment rolled back because an alarm was detected."
	alarmStoppedReason = "Service deployment stopped because an alarm was detected."
)

// SetAlarm puts a CloudWatch alarm into the state ALARM, or out of it. A
// deployment that watches it fails, unless it was in ALARM when the deployment
// began.
func (c *Cloud) SetAlarm(name string, raised bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ecs.catchUp(now)
	c.ecs.alarms[name] = raised
	if !raised {
		return
	}
	for _, cl := range slices.Sorted(maps.Keys(c.ecs.clusters)) {
		services := c.ecs.clusters[cl].services
		for _, service := range slices.Sorted(maps.Keys(services)) {
			services[service].alarmed(name, now)
		}
	}
}

// alarmed fails the deployment that is under way, where it watches the alarm.
func (s *service) alarmed(name string, now time.Time) {
	d := s.deployments[0]
	settings := s.deploymentSettings().Alarms
	if !settings.Enable || !slices.Contains(settings.AlarmNames, name) || slices.Contains(d.record.ignored, name) ||
		d.record.over() || d.record.rollback != nil || d.record.target != d || d.record.status == "ROLLBACK_REQUESTED" {
		return
	}
	d.record.alarms = append(d.record.alarms, name)
	d.rollout, d.updated = "FAILED", now
	d.reason = "ECS deployment failed: alarm detected."
	d.begun = true
	s.say(now, "(service %s) (deployment %s) deployment failed: alarm detected.", s.name, d.id)
	if settings.Rollback {
		s.rollBack(d, alarmReason, "ECS deployment alarm detected: rolling back to deploymentId %s.", now)
		s.at(now, func(time.Time) {})
		return
	}
	d.halted = true
	d.record.set("STOPPED", alarmStoppedReason, now)
}

// watch notes the alarms that are in ALARM already, which do not count.
func (s *service) watch(r *serviceDeployment) {
	for _, name := range s.deploymentSettings().Alarms.AlarmNames {
		if s.cloud.ecs.alarms[name] {
			r.ignored = append(r.ignored, name)
		}
	}
}

// bakes says whether a rolling deployment whose tasks are all well still waits
// for its alarms.
func (s *service) bakes(d *deployment, now time.Time) bool {
	if d.shift != nil || d.record.rollback != nil || d.rollout != "IN_PROGRESS" || !s.deploymentSettings().Alarms.Enable {
		return false
	}
	if d.baked.IsZero() {
		d.baked = now.Add(10 * s.cloud.opts.Pace)
		s.at(d.baked, func(time.Time) {})
	}
	return now.Before(d.baked)
}

func (s *service) alarmsJSON(r *serviceDeployment) map[string]any {
	settings := s.deploymentSettings().Alarms
	status, names, raised := "DISABLED", []string{}, []string{}
	names = append(names, settings.AlarmNames...)
	raised = append(raised, r.alarms...)
	switch {
	case !settings.Enable:
	case len(raised) > 0:
		status = "TRIGGERED"
	case r.over():
		status = "MONITORING_COMPLETE"
	default:
		status = "MONITORING"
	}
	return map[string]any{"status": status, "alarmNames": names, "triggeredAlarmNames": raised}
}
