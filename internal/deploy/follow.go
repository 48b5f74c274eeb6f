package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	// early is the pause between looks in the first watchful minutes, usual the
	// one after that: the end of a deployment is to be seen within 3 seconds at
	// first. ECS's service deployments may be read 20 times a second in a whole
	// account.
	early, usual = 2500 * time.Millisecond, 5 * time.Second
	watchful     = 10*time.Minute + 30*time.Second
	// At every so many early looks the service and the stopped tasks are read:
	// a service deployment's own state is enough for the others.
	everyService, everyTasks = 2, 3
	// blindLooks is how many looks may give nothing to judge by.
	blindLooks = 12
	// mostMisses is how many looks in a row may fail, each already tried
	// several times, before the watch is given up.
	mostMisses = 5
	// patience is how long ECS may take to begin a rollback of its own, or to
	// know of our update everywhere.
	patience = time.Minute
	// lookLimit bounds one look, retries included.
	lookLimit = 2 * time.Minute
	// quiet is the longest time without a Waiting event.
	quiet = 30 * time.Second
)

// follower watches one deployment until it is over.
type follower struct {
	c     *Client
	d     *deployment
	tasks *taskWatch

	rolling   bool      // a rollback of ours has been seen or asked for
	asked     bool      // a rollback was or is being asked for
	announced bool      // and told
	why       string    // the first reason given for it
	oddSince  time.Time // see verdict
	looks     int
	service   *ecstypes.Service // as last read
	failures  int               // in service's answer, when tasks were last read
	shown     shown
	events    []string
	blind     int
	last      Waiting
	lastAt    time.Time
	// runs is "1 of 2 tasks", for the end.
	runs string
	// going back: this deployment is itself a rollback.
	back bool
}

func newFollower(c *Client, d *deployment) *follower {
	return &follower{c: c, d: d, service: d.answer, tasks: newTaskWatch(c, d)}
}

// follow looks until the deployment is over. The error is ctx's cause, or why
// it can no longer be watched.
func (f *follower) follow(ctx context.Context) (verdict, error) {
	return f.c.watch(ctx, "ECS", f.look, f.early)
}

// watch looks until there is a verdict, often while it is early. The error is
// ctx's cause, or why service does not answer any more.
func (c *Client) watch(ctx context.Context, service string, look func(context.Context) (verdict, error), isEarly func() bool) (verdict, error) {
	defer c.opts.Shared.follow()()
	misses := 0
	for {
		begun := time.Now()
		v, err := within(ctx, look)
		switch {
		case ctx.Err() != nil:
			return verdict{}, context.Cause(ctx)
		case err == nil && v.status != "":
			return v, nil
		case err == nil:
			misses = 0
		case isThrottled(err):
			// Others use up the account's rate: that costs time and nothing else.
			c.emit(Notice{Message: service + " refuses reads for the moment (rate exceeded), asking again"})
		case !isPassing(err) || misses == mostMisses:
			return verdict{}, err
		default:
			misses++
			c.emit(Notice{Message: service + " does not answer, asking again: " + firstLine(err)})
		}
		switch shared := c.opts.Shared; {
		case shared != nil && isEarly():
			c.pause(ctx, shared.next(early), 0)
		case shared != nil:
			c.pause(ctx, shared.next(usual), 0)
		case isEarly():
			c.pause(ctx, max(early-time.Since(begun), early/5), 0.1)
		default:
			c.pause(ctx, usual, 0.2)
		}
	}
}

// early says whether the deployment is young enough for frequent looks.
func (f *follower) early() bool { return time.Since(f.begun()) < watchful }

// begun is since when the deployment has been watched.
func (f *follower) begun() time.Time {
	if f.d.watched.After(f.d.since) {
		return f.d.watched
	}
	return f.d.since
}

// within bounds one look: a connection that has died silently must not use up
// the whole wait.
func within(ctx context.Context, look func(context.Context) (verdict, error)) (verdict, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookLimit, fmt.Errorf("no answer within %s", span(lookLimit)))
	defer cancel()
	return look(ctx)
}

// errBlind is the end where ECS gives nothing to judge a deployment by.
var errBlind = errors.New("ECS gives no rollout state for this service (Classic Load Balancer, or a strategy that moves traffic), and its service deployments cannot be read")

// look reads what there is, tells what is new, and judges.
func (f *follower) look(ctx context.Context) (verdict, error) {
	turn := f.looks
	f.looks++
	state, err := f.read(ctx, turn)
	if err != nil {
		return verdict{}, err
	}
	s := f.service
	snap := snapshot{service: s, state: state, rolling: f.rolling, events: f.events}
	snap.impatient = !f.oddSince.IsZero() && time.Since(f.oddSince) > patience
	v := judge(f.d, snap)
	if v.odd && f.oddSince.IsZero() {
		f.oddSince = time.Now()
	} else if !v.odd {
		f.oddSince = time.Time{}
	}
	if f.blind++; !v.blind {
		f.blind = 0
	} else if f.blind > blindLooks {
		return v, errBlind
	}
	f.lookAtTasks(ctx, turn, v)
	if v.rolling {
		f.rolling = true
		f.why = firstOf(f.why, v.reason)
		f.announce(firstOf(v.reason, "it was asked for (StopServiceDeployment)"), true)
	}
	if v.status == StatusRolledBack && (snap.state == nil || v.reason == "") {
		v.reason = firstOf(f.why, v.reason) // the deployments tell it only at first
	}
	f.tellStage(state)
	if v.status == "" && !f.rolling && !f.back {
		v = f.beyondECS(ctx, v, state)
	}
	f.tellWaiting(s, snap.state, v)
	return v, nil
}

