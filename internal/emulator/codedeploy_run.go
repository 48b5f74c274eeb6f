package emulator

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// installLimit is how long CodeDeploy waits for the green tasks.
const installLimit = time.Hour

// codeDeployment is one deployment of CodeDeploy.
type codeDeployment struct {
	id, status, description, content, sum, config string

	group   *DeploymentGroup
	service *service
	def     *taskDefinition
	// blue and green are the service's task sets; green is nil until Install.
	blue, green *deployment
	// weight is how much of the traffic is on green, in percent.
	weight float64
	events []*lifecycleEvent
	// next is the event that a deployment waits before.
	next        int
	rollbackOn  []string
	terminating bool

	errorCode, errorMessage     string
	rollbackID, rollbackOf      string
	rollbackMessage             string
	created, started, completed time.Time
}

type lifecycleEvent struct {
	name, status     string
	code, text, tail string
	start, end       time.Time
}

func (d *codeDeployment) over() bool { return !d.completed.IsZero() }

// newCodeDeployment makes a deployment that has not begun.
func (c *Cloud) newCodeDeployment(g *DeploymentGroup, s *service, def *taskDefinition, now time.Time) *codeDeployment {
	d := &codeDeployment{
		id: "d-" + strings.ToUpper(c.unique("code deployment")[:9]), status: "Created", group: g, service: s, def: def, blue: s.deployments[0],
		config: g.Config, rollbackOn: g.RollbackOn, created: now,
	}
	names := []string{"BeforeInstall", "Install", "AfterInstall"}
	if g.TestListener {
		names = append(names, "AllowTestTraffic", "AfterAllowTestTraffic")
	}
	for _, name := range append(names, "BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic") {
		d.events = append(d.events, &lifecycleEvent{name: name, status: "Pending"})
	}
	c.code.deployments = append(c.code.deployments, d)
	return d
}

func (d *codeDeployment) begin(now time.Time) {
	d.later(now, d.service.cloud.opts.Pace/2, func(now time.Time) {
		d.status, d.started = "InProgress", now
		d.enter(0, now)
	})
}

// later does something unless the deployment is over by then.
func (d *codeDeployment) later(now time.Time, after time.Duration, do func(time.Time)) {
	d.service.at(now.Add(after), func(now time.Time) {
		if !d.over() {
			do(now)
		}
	})
}

// enter begins a lifecycle event.
func (d *codeDeployment) enter(i int, now time.Time) {
	if i == len(d.events) {
		d.terminate(now)
		return
	}
	e, pace := d.events[i], d.service.cloud.opts.Pace
	if e.name == "BeforeAllowTraffic" && d.group.ReadyWait > 0 && d.status != "Ready" && d.next != i && d.rollbackOf == "" {
		d.status, d.next = "Ready", i
		d.later(now, d.group.ReadyWait, func(now time.Time) {
			if d.status == "Ready" {
				d.end(now, "Stopped", "TIMEOUT", "The deployment timed out while waiting to be continued.", slices.Contains(d.rollbackOn, "DEPLOYMENT_FAILURE"))
			}
		})
		return
	}
	e.status, e.start = "InProgress", now
	if end, odd := d.group.Ends[e.name]; odd && d.rollbackOf == "" {
		after := end.After
		if after == 0 {
			after = pace / 2
		}
		if end.Code != "" {
			d.later(now, after, func(now time.Time) { d.fail(e, end, now) })
			return
		}
		d.later(now, after, func(now time.Time) { d.leave(i, now) })
		return
	}
	switch e.name {
	case "Install":
		d.install(now)
	case "AllowTraffic":
		d.moveTraffic(i, now)
	default:
		d.later(now, pace/2, func(now time.Time) { d.leave(i, now) })
	}
}

// leave ends a lifecycle event well.
func (d *codeDeployment) leave(i int, now time.Time) {
	d.events[i].status, d.events[i].end = "Succeeded", now
	d.enter(i+1, now)
}

// fail ends a lifecycle event, and the deployment with it.
func (d *codeDeployment) fail(e *lifecycleEvent, end LifecycleEnd, now time.Time) {
	e.status, e.end, e.code, e.text, e.tail = "Failed", now, "ScriptFailed", end.Message, end.LogTail
	status, trigger := "Failed", "DEPLOYMENT_FAILURE"
	message := fmt.Sprintf("The deployment failed because the lifecycle event %s failed.", e.name)
	if end.Code == "ALARM_ACTIVE" {
		e.status, e.code, status, trigger = "Unknown", "UnknownError", "Stopped", "DEPLOYMENT_STOP_ON_ALARM"
		message = "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the affected deployments have been stopped."
	}
	d.end(now, status, end.Code, message, slices.Contains(d.rollbackOn, trigger))
}

// install makes the green task set.
func (d *codeDeployment) install(now time.Time) {
	s := d.service
	d.green = s.newDeployment(d.def, now)
	d.green.status, d.green.begun, d.green.external = "ACTIVE", true, d.id
	s.deployments = append(s.deployments, d.green)
	d.later(now, installLimit, func(now time.Time) {
		if e := d.events[1]; e.status == "InProgress" {
			d.fail(e, LifecycleEnd{Code: "TIMEOUT"}, now)
			d.errorMessage = "The deployment timed out while waiting for the replacement task set to become healthy. This time out period is 60 minutes."
		}
	})
}

// check sees whether the green tasks are all well.
func (d *codeDeployment) check(now time.Time) {
	s := d.service
	if d.over() || d.green == nil || d.events[1].status != "InProgress" {
		return
	}
	if mine := s.alive(d.green); len(mine) == s.desired && healthy(mine) == s.desired {
		d.leave(1, now)
	}
}

