package deploy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
)

var (
	chaosRuns = flag.Int("chaos.runs", 0, "how many random deployments; 0: 200, with TOWLINE_CI=1 and no race detector 2,000")
	chaosSeed = flag.Uint64("chaos.seed", 0, "the only random deployment to run")
)

// TestChaos deploys at random: to services of all strategies, with tasks that
// fail in all ways, faults of the API, cancellations, time-outs and other
// people's deployments. What is reported is held against what ECS itself knows.
// A failure names its seed: -run TestChaos -chaos.seed N.
func TestChaos(t *testing.T) {
	t.Parallel()
	runs := 200
	if os.Getenv("TOWLINE_CI") == "1" && !raceDetector { //nolint:forbidigo // the switch for what takes long
		runs = 2000
	}
	if *chaosRuns > 0 {
		runs = *chaosRuns
	}
	first := uint64(1)
	if *chaosSeed > 0 {
		first, runs = *chaosSeed, 1
	}
	const groups = 4
	var mu sync.Mutex
	ends := map[deploy.Status]int{}
	t.Cleanup(func() { t.Logf("%d deployments ended: %v", runs, ends) })
	for group := range min(groups, runs) {
		t.Run(fmt.Sprintf("group %d", group), func(t *testing.T) {
			t.Parallel()
			for i := group; i < runs; i += groups {
				seed := first + uint64(i)
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						status := newChaos(t, seed).run(t)
						mu.Lock()
						defer mu.Unlock()
						ends[status]++
					})
				})
			}
		})
	}
}

// chaos is one random deployment.
type chaos struct {
	*arena

	seed     uint64
	dice     *rand.Rand
	third    string // somebody else's task definition
	cancelAt time.Duration
	faulty   bool
	blind    bool // the reads of service deployments are denied
	mu       sync.Mutex
	// others counts the deployments that somebody else started, by their task
	// definition.
	others map[string]int
	plan   []string
}

func (c *chaos) chance(percent int) bool { return c.dice.IntN(100) < percent }

func pick[T any](c *chaos, choices ...T) T { return choices[c.dice.IntN(len(choices))] }

func (c *chaos) note(format string, args ...any) {
	c.plan = append(c.plan, fmt.Sprintf(format, args...))
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	c := &chaos{seed: seed, dice: rand.New(rand.NewPCG(seed, 7)), others: map[string]int{}}
	service := emulator.Service{
		DesiredCount: pick(c, 0, 1, 1, 2, 3), NoRolloutState: c.chance(10), DeploymentConfiguration: c.configuration(),
	}
	opts := deploy.Options{
		Wait: !c.chance(5), WaitLimit: time.Duration(2+c.dice.IntN(10)) * time.Minute,
		RollbackOnFailure: c.chance(60), RollbackOnCancel: c.chance(50), WaitAtPause: c.chance(50),
	}
	opts.Update.ForceNewDeployment = c.chance(8)
	if c.chance(8) {
		opts.Update.DesiredCount = new(c.dice.IntN(4))
	}
	if c.chance(10) {
		opts.Update.Strategy.CircuitBreaker = pick(c, "on", "off", "rollback")
	}
	cloud := emulator.Options{Seed: seed, Pace: pick(c, time.Second, 3*time.Second, 15*time.Second)}
	if c.chance(4) {
		cloud.Busy = float64(1 + c.dice.IntN(6))
	}
	c.arena = newArena(t, cloud, service, opts)
	c.note("service %+v, options %+v, busy %g, pace %s", service, opts.Update, cloud.Busy, cloud.Pace)
	c.cloud.AddUser("AKIAI44QH8DHBEXAMPLE", "other")
	config := c.opts.Config
	config.Credentials = credentials.NewStaticCredentialsProvider("AKIAI44QH8DHBEXAMPLE", "other", "")
	c.other = ecs.NewFromConfig(config)
	var err error
	if c.third, err = c.cloud.RegisterTaskDefinition(strings.Replace(definition, "web:1", "web:3", 1)); err != nil {
		t.Fatal(err)
	}
	if c.chance(6) {
		c.next = strings.TrimSuffix(c.next, "2") + "1" // what it runs already
	}
	c.cloud.Behave(c.behaviour())
	c.cloud.Hooks(func(emulator.HookInfo) emulator.HookEnd {
		return emulator.HookEnd{After: 5 * time.Second, Failed: seed%3 == 0}
	})
	c.faults()
	return c
}

