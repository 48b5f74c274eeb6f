package report_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/registry"
	"github.com/towline/towline/internal/report"
)

const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

// wholeBuild is a run up to the registered task definition.
func wholeBuild(r *report.Reporter) {
	end := r.Phase("Credentials")
	pass(1200 * time.Millisecond)
	r.Say("assumed", "arn:aws:sts::123456789012:assumed-role/deploy/towline-4711-1", "account 123456789012", "eu-central-1")
	end(nil)
	end = r.Phase("Build")
	steps := []struct {
		name   string
		took   time.Duration
		cached bool
		size   int64
	}{
		{name: "[build 1/4] FROM docker.io/library/golang:1.26@" + digest, took: 4 * time.Second},
		{name: "[build 2/4] COPY go.mod go.sum ./", cached: true},
		{name: "[build 3/4] RUN --mount=type=cache,target=/root/go go mod download; echo 50%", took: 11 * time.Second, size: 1 << 20},
		{name: `[build 4/4] RUN CGO_ENABLED=0 go build -ldflags "-s -w -X main.version={{1}}" -o /out/app ./cmd/app # a: comment; <b>`, took: 38 * time.Second, size: 18 << 20},
		{name: "[stage-1 2/2] COPY --from=build /out/app /app", took: 400 * time.Millisecond, size: 7 << 20},
	}
	for i, s := range steps {
		id := fmt.Sprint(i)
		r.Build(progress.StepStarted{ID: id, Name: s.name, Cached: s.cached})
		pass(s.took)
		if s.size > 0 {
			r.Build(progress.LayerDone{ID: id, Digest: digest, Size: s.size, Files: 12, Duration: time.Second})
		}
		r.Build(progress.StepDone{ID: id, Cached: s.cached, Duration: s.took})
	}
	r.Fact("Size", "218.4 MB")
	r.Fact("Digest", digest)
	end(nil)
	end = r.Phase("Push")
	pass(8 * time.Second)
	r.Registry(registry.Event{Kind: registry.KindPushed, Object: "layer " + digest, Repository: host + "/shop", Size: 218_400_000, Duration: 8 * time.Second})
	r.Fact("Image", host+"/shop:v2@"+digest)
	end(nil)
	end = r.Phase("Task definition")
	r.Change("containerDefinitions[app].image", `"`+host+`/shop:v1"`, `"`+host+`/shop:v2@`+digest+`"`)
	r.Change("containerDefinitions[app].environment[STAGE]", "", `"prod"`)
	r.HealthCheck("app", 30*time.Second)
	r.Fact("Task definition", arnV2)
	end(nil)
}

func newTask(n int, created time.Time) deploy.TaskTimes {
	return deploy.TaskTimes{
		TaskID: fmt.Sprintf("%08x%024x", n*0x1234567, n), CreatedAt: created,
		PullStartedAt: created.Add(11 * time.Second), PullStoppedAt: created.Add(37 * time.Second),
		StartedAt: created.Add(39 * time.Second), HealthyBy: created.Add(82 * time.Second),
	}
}

// wholeRun is a run in which all goes well, though slowly.
func wholeRun(r *report.Reporter) {
	wholeBuild(r)
	end := r.Phase("Deployment")
	from := time.Now()
	r.Deploy(deploy.Started{DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2, PreviousARN: arnV1, ConsoleURL: "https://console.example.com/x"})
	for _, s := range []deploy.Waiting{{Pending: 2, Desired: 2}, {Running: 1, Pending: 1, Desired: 2}, {Running: 2, Desired: 2}} {
		pass(20 * time.Second)
		s.State, s.Elapsed, s.DeploymentID = "IN_PROGRESS", time.Since(from), "ecs-svc/42"
		r.Deploy(s)
	}
	pass(25 * time.Second)
	r.Deploy(deploy.ServiceEvent{At: time.Now(), Message: "(service web) has begun draining connections on 2 tasks."})
	pass(300 * time.Second)
	r.Deploy(deploy.ServiceEvent{At: time.Now(), Message: "(service web) has stopped 2 running tasks: (task a) (task b)."})
	r.Deploy(deploy.Timing{Tasks: []deploy.TaskTimes{newTask(1, from), newTask(2, from.Add(time.Second))}, Stopped: 2, Killed: 2, StopTook: 30 * time.Second})
	r.Deploy(deploy.Done{Outcome: deploy.Outcome{Status: deploy.StatusSucceeded, DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2}})
	r.Fact("Deployment", "succeeded ecs-svc/42")
	r.Fact("Console", "https://console.example.com/x")
	end(nil)
}

// wholeShift is a deployment that moves traffic, and bakes.
func wholeShift(r *report.Reporter) {
	wholeBuild(r)
	end := r.Phase("Deployment")
	from := time.Now()
	r.Deploy(deploy.Started{DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2, PreviousARN: arnV1})
	for i, s := range []string{"SCALE_UP", "TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME", "CLEAN_UP"} {
		share := float64(25 * i)
		r.Deploy(deploy.Stage{DeploymentID: "ecs-svc/42", Stage: s, Production: &share, Elapsed: time.Since(from)})
		pass(time.Duration(40+i*25) * time.Second)
	}
	r.Deploy(deploy.Timing{Tasks: []deploy.TaskTimes{newTask(1, from)}})
	r.Deploy(deploy.Done{Outcome: deploy.Outcome{Status: deploy.StatusSucceeded, DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2}})
	end(nil)
}

// wholeFailure is a run whose tasks crash.
func wholeFailure(r *report.Reporter) {
	wholeBuild(r)
	end := r.Phase("Deployment")
	from, code := time.Now(), 2
	r.Deploy(deploy.Started{DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2, PreviousARN: arnV1, ConsoleURL: "https://console.example.com/x"})
	pass(50 * time.Second)
	for i := range 3 {
		t := newTask(i+1, from.Add(time.Duration(i)*5*time.Second))
		r.Deploy(deploy.TaskFailed{
			TaskID: t.TaskID, StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited",
			Containers: []deploy.ContainerEnd{{Name: "app", ExitCode: &code}},
			CreatedAt:  t.CreatedAt, StartedAt: t.StartedAt, StoppedAt: t.StartedAt.Add(3 * time.Second),
			Summary: "container app ended with exit code 2", Fix: "Run the image locally with the task's environment and look at its output.",
		})
		r.Deploy(deploy.LogLines{TaskID: t.TaskID, Container: "app", Lines: []string{"starting", "panic: DATABASE_URL is not set"}})
	}
	pass(70 * time.Second)
	r.Deploy(deploy.RollingBack{Reason: "circuit breaker", ByECS: true})
	r.Deploy(deploy.Done{Outcome: deploy.Outcome{Status: deploy.StatusRolledBack, DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2, PreviousARN: arnV1}})
	r.Fact("Deployment", "rolled-back ecs-svc/42")
	r.Fact("Reason", "circuit breaker threshold exceeded: container app ended with exit code 2")
	err := &problem.Error{
		Op: "deploy to service web", Err: errors.New("deployment ecs-svc/42 of web:2 did not succeed: rolled back because the circuit breaker threshold was exceeded: container app ended with exit code 2"),
		Fix: "Run the image locally with the task's environment and look at its output.", Detail: []string{"starting", "panic: DATABASE_URL is not set"},
	}
	end(err)
	r.Fail("deploy", err)
}
