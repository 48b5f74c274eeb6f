package deploy

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

// set gives a step that puts our service deployment and our rollout state.
func set(after time.Duration, status, rollout string) step {
	return step{after, func(f *fakeECS) {
		if status != "" {
			f.state(2).status = status
		}
		if rollout != "" {
			f.deployment("ecs-svc/2").rollout = rollout
		}
	}}
}

// done makes both ours complete.
func done(after time.Duration) step {
	return step{after, func(f *fakeECS) {
		f.state(2).status = "SUCCESSFUL"
		d := f.deployment("ecs-svc/2")
		d.rollout, d.running, d.pending = "COMPLETED", 2, 0
		f.deployments = f.deployments[:1]
	}}
}

// crash lets a task of ours fail.
func crash(after time.Duration, id string) step {
	return step{after, func(f *fakeECS) {
		f.stopTask(id, "ecs-svc/2", "EssentialContainerExited", "Essential container in task exited", 1)
		f.deployment("ecs-svc/2").failed++
	}}
}

// rolledBack makes the service run web:1 again by deployment id.
func rolledBack(after time.Duration, id string) step {
	return step{after, func(f *fakeECS) {
		f.deployments = nil
		f.replace(id, oldTD)
		f.deployments[0].rollout = "COMPLETED"
		if len(f.states) > 1 {
			f.state(2).status = "ROLLBACK_SUCCESSFUL"
		}
	}}
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	states := []string{"ecs:ListServiceDeployments", "ecs:DescribeServiceDeployments"}
	tests := map[string]struct {
		opts    Options // Wait is set
		prepare func(f *fakeECS)
		script  []step
		status  Status
		reason  []string // parts of Outcome.Reason
		fails   []string // parts of the error; none: success
		calls   map[string]int
		check   func(t *testing.T, f *fakeECS, out Outcome, events []Event)
		max     time.Duration
	}{
		"PENDING, IN_PROGRESS, SUCCESSFUL": {
			script: []step{set(10*time.Second, "IN_PROGRESS", ""), done(40 * time.Second)},
			status: StatusSucceeded, calls: map[string]int{"UpdateService": 1}, max: 46 * time.Second,
			check: func(t *testing.T, f *fakeECS, out Outcome, events []Event) {
				t.Helper()
				want := Outcome{
					Status: StatusSucceeded, DeploymentID: "ecs-svc/2", DeploymentARN: ourSD, TaskDefinitionARN: newTD, PreviousARN: oldTD,
					ConsoleURL: "https://eu-central-1.console.aws.amazon.com/ecs/v2/clusters/prod/services/web/deployments/sd2?region=eu-central-1",
				}
				if diff := cmp.Diff(want, out); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
				if got, want := f.bodies["UpdateService"][0], `{"cluster":"prod","service":"web","taskDefinition":"`+newTD+`"}`; got != want {
					t.Errorf("UpdateService sent %s, want %s", got, want)
				}
				if got := of[Done](events); len(got) != 1 || got[0].Outcome != out {
					t.Errorf("Done events %v", got)
				}
			},
		},
		"running equals desired long before the end": {
			script: []step{{5 * time.Second, func(f *fakeECS) {
				f.state(2).status = "IN_PROGRESS"
				f.deployments = f.deployments[:1]
				f.deployments[0].running = 2
			}}, done(5 * time.Minute)},
			status: StatusSucceeded,
			check: func(t *testing.T, f *fakeECS, _ Outcome, _ []Event) {
				t.Helper()
				if n := f.count("DescribeServiceDeployments"); n < 50 {
					t.Errorf("looked %d times in five minutes, want at least 50", n)
				}
			},
		},
		"STOP_REQUESTED, STOPPED": {
			script: []step{set(10*time.Second, "STOP_REQUESTED", ""), set(30*time.Second, "STOPPED", "")},
			status: StatusStopped, fails: []string{"was stopped by somebody", "CloudTrail"},
		},
		"STOPPED, as a newer deployment replaced it": {
			script: []step{{20 * time.Second, func(f *fakeECS) {
				f.state(2).status = "STOPPED"
				f.replace("ecs-svc/9", otherTD)
			}}},
			status: StatusSuperseded, reason: []string{"ecs-svc/9", "web:7"}, fails: []string{"was superseded", "concurrency"},
			calls: map[string]int{"UpdateService": 1, "StopServiceDeployment": 0},
		},
		"STOPPED, and only its reason tells of a newer one": {
			script: []step{{20 * time.Second, func(f *fakeECS) {
				f.state(2).status, f.state(2).reason = "STOPPED", "Replaced by a new service deployment."
			}}},
			status: StatusSuperseded, reason: []string{"Replaced by a new service deployment"}, fails: []string{"was superseded", "concurrency"},
		},
		"STOPPED by a circuit breaker that does not roll back": {
			prepare: func(f *fakeECS) {
				f.service["deploymentConfiguration"] = map[string]any{"deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": false}}
			},
			script: []step{crash(10*time.Second, "t1"), {30 * time.Second, func(f *fakeECS) {
				f.state(2).status, f.state(2).breaker, f.state(2).reason = "STOPPED", "TRIGGERED", "Circuit breaker threshold was reached."
				f.deployment("ecs-svc/2").rollout = "FAILED"
			}}},
			status: StatusFailed, reason: []string{"Circuit breaker threshold was reached: container app ended with exit code 1"},
			fails: []string{"failed", "exit code 1", "aws ecs update-service --region eu-central-1 --cluster prod --service web --task-definition web:1"},
			calls: map[string]int{"UpdateService": 1, "StopServiceDeployment": 0},
		},
		"the same, and we roll back": {
			opts: Options{RollbackOnFailure: true},
			prepare: func(f *fakeECS) {
				f.service["deploymentConfiguration"] = map[string]any{"deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": false}}
				f.onUpdate = []step{{20 * time.Second, func(f *fakeECS) {
					f.state(3).status = "SUCCESSFUL"
					f.deployment("ecs-svc/3").rollout = "COMPLETED"
				}}}
			},
			script: []step{{30 * time.Second, func(f *fakeECS) {
				f.state(2).status, f.state(2).breaker, f.state(2).reason = "STOPPED", "TRIGGERED", "Circuit breaker threshold was reached."
			}}},
			status: StatusRolledBack, reason: []string{"Circuit breaker", "rolled back to web:1"}, fails: []string{"did not succeed"},
			calls: map[string]int{"UpdateService": 2, "StopServiceDeployment": 0},
		},
		"ROLLBACK_REQUESTED, ROLLBACK_IN_PROGRESS, ROLLBACK_SUCCESSFUL": {
			opts: Options{RollbackOnFailure: true},
			script: []step{
				set(10*time.Second, "ROLLBACK_REQUESTED", "FAILED"), set(20*time.Second, "ROLLBACK_IN_PROGRESS", ""),
				{time.Minute, func(f *fakeECS) {
					f.state(2).status, f.state(2).reason = "ROLLBACK_SUCCESSFUL", "Service deployment rolled back because the circuit breaker threshold was exceeded."
				}},
			},
			status: StatusRolledBack, reason: []string{"circuit breaker"}, fails: []string{"did not succeed"},
			calls: map[string]int{"UpdateService": 1, "StopServiceDeployment": 0},
			check: func(t *testing.T, _ *fakeECS, _ Outcome, events []Event) {
				t.Helper()
				if got := of[RollingBack](events); len(got) != 1 || !got[0].ByECS || got[0].To != oldTD {
					t.Errorf("RollingBack events %v, want one by ECS to web:1", got)
				}
			},
		},
		"ROLLBACK_FAILED": {
			opts: Options{RollbackOnFailure: true},
			script: []step{set(10*time.Second, "ROLLBACK_IN_PROGRESS", ""), {time.Minute, func(f *fakeECS) {
				f.state(2).status, f.state(2).reason = "ROLLBACK_FAILED", "No rollback candidate was found to run the rollback."
			}}},
			status: StatusFailed, reason: []string{"the rollback failed: No rollback candidate"}, fails: []string{"failed"},
			calls: map[string]int{"UpdateService": 1},
		},
		"no circuit breaker: fails fast and stops with rollback": {
			opts: Options{RollbackOnFailure: true},
			prepare: func(f *fakeECS) {
				f.onStop = []step{set(0, "ROLLBACK_IN_PROGRESS", ""), rolledBack(30*time.Second, "ecs-svc/3")}
			},
			script: []step{
				set(time.Second, "IN_PROGRESS", ""), crash(10*time.Second, "t1"), crash(20*time.Second, "t2"), crash(30*time.Second, "t3"),
			},
			status: StatusRolledBack, reason: []string{"3 tasks of this deployment failed and none stays up", "rolled back to web:1", "exit code 1"},
			fails: []string{"exit code 1"}, calls: map[string]int{"UpdateService": 1, "StopServiceDeployment": 1}, max: 80 * time.Second,
			check: func(t *testing.T, f *fakeECS, _ Outcome, events []Event) {
				t.Helper()
				wantIn(t, "StopServiceDeployment", f.bodies["StopServiceDeployment"][0], ourSD, `"stopType":"ROLLBACK"`)
				if got := of[TaskFailed](events); len(got) != 3 {
					t.Errorf("%d TaskFailed events, want 3", len(got))
				}
				if got := of[RollingBack](events); len(got) != 1 || got[0].ByECS {
					t.Errorf("RollingBack events %v, want one of ours", got)
				}
			},
		},
		"no circuit breaker, stopping not allowed: updates to the previous": {
			opts: Options{RollbackOnFailure: true},
			prepare: func(f *fakeECS) {
				f.refuse["StopServiceDeployment"] = "AccessDeniedException"
				f.onUpdate = []step{{20 * time.Second, func(f *fakeECS) {
					f.state(3).status = "SUCCESSFUL"
					f.deployment("ecs-svc/3").rollout = "COMPLETED"
				}}}
			},
			script: []step{crash(10*time.Second, "t1"), crash(11*time.Second, "t2"), crash(12*time.Second, "t3")},
			status: StatusRolledBack, fails: []string{"rolled back to web:1"}, calls: map[string]int{"UpdateService": 2, "StopServiceDeployment": 1},
			check: func(t *testing.T, f *fakeECS, _ Outcome, events []Event) {
				t.Helper()
				wantIn(t, "second UpdateService", f.bodies["UpdateService"][1], oldTD)
				notices := of[Notice](events)
				if len(notices) != 1 {
					t.Fatalf("notices %v, want one", notices)
				}
				wantIn(t, "notice", notices[0].Message, "ecs:StopServiceDeployment")
			},
		},
		"no circuit breaker, rollback not wanted": {
			script: []step{crash(10*time.Second, "t1"), crash(11*time.Second, "t2"), crash(12*time.Second, "t3")},
			status: StatusFailed, reason: []string{`"rollback-on-failure" is false`}, fails: []string{"To go back by hand"},
			calls: map[string]int{"UpdateService": 1, "StopServiceDeployment": 0},
		},
		"no circuit breaker, only FailedTasks is known": {
			prepare: func(f *fakeECS) { f.refuse["ListTasks"] = "AccessDeniedException" },
			script:  []step{{20 * time.Second, func(f *fakeECS) { f.deployment("ecs-svc/2").failed = 3 }}},
			status:  StatusFailed, reason: []string{"3 tasks of this deployment failed"}, fails: []string{"failed"}, max: 30 * time.Second,
			calls: map[string]int{"ListTasks": 1},
		},
		"some tasks fail while one stays up": {
			script: []step{
				{time.Second, func(f *fakeECS) {
					f.deployment("ecs-svc/2").running = 1
					f.tasks = append(f.tasks, map[string]any{
						"taskArn": account + "task/prod/good", "startedBy": "ecs-svc/2", "desiredStatus": "RUNNING", "lastStatus": "RUNNING",
						"startedAt": epoch(time.Now().Add(-time.Minute)),
					})
				}},
				crash(50*time.Second, "t1"), crash(51*time.Second, "t2"), crash(52*time.Second, "t3"), crash(53*time.Second, "t4"), done(3 * time.Minute),
			},
			status: StatusSucceeded, reason: []string{"4 tasks failed on the way"},
		},
		"first deployment of a service has no way back": {
			opts: Options{RollbackOnFailure: true},
			prepare: func(f *fakeECS) {
				f.deployments[0].rollout = "FAILED"
				f.refuse["StopServiceDeployment"] = "AccessDeniedException"
			},
			script: []step{crash(10*time.Second, "t1"), crash(11*time.Second, "t2"), crash(12*time.Second, "t3")},
			status: StatusFailed, reason: []string{"no earlier completed deployment to go back to"}, fails: []string{"failed"},
			calls: map[string]int{"UpdateService": 1},
		},
		"rollout state: COMPLETED": {
			prepare: denyStates, script: []step{done(40 * time.Second)}, status: StatusSucceeded,
			calls: map[string]int{"ListServiceDeployments": 1, "DescribeServiceDeployments": 0},
			check: func(t *testing.T, _ *fakeECS, out Outcome, events []Event) {
				t.Helper()
				got := of[Notice](events)
				if len(got) != 1 {
					t.Fatalf("notices %v, want one", got)
				}
				wantIn(t, "notice", got[0].Message, states[0], "rollout state")
				if out.DeploymentARN != "" {
					t.Errorf("deployment ARN %q, want none", out.DeploymentARN)
				}
			},
		},
		"rollout state: only the listing is allowed": {
			prepare: func(f *fakeECS) { f.refuse["DescribeServiceDeployments"] = "AccessDeniedException" },
			script:  []step{done(40 * time.Second)}, status: StatusSucceeded,
			check: func(t *testing.T, _ *fakeECS, out Outcome, events []Event) {
				t.Helper()
				if got := of[Notice](events); len(got) != 1 {
					t.Errorf("notices %v, want one", got)
				}
				if out.DeploymentARN != ourSD {
					t.Errorf("deployment ARN %q, want ours", out.DeploymentARN)
				}
			},
		},
		"rollout state: FAILED": {
			prepare: func(f *fakeECS) {
				denyStates(f)
				f.service["deploymentConfiguration"] = map[string]any{"deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": false}}
			},
			script: []step{{30 * time.Second, func(f *fakeECS) {
				f.deployment("ecs-svc/2").rollout, f.deployment("ecs-svc/2").reason = "FAILED", "ECS deployment circuit breaker: tasks failed to start."
			}}},
			status: StatusFailed, reason: []string{"tasks failed to start"}, fails: []string{"tasks failed to start"},
		},
		"rollout state: rolled back by the circuit breaker": {
			prepare: func(f *fakeECS) {
				denyStates(f)
				f.service["deploymentConfiguration"] = map[string]any{"deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": true}}
			},
			script: []step{
				{30 * time.Second, func(f *fakeECS) {
					f.deployment("ecs-svc/2").rollout = "FAILED"
					f.deployment("ecs-svc/2").reason = "ECS deployment circuit breaker: tasks failed to start."
				}},
				{40 * time.Second, func(f *fakeECS) {
					f.say("(service web) (deployment ecs-svc/2) deployment failed: tasks failed to start.")
					f.say("(service web) rolling back to deployment ecs-svc/1.")
					f.replace("ecs-svc/1", oldTD)
				}},
				rolledBack(90*time.Second, "ecs-svc/1"),
			},
			status: StatusRolledBack, reason: []string{"tasks failed to start"}, fails: []string{"did not succeed"}, calls: map[string]int{"UpdateService": 1},
		},
		"rollout state: FAILED, and the promised rollback never begins": {
			prepare: func(f *fakeECS) {
				denyStates(f)
				f.service["deploymentConfiguration"] = map[string]any{"deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": true}}
			},
			script: []step{set(30*time.Second, "", "FAILED")},
			status: StatusFailed, fails: []string{"failed"}, max: 2 * time.Minute,
		},
		"rollout state: superseded": {
			prepare: denyStates,
			script:  []step{{20 * time.Second, func(f *fakeECS) { f.replace("ecs-svc/9", otherTD) }}},
			status:  StatusSuperseded, fails: []string{"superseded", "ecs-svc/9", "web:7"},
		},
		"rollout state: superseded and gone": {
			prepare: denyStates,
			script: []step{{20 * time.Second, func(f *fakeECS) {
				f.replace("ecs-svc/9", otherTD)
				f.deployments = f.deployments[:1]
				f.deployments[0].rollout = "COMPLETED"
			}}},
			status: StatusSuperseded, fails: []string{"superseded"},
		},
		"reads lag behind the update": {
			prepare: denyStates,
			script: []step{
				{0, func(f *fakeECS) {
					f.hidden = f.deployments[0]
					f.deployments = f.deployments[1:]
					f.deployments[0].status = "PRIMARY"
				}},
				{8 * time.Second, func(f *fakeECS) {
					f.deployments[0].status = "ACTIVE"
					f.deployments = slices.Insert(f.deployments, 0, f.hidden)
				}},
				done(30 * time.Second),
			},
			status: StatusSucceeded,
		},
		"back on the old deployment without a word": {
			prepare: denyStates,
			script: []step{{20 * time.Second, func(f *fakeECS) {
				f.deployments = f.deployments[1:]
				f.deployments[0].status = "PRIMARY"
			}}},
			status: StatusRolledBack, reason: []string{"back on deployment ecs-svc/1"}, fails: []string{"did not succeed"}, max: 100 * time.Second,
		},
		"somebody else's service deployment is not taken for ours": {
			script: []step{
				{0, func(f *fakeECS) {
					f.states[1].created = time.Now().Add(3 * time.Second)
					f.states = append(f.states, &fakeState{arn: account + "service-deployment/prod/web/sdX", status: "SUCCESSFUL", revision: "rX", taskDefinition: otherTD, created: time.Now()})
				}},
				set(30*time.Second, "STOPPED", ""),
			},
			status: StatusStopped, fails: []string{"stopped"},
			check: func(t *testing.T, _ *fakeECS, out Outcome, _ []Event) {
				t.Helper()
				if out.DeploymentARN != ourSD {
					t.Errorf("deployment ARN %q, want ours", out.DeploymentARN)
				}
			},
		},
		"timed out": {
			opts:   Options{WaitLimit: 5 * time.Minute},
			script: []step{{10 * time.Second, func(f *fakeECS) { f.state(2).status, f.deployment("ecs-svc/2").running = "IN_PROGRESS", 1 }}},
			status: StatusTimedOut, reason: []string{"not stable after 5m", `"wait-for-minutes"`, `"rollback-on-failure" is false`},
			fails: []string{`"wait-for-minutes" is "5"`, "ecs-svc/2 of web:2 goes on with 1 of 2 tasks running", "aws ecs stop-service-deployment --region eu-central-1 --service-deployment-arn " + ourSD + " --stop-type ROLLBACK"},
			calls: map[string]int{"StopServiceDeployment": 0}, max: 6 * time.Minute,
		},
		"timed out and rolled back": {
			opts:    Options{WaitLimit: 5 * time.Minute, RollbackOnFailure: true},
			prepare: func(f *fakeECS) { f.onStop = []step{rolledBack(time.Minute, "ecs-svc/3")} },
			status:  StatusRolledBack, reason: []string{"not stable after 5m", "rolled back to web:1"}, fails: []string{"wait-for-minutes"},
			calls: map[string]int{"StopServiceDeployment": 1},
		},
		"timed out, and the rollback does not end": {
			opts:   Options{WaitLimit: 5 * time.Minute, RollbackOnFailure: true},
			status: StatusTimedOut, reason: []string{"its end was not seen: not finished after 15m"}, fails: []string{"on its way back"}, max: 21 * time.Minute,
		},
		"timed out, rollback asked, but it had just succeeded": {
			opts:    Options{WaitLimit: 5 * time.Minute, RollbackOnFailure: true},
			prepare: func(f *fakeECS) { f.onStop = []step{done(0)} },
			status:  StatusSucceeded,
		},
		"desired count 0": {
			prepare: func(f *fakeECS) { f.service["desiredCount"] = 0 },
			script:  []step{done(5 * time.Second)}, status: StatusSucceeded, reason: []string{"nothing was verified"},
		},
		"unchanged": {
			prepare: func(f *fakeECS) { f.deployments[0].taskDefinition = newTD },
			status:  StatusUnchanged, reason: []string{"already runs"}, calls: map[string]int{"UpdateService": 0, "DescribeServices": 1},
		},
		"the same is under way already": {
			prepare: func(f *fakeECS) {
				f.replace("ecs-svc/2", newTD)
				f.states = append(f.states, &fakeState{arn: ourSD, status: "IN_PROGRESS", revision: "r2", taskDefinition: newTD, created: time.Now()})
				f.plan([]step{done(time.Minute)})
			},
			status: StatusSucceeded, calls: map[string]int{"UpdateService": 0},
			check: func(t *testing.T, _ *fakeECS, out Outcome, events []Event) {
				t.Helper()
				if got := of[Started](events); len(got) != 1 || !got[0].Joined || out.PreviousARN != oldTD {
					t.Errorf("Started %v, previous %q; want joined, web:1", got, out.PreviousARN)
				}
			},
		},
		"the same is under way, with failures from before": {
			prepare: func(f *fakeECS) {
				f.replace("ecs-svc/2", newTD)
				f.deployments[0].created, f.deployments[0].failed, f.deployments[0].running = time.Now().Add(-10*time.Minute), 3, 1
				for _, id := range []string{"t1", "t2", "t3"} {
					f.stopTask(id, "ecs-svc/2", "EssentialContainerExited", "Essential container in task exited", 1)
					f.tasks[len(f.tasks)-1]["stoppedAt"] = epoch(time.Now().Add(-5 * time.Minute))
				}
				f.states = append(f.states, &fakeState{arn: ourSD, status: "IN_PROGRESS", revision: "r2", taskDefinition: newTD, created: time.Now().Add(-10 * time.Minute)})
				f.plan([]step{{time.Second, func(f *fakeECS) { f.deployments[0].running = 0 }}, done(time.Minute)})
			},
			status: StatusSucceeded, calls: map[string]int{"UpdateService": 0},
		},
		"the same is under way, and stuck": {
			prepare: func(f *fakeECS) {
				f.replace("ecs-svc/0", newTD)
				f.deployments[0].failed = 7
			},
			script: []step{done(time.Minute)}, status: StatusSucceeded,
			check: func(t *testing.T, f *fakeECS, _ Outcome, _ []Event) {
				t.Helper()
				wantIn(t, "UpdateService", f.bodies["UpdateService"][0], `"forceNewDeployment":true`)
			},
		},
		"the same has failed before": {
			prepare: func(f *fakeECS) { f.deployments[0].taskDefinition, f.deployments[0].rollout = newTD, "FAILED" },
			script:  []step{done(time.Minute)}, status: StatusSucceeded,
			check: func(t *testing.T, f *fakeECS, _ Outcome, _ []Event) {
				t.Helper()
				wantIn(t, "UpdateService", f.bodies["UpdateService"][0], `"forceNewDeployment":true`)
			},
		},
		"behind a Classic Load Balancer without the reads": {
			prepare: func(f *fakeECS) { denyStates(f); f.deployments[0].rollout = "" },
			script:  []step{{0, func(f *fakeECS) { f.deployment("ecs-svc/2").rollout = "" }}},
			status:  StatusStarted, fails: []string{"goes on, but can no longer be watched", "Classic Load Balancer"},
		},
		"one failing read changes nothing": {
			prepare: func(f *fakeECS) {
				f.hook = func(action string, call int) error {
					if action == "DescribeServices" && call > 3 && call < 20 {
						return errors.New("connection reset by peer")
					}
					return nil
				}
			},
			script: []step{done(2 * time.Minute)}, status: StatusSucceeded,
		},
		"session expired while waiting": {
			script: []step{{time.Minute, func(f *fakeECS) { f.refuse["DescribeServices"] = "ExpiredTokenException" }}},
			status: StatusStarted, fails: []string{"goes on", "ExpiredTokenException"}, max: 70 * time.Second,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.script = test.script
				if test.prepare != nil {
					test.prepare(f)
				}
				test.opts.Wait = true
				c, events := f.client(test.opts)
				start := time.Now()
				out, err := c.Deploy(t.Context(), newTD)
				if took := time.Since(start); test.max != 0 && took > test.max {
					t.Errorf("took %s, want at most %s", took, test.max)
				}
				if out.Status != test.status {
					t.Errorf("status %q (%s), want %q; error: %v", out.Status, out.Reason, test.status, err)
				}
				wantIn(t, "reason", out.Reason, test.reason...)
				wantError(t, err, test.fails)
				for action, want := range test.calls {
					if got := f.count(action); got != want {
						t.Errorf("%s was called %d times, want %d", action, got, want)
					}
				}
				if test.check != nil {
					test.check(t, f, out, *events)
				}
			})
		})
	}
}

func denyStates(f *fakeECS) {
	f.refuse["ListServiceDeployments"] = "AccessDeniedException"
	f.refuse["DescribeServiceDeployments"] = "AccessDeniedException"
	delete(f.service, "currentServiceDeployment")
}

// wantError checks that err is a problem.Error with a remedy and the parts in
// its text, or nil where there are none.
func wantError(t *testing.T, err error, parts []string) {
	t.Helper()
	if len(parts) == 0 {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	var e *problem.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a problem", err)
	}
	if e.Fix == "" {
		t.Errorf("error %v has no remedy", err)
	}
	wantIn(t, "error", err.Error(), parts...)
}