// configuration is a random deployment configuration.
func (c *chaos) configuration() string {
	parts := []string{fmt.Sprintf(`"deploymentCircuitBreaker": {"enable": %t, "rollback": %t}`, c.chance(50), c.chance(50))}
	switch c.dice.IntN(8) {
	case 0, 1:
		parts = append(parts, fmt.Sprintf(`"strategy": "BLUE_GREEN", "bakeTimeInMinutes": %d`, c.dice.IntN(2)))
	case 2:
		parts = append(parts, `"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 5, "canaryBakeTimeInMinutes": 1}`)
	case 3:
		parts = append(parts, `"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50, "stepBakeTimeInMinutes": 1}`)
	}
	if c.chance(25) {
		parts = append(parts, fmt.Sprintf(`"alarms": {"alarmNames": ["5xx"], "enable": true, "rollback": %t}`, c.chance(60)))
	}
	switch c.dice.IntN(10) {
	case 0:
		parts = append(parts, fmt.Sprintf(`"lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["POST_SCALE_UP"], "timeoutConfiguration": {"timeoutInMinutes": 4, "action": "%s"}}]`,
			pick(c, "CONTINUE", "ROLLBACK")))
	case 1:
		parts = append(parts, `"lifecycleHooks": [{"hookTargetArn": "arn:aws:lambda:x", "lifecycleStages": ["PRE_SCALE_UP", "POST_PRODUCTION_TRAFFIC_SHIFT"]}]`)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// behaviour is what the tasks of later revisions do; the third's are good.
func (c *chaos) behaviour() func(emulator.TaskInfo) emulator.Behaviour {
	bad := pick(c,
		emulator.Behaviour{Exit: &emulator.Exit{Code: 3}, Logs: []string{"no DATABASE_URL"}},
		emulator.Behaviour{Exit: &emulator.Exit{After: 20 * time.Second, Code: 137, Reason: "OutOfMemoryError: Container killed due to memory usage"}, HealthyAfter: time.Minute},
		emulator.Behaviour{Exit: &emulator.Exit{After: 2 * time.Minute, Code: 1}},
		emulator.Behaviour{Health: emulator.Failing},
		emulator.Behaviour{Health: emulator.Undecided},
		emulator.Behaviour{FailToStart: "ResourceInitializationError: unable to pull secrets or registry auth: no such secret"},
	)
	good := emulator.Behaviour{StartDelay: time.Duration(c.dice.IntN(200)) * time.Second}
	failing := pick(c, 0, 0, 1, 2, 4, 1000)
	c.note("the first %d tasks: %+v; then start delay %s", failing, bad, good.StartDelay)
	return func(i emulator.TaskInfo) emulator.Behaviour {
		switch {
		case i.Revision != 2:
			return emulator.Behaviour{}
		case i.Attempt <= failing:
			return bad
		default:
			return good
		}
	}
}

// faults arms what goes wrong with the API.
func (c *chaos) faults() {
	actions := []string{
		"UpdateService", "UpdateService", "DescribeServices", "DescribeServiceDeployments", "ListServiceDeployments",
		"DescribeServiceRevisions", "ListTasks", "DescribeTasks", "StopServiceDeployment", "*",
	}
	kinds := []emulator.FaultKind{emulator.Throttle, emulator.Unavailable, emulator.Internal, emulator.Reset, emulator.Lost, emulator.CutAnswer}
	for range max(0, c.dice.IntN(8)-3) {
		f := emulator.Fault{Service: "ecs", Action: pick(c, actions...), Kind: pick(c, kinds...), Times: 1 + c.dice.IntN(4), Bytes: 20}
		if f.Action != "UpdateService" {
			f.Skip = c.dice.IntN(40)
		}
		c.faulty = true
		c.note("fault %+v", f)
		c.cloud.Fail(f)
	}
	for _, action := range []string{"ListServiceDeployments", "DescribeServiceDeployments", "DescribeServiceRevisions", "ListTasks", "StopServiceDeployment"} {
		if c.chance(5) {
			c.blind = c.blind || strings.HasSuffix(action, "ServiceDeployments")
			c.faulty = true
			c.note("%s is denied", action)
			c.cloud.Fail(emulator.Fault{Service: "ecs", Action: action, Kind: emulator.Denied, Times: -1})
		}
	}
}

// disturb lets somebody else do something while we deploy.
func (c *chaos) disturb() {
	ctx := context.Background()
	update := func(in *ecs.UpdateServiceInput, td string) {
		in.Cluster, in.Service = aws.String("shop"), aws.String("web")
		c.mu.Lock()
		defer c.mu.Unlock()
		before := len(c.cloud.Deployments("shop", "web"))
		_, _ = c.other.UpdateService(ctx, in)
		after := c.cloud.Deployments("shop", "web")
		if len(after) > before {
			c.others[after[len(after)-1].TaskDefinition]++
		}
		_ = td
	}
	switch c.dice.IntN(8) {
	case 0, 1:
		update(&ecs.UpdateServiceInput{TaskDefinition: &c.third}, c.third)
	case 2:
		update(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:1")}, "web:1")
	case 3:
		update(&ecs.UpdateServiceInput{ForceNewDeployment: true}, "")
	case 4:
		update(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(int32(c.dice.IntN(4)))}, "")
	case 5:
		c.cloud.SetAlarm("5xx", true)
	case 6:
		list := c.cloud.Deployments("shop", "web")
		_, _ = c.other.StopServiceDeployment(ctx, &ecs.StopServiceDeploymentInput{
			ServiceDeploymentArn: &list[len(list)-1].ARN, StopType: ecstypes.StopServiceDeploymentStopTypeRollback,
		})
	case 7:
		c.decide(pick(c, "CONTINUE", "ROLLBACK"))
	}
}

var errInterrupted = errors.New("interrupt signal received")

func (c *chaos) run(t *testing.T) deploy.Status {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	start := time.Now()
	for range pick(c, 0, 0, 0, 1, 2) {
		at := time.Duration(c.dice.Int64N(int64(6 * time.Minute)))
		c.note("somebody else acts after %s", at)
		time.AfterFunc(at, c.disturb)
	}
	var cancelled time.Time
	if c.chance(25) {
		c.cancelAt = time.Duration(c.dice.Int64N(int64(pick(c, 5*time.Second, 4*time.Minute))))
		c.note("cancelled after %s", c.cancelAt)
		time.AfterFunc(c.cancelAt, func() { cancelled = time.Now(); cancel(errInterrupted) })
	}
	out, err := c.deploy(ctx)
	end := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var wrong []string
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	c.judge(out, err, start, fail)
	if !cancelled.IsZero() && end.Sub(cancelled) > 5*time.Second {
		fail("returned %s after the cancellation", end.Sub(cancelled))
	}
	if took := end.Sub(start); took > c.opts.WaitLimit+50*time.Minute {
		fail("took %s with a limit of %s", took, c.opts.WaitLimit)
	}
	if !cancelled.IsZero() && errors.Is(err, errInterrupted) {
		c.judgeCancelled(out, err, fail)
	}
	if len(wrong) > 0 {
		t.Errorf("seed %d:\n  %s\noutcome %+v\nerror %v\ntruth %+v\nothers %v\nplan:\n  %s\nevents:\n  %s", c.seed, strings.Join(wrong, "\n  "), out, err,
			c.cloud.Deployments("shop", "web"), c.others, strings.Join(c.plan, "\n  "), c.told())
	}
	return out.Status
}

func (c *chaos) told() string {
	var lines []string
	for _, e := range c.events {
		lines = append(lines, fmt.Sprintf("%T%+v", e, e))
	}
	return strings.Join(lines[max(0, len(lines)-40):], "\n  ")
}

// judge holds what was reported against what is true.
func (c *chaos) judge(out deploy.Outcome, err error, start time.Time, fail func(string, ...any)) {
	var ours *emulator.Truth
	made := map[string]int{}
	all := c.cloud.Deployments("shop", "web")
	for i, d := range all {
		if d.DeploymentID == out.DeploymentID {
			ours = &all[i]
		}
		if i > 0 { // the first was there before
			made[d.TaskDefinition]++
		}
	}
	for arn, n := range made {
		if mine := n - c.others[arn]; mine > 1 {
			fail("%d deployments of %s were started by us", mine, arn)
		}
	}
	if made[c.third] != c.others[c.third] {
		fail("we deployed somebody else's task definition")
	}
	good := err == nil
	switch out.Status {
	case "":
		if mine := made[c.next] - c.others[c.next]; mine > 0 {
			fail("nothing is said to have been started, but %d deployments were", mine)
		}
		return
	case deploy.StatusSucceeded:
		if ours == nil || ours.Status != "SUCCESSFUL" || ours.TaskDefinition != c.next {
			fail("success, which it is not")
		}
	case deploy.StatusUnchanged:
		if made[c.next]-c.others[c.next] != 0 || c.opts.Update.ForceNewDeployment {
			fail("unchanged, but a deployment was started")
		}
	case deploy.StatusPaused:
		if c.opts.WaitAtPause {
			fail("paused, but the pause was to be waited for")
		}
	case deploy.StatusStarted:
		good = err == nil == !c.opts.Wait
		if c.opts.Wait && !errors.Is(err, errInterrupted) && !c.faulty && c.plan == nil {
			fail("given up without a reason")
		}
		if !good && c.opts.Wait {
			fail("left without an error")
		}
		c.reasons(out, err, fail)
		return
	default:
		good = err != nil
		// Time may run out, and the deployment succeed while the way back is
		// under way: what counts is that the service is back.
		late := out.Status == deploy.StatusRolledBack && ours != nil && ours.Finished.Sub(start) > c.opts.WaitLimit
		if ours != nil && ours.Status == "SUCCESSFUL" && ours.TaskDefinition == c.next && !late {
			fail("a failure, but it succeeded at %s (now %s)", ours.Finished.Sub(start), time.Since(start))
		}
		c.judgeFailure(out, ours, all, fail)
	}
	if !good {
		fail("status and error contradict each other")
	}
	c.reasons(out, err, fail)
}

func (c *chaos) judgeFailure(out deploy.Outcome, ours *emulator.Truth, all []emulator.Truth, fail func(string, ...any)) {
	last := all[len(all)-1]
	over := ours != nil && !ours.Finished.IsZero()
	switch out.Status {
	case deploy.StatusRolledBack:
		// Where ECS does not go back itself, a later deployment of ours does.
		back := last.TaskDefinition != c.next && strings.HasSuffix(last.Status, "SUCCESSFUL")
		if ours == nil || ours.Status != "ROLLBACK_SUCCESSFUL" && !back {
			fail("rolled back, which it is not")
		}
	case deploy.StatusSuperseded:
		if ours == nil || last.ARN == ours.ARN {
			fail("superseded by nobody")
		}
	case deploy.StatusStopped:
		if !over || ours.Status != "STOPPED" {
			fail("stopped, which it is not")
		}
	case deploy.StatusFailed:
		if !over && c.opts.RollbackOnFailure && !c.faulty && !strings.Contains(out.Reason, "not rolled back") && !strings.Contains(out.Reason, "rollback") {
			fail("failed, but it goes on and nothing was done about it")
		}
	}
}

// reasons wants a reason for everything that is not simply well, and a remedy.
func (c *chaos) reasons(out deploy.Outcome, err error, fail func(string, ...any)) {
	if out.Status != deploy.StatusSucceeded && out.Reason == "" {
		fail("no reason for %s", out.Status)
	}
	if known, ok := errors.AsType[*problem.Error](err); err != nil && (!ok || known.Fix == "") {
		fail("no remedy in %v", err)
	}
	for _, e := range c.events {
		switch e := e.(type) {
		case deploy.RollingBack:
			if e.Reason == "" {
				fail("a rollback without a reason")
			}
		case deploy.TaskFailed:
			if e.Summary == "" {
				fail("task %s failed without a reason", e.TaskID)
			}
		case deploy.Notice:
			if e.Message == "" {
				fail("an empty notice")
			}
		}
	}
}

// judgeCancelled wants to know which deployment goes on, and how to stop it.
func (c *chaos) judgeCancelled(out deploy.Outcome, err error, fail func(string, ...any)) {
	text := fmt.Sprint(err)
	if out.DeploymentID == "" || out.Status != deploy.StatusStarted {
		return
	}
	if !strings.Contains(text, out.DeploymentID) {
		fail("the error does not name %s", out.DeploymentID)
	}
	asked := strings.Contains(text, "was asked for") || strings.Contains(text, "the rollback of deployment")
	goesOn := func() (status string, yes bool) {
		all := c.cloud.Deployments("shop", "web")
		i := slices.IndexFunc(all, func(d emulator.Truth) bool { return d.DeploymentID == out.DeploymentID })
		if i < 0 {
			return "", false
		}
		return all[i].Status, all[i].Status == "IN_PROGRESS" || all[i].Status == "PENDING"
	}
	if strings.Contains(text, "can no longer be rolled back") {
		if status, yes := goesOn(); yes {
			fail("it could have been rolled back: %s", status)
		}
		return
	}
	if !asked && !strings.Contains(text, "aws ecs ") {
		fail("the error does not say how to stop it")
	}
	if c.opts.RollbackOnCancel && !asked && !strings.Contains(text, "could not be asked for") {
		fail("no rollback was asked for")
	}
	if c.opts.RollbackOnCancel && strings.Contains(text, "was asked for and goes on") {
		if status, yes := goesOn(); yes {
			fail("the rollback was not asked for: %s", status)
		}
	}
}