// trafficSteps are the shares of the traffic of a deployment configuration, and
// the time between them.
func trafficSteps(config string) ([]float64, error) {
	steps, _, err := trafficPlan(config)
	return steps, err
}

func trafficPlan(config string) ([]float64, time.Duration, error) {
	name := strings.TrimPrefix(config, "CodeDeployDefault.")
	if name == "ECSAllAtOnce" {
		return []float64{100}, 0, nil
	}
	if m := regexp.MustCompile(`^ECS(Linear|Canary)(\d+)Percent(?:Every)?(\d+)Minutes?$`).FindStringSubmatch(name); m != nil {
		share, _ := strconv.ParseFloat(m[2], 64)
		minutes, _ := strconv.Atoi(m[3])
		steps := []float64{share}
		for m[1] == "Linear" && steps[len(steps)-1]+share < 100 {
			steps = append(steps, steps[len(steps)-1]+share)
		}
		return append(steps, 100), time.Duration(minutes) * time.Minute, nil
	}
	return nil, 0, refuse("DeploymentConfigDoesNotExistException", "No Deployment Configuration found for name: %s", config)
}

// moveTraffic shifts the traffic step by step.
func (d *codeDeployment) moveTraffic(i int, now time.Time) {
	steps, between, err := trafficPlan(d.config)
	if err != nil {
		steps = []float64{100}
	}
	for n, share := range steps {
		after := d.service.cloud.opts.Pace + time.Duration(n)*between
		d.later(now, after, func(now time.Time) {
			d.weight = share
			if share == 100 {
				d.prefer(d.green, d.blue)
				d.leave(i, now)
			}
		})
	}
}

// prefer makes one task set the PRIMARY.
func (d *codeDeployment) prefer(first, second *deployment) {
	s := d.service
	first.status = "PRIMARY"
	if second != nil {
		second.status = "ACTIVE"
	}
	slices.SortStableFunc(s.deployments, func(a, b *deployment) int {
		return strings.Compare(b.status, a.status) // PRIMARY before ACTIVE
	})
	s.candidate = first
}

// terminate ends the blue tasks once they have been kept as long as wanted.
func (d *codeDeployment) terminate(now time.Time) {
	d.terminating = true
	d.later(now, d.group.TerminationWait+d.service.cloud.opts.Pace, d.finish)
}

// finish ends the deployment well.
func (d *codeDeployment) finish(now time.Time) {
	if d.over() {
		return
	}
	if d.blue != nil {
		d.service.halt(d.blue, now)
	}
	d.status, d.completed = "Succeeded", now
}

// end ends the deployment badly, and begins its rollback where there is one.
func (d *codeDeployment) end(now time.Time, status, code, message string, back bool) {
	if d.over() {
		return
	}
	d.status, d.completed, d.errorCode, d.errorMessage = status, now, code, message
	for _, e := range d.events {
		if e.status == "Pending" || e.status == "InProgress" && e.name != "Install" {
			e.status = "Skipped"
		}
	}
	if !back || d.rollbackOf != "" {
		if d.green != nil && d.weight == 0 {
			d.service.halt(d.green, now)
		}
		return
	}
	d.service.at(now.Add(2*d.service.cloud.opts.Pace), d.rollBack)
}

// rollBack begins a deployment that moves the traffic back to blue.
func (d *codeDeployment) rollBack(now time.Time) {
	r := d.service.cloud.newCodeDeployment(d.group, d.service, d.blue.def, now)
	r.rollbackOf, d.rollbackID = d.id, r.id
	r.config, r.description = d.config, "Deployment rolled back from "+d.id
	d.rollbackMessage = "Deployment " + r.id + " is triggered to roll back deployment " + d.id
	r.blue, r.green, r.status, r.started = d.green, d.blue, "InProgress", now
	r.weight = 100 - d.weight
	for _, e := range r.events {
		e.status, e.start, e.end = "Skipped", now, now
	}
	last := r.events[len(r.events)-2]
	last.status = "InProgress"
	r.later(now, 2*d.service.cloud.opts.Pace, func(now time.Time) {
		r.weight = 100
		r.prefer(r.green, r.blue)
		last.status, last.end = "Succeeded", now
		r.finish(now)
	})
}

// reconcileSets brings the tasks of each task set to what is wanted.
func (s *service) reconcileSets(now time.Time) {
	for _, d := range slices.Clone(s.deployments) {
		n := s.desired - len(s.alive(d))
		if d.halted || n <= 0 || now.Before(d.nextLaunch) {
			continue
		}
		var names []string
		for range n {
			names = append(names, "(task "+s.launch(d, nil, now).id+")")
		}
		s.say(now, "(service %s, taskSet %s) has started %d tasks: %s.", s.name, d.id, n, strings.Join(names, " "))
	}
	s.deployments = slices.DeleteFunc(s.deployments, func(d *deployment) bool {
		return d.halted && d.status != "PRIMARY" && !slices.ContainsFunc(s.tasks, func(t *task) bool { return t.deployment == d && t.lastStatus != "STOPPED" })
	})
	for _, d := range s.cloud.code.deployments {
		if d.service == s {
			d.check(now)
		}
	}
}

// halt ends a task set.
func (s *service) halt(d *deployment, now time.Time) {
	d.halted, d.status = true, "DRAINING"
	if n := len(s.alive(d)); n > 0 {
		s.say(now, "(service %s, taskSet %s) has begun draining connections on %d tasks.", s.name, d.id, n)
	}
	for _, t := range s.alive(d) {
		t.stop(now, "ServiceSchedulerInitiated", fmt.Sprintf("Scaling activity initiated by (deployment %s)", d.id))
	}
}