// read reads our service deployment, and the service itself where its turn has
// come, where the deployment has reached an end, or nothing else is known.
func (f *follower) read(ctx context.Context, turn int) (state *ecstypes.ServiceDeployment, err error) {
	if f.d.arn != "" {
		if state, err = f.c.serviceDeployment(ctx, f.d.arn); err != nil {
			return nil, err
		}
	}
	ends := state == nil || state.Status != ecstypes.ServiceDeploymentStatusPending && state.Status != ecstypes.ServiceDeploymentStatusInProgress
	due := f.service == nil || turn > 0 && turn%everyService == 0 || !f.early()
	if due || ends && turn > 0 {
		s, err := f.c.describe(ctx)
		switch {
		case err == nil:
			f.service, f.d.desired = s, int(s.DesiredCount)
			f.tellEvents(s)
		case f.service == nil || state == nil || !isPassing(err) || ends && state.Status != ecstypes.ServiceDeploymentStatusSuccessful:
			return nil, err
		}
	}
	if f.d.arn == "" {
		return f.state(ctx, f.service)
	}
	return state, nil
}

// lookAtTasks reads the stopped tasks where their turn has come, where one
// more has failed, and at an end.
func (f *follower) lookAtTasks(ctx context.Context, turn int, v verdict) {
	failures := 0
	if ours := named(f.service, f.d.id); ours != nil {
		failures = int(ours.FailedTasks)
	}
	if every := f.c.opts.Shared.everyTasks(); turn%every == every-1 || !f.early() || v.status != "" || failures != f.failures {
		f.failures = failures
		f.tasks.look(ctx)
		if f.tasks.blamesBalancer() {
			f.tasks.targets.look(ctx, f.service)
		}
	}
}

// beyondECS ends the wait where ECS itself would go on: tasks that keep
// failing without a circuit breaker, and a pause that somebody has to end.
func (f *follower) beyondECS(ctx context.Context, v verdict, state *ecstypes.ServiceDeployment) verdict {
	if why, hopeless := f.tasks.hopeless(ctx, f.service, f.events); hopeless {
		return verdict{status: StatusFailed, reason: why, state: v.state, hopeless: true}
	}
	if hook := held(state); hook != nil && !f.c.opts.WaitAtPause {
		v.status, v.reason = StatusPaused, pauseText(state, hook)
	}
	return v
}

// announce tells once that the service is going back.
func (f *follower) announce(reason string, byECS bool) {
	if !f.announced && !f.back {
		f.announced = true
		f.c.emit(RollingBack{Reason: reason, To: f.d.previous, ByECS: byECS})
	}
}

// tellEvents tells the service's messages since our deployment began, each
// once, oldest first.
func (f *follower) tellEvents(s *ecstypes.Service) {
	fresh := slices.DeleteFunc(slices.Clone(s.Events), func(e ecstypes.ServiceEvent) bool {
		return f.d.events[aws.ToString(e.Id)] || aws.ToTime(e.CreatedAt).Before(f.d.since.Truncate(time.Second))
	})
	slices.Reverse(fresh) // ECS puts the newest first
	slices.SortStableFunc(fresh, func(a, b ecstypes.ServiceEvent) int {
		return aws.ToTime(a.CreatedAt).Compare(aws.ToTime(b.CreatedAt))
	})
	for _, e := range fresh {
		f.d.events[aws.ToString(e.Id)] = true
		f.events = append(f.events, aws.ToString(e.Message))
		why, _ := explainText(f.tasks.table, aws.ToString(e.Message))
		if why.rank < rankKnown {
			why = explanation{} // no more than the message says itself
		}
		f.c.emit(ServiceEvent{At: aws.ToTime(e.CreatedAt), Message: aws.ToString(e.Message), Summary: why.summary, Fix: why.fix})
	}
	f.tasks.said = f.events
}

// tellWaiting tells how many tasks run when that has changed, and now and then.
func (f *follower) tellWaiting(s *ecstypes.Service, state *ecstypes.ServiceDeployment, v verdict) {
	w := Waiting{DeploymentID: f.d.id, State: v.state, Desired: int(s.DesiredCount), Failed: f.tasks.count()}
	if state != nil && state.DeploymentCircuitBreaker != nil && state.DeploymentCircuitBreaker.Status == ecstypes.ServiceDeploymentRollbackMonitorsStatusMonitoring {
		w.Threshold = int(state.DeploymentCircuitBreaker.Threshold)
		w.Failed = max(w.Failed, int(state.DeploymentCircuitBreaker.FailureCount))
	}
	if ours := named(s, f.d.id); ours != nil {
		w.Running, w.Pending, w.Desired = int(ours.RunningCount), int(ours.PendingCount), int(ours.DesiredCount)
		w.Failed = max(w.Failed, int(ours.FailedTasks))
	} else if state != nil && state.TargetServiceRevision != nil {
		t := state.TargetServiceRevision
		w.Running, w.Pending, w.Desired = int(t.RunningTaskCount), int(t.PendingTaskCount), int(t.RequestedTaskCount)
	}
	f.runs = fmt.Sprintf("%d of %s running", w.Running, plural(w.Desired, "task"))
	if v.status == StatusSucceeded || w == f.last && time.Since(f.lastAt) < quiet {
		return
	}
	f.last, f.lastAt = w, time.Now()
	w.Elapsed = time.Since(f.d.since)
	f.c.emit(w)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
