package report_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/actions"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/registry"
	"github.com/towline/towline/internal/report"
)

var update = flag.Bool("update", false, "rewrite the expected results")

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// TestReports turns events into words, on virtual time. testdata/reports has for
// each case the log on GitHub ("log"), the log elsewhere ("plain"), and the job
// summary: read them as a user would.
func TestReports(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*report.Reporter){
		"build": build, "failing-build": failingBuild, "warnings": warnings, "untrusted": untrusted, "push": push,
		"deployment": deployment, "failing-tasks": failingTasks, "ends": ends, "several-problems": severalProblems,
		"changes-and-outputs": changesAndOutputs, "colors": build,
		"whole-run": wholeRun, "whole-shift": wholeShift, "whole-failure": wholeFailure,
	}
	for name, play := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("testdata", "reports", name+".txtar")
			got := &txtar.Archive{}
			for _, plain := range []bool{false, true} {
				log, summary := record(t, plain, name == "colors", play)
				if plain {
					got.Files = append(got.Files, txtar.File{Name: "plain", Data: log})
					continue
				}
				got.Files = append(got.Files, txtar.File{Name: "log", Data: log}, txtar.File{Name: "summary", Data: summary})
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(txtar.Format(got)), "\n"), strings.Split(string(want), "\n")); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

// record plays a case and gives its log and its summary.
func record(t *testing.T, plain, colors bool, play func(*report.Reporter)) (log, summary []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "summary")
	env := map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": file, "GITHUB_OUTPUT": file + "-outputs"}
	if !colors {
		env["NO_COLOR"] = "1"
	}
	var b bytes.Buffer
	t.Run(fmt.Sprintf("plain=%t", plain), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			runner := actions.New(actions.Options{Getenv: func(name string) string { return env[name] }, Stdout: &b, Plain: plain})
			r := report.New(runner)
			play(r)
			ok := !regexp.MustCompile(`(?m)^(::error |error: )`).Match(b.Bytes())
			if err := r.Finish(ok); err != nil {
				t.Error(err)
			}
			r.Close(ok)
		})
	})
	if !plain {
		var err error
		if summary, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	log = regexp.MustCompile(`(?m)^::stop-commands::\w{26}$`).ReplaceAll(b.Bytes(), []byte("::stop-commands::TOKEN"))
	log = regexp.MustCompile(`(?m)^::[A-Z0-9]{26}::$`).ReplaceAll(log, []byte("::TOKEN::"))
	return log, summary
}

// pass lets time pass.
func pass(d time.Duration) { <-time.After(d) }

func build(r *report.Reporter) {
	end := r.Phase("Build")
	r.Build(progress.SandboxChosen{Name: "in place"})
	r.Build(progress.StepStarted{ID: "i", Name: "[internal] load .dockerignore"})
	r.Build(progress.StepDone{ID: "i"})
	r.Build(progress.StepStarted{ID: "a", Name: "[build 1/3] FROM docker.io/library/golang:1.26-alpine@" + digest})
	r.Build(progress.StepDone{ID: "a", Duration: 3 * time.Millisecond})
	r.Build(progress.StepStarted{ID: "b", Name: "[build 2/3] RUN <<EOF (set -e...)\n  go mod download\n"})
	r.Build(progress.StepStarted{ID: "c", Name: "[stage-1 2/2] RUN apk add --no-cache ca-certificates tzdata curl git openssh-client bash coreutils findutils grep sed gawk jq yq"})
	r.Build(progress.BaseUnpacked{Ref: "docker.io/library/golang:1.26-alpine@" + digest, Layers: 5, Size: 287_400_000, Duration: 4200 * time.Millisecond})
	r.Build(progress.StepOutput{ID: "b", Data: []byte("go: downloading golang.org/x/sync")})
	r.Build(progress.StepOutput{ID: "c", Data: []byte("(1/3) Installing tzdata\n(2/3) Inst")})
	r.Build(progress.StepOutput{ID: "b", Data: []byte(" v0.20.0\n")})
	r.Build(progress.StepOutput{ID: "c", Data: []byte("alling curl\n")})
	r.Build(progress.StepOutput{ID: "c", Data: []byte("OK: 12 MiB, and no line's end")})
	pass(75 * time.Second)
	r.Build(progress.LayerDone{ID: "c", Digest: digest, Size: 12_345_678, Files: 1204, Duration: 812 * time.Millisecond})
	r.Build(progress.StepDone{ID: "c", Duration: 75 * time.Second})
	r.Build(progress.LayerDone{ID: "b", Digest: digest, Size: 999, Files: 1, Duration: 2 * time.Millisecond})
	r.Build(progress.StepDone{ID: "b", Duration: 75 * time.Second})
	r.Build(progress.StepStarted{ID: "d", Name: "[build 3/3] RUN make"})
	r.Build(progress.StepDone{ID: "d", Cached: true})
	end(nil)
}

func failingBuild(r *report.Reporter) {
	end := r.Phase("Build")
	r.Build(progress.StepStarted{ID: "a", Name: "[2/2] RUN make"})
	r.Build(progress.StepOutput{ID: "a", Data: []byte("cc -c x.c\nx.c:1: error: no such thing\n")})
	r.Build(progress.StepDone{ID: "a", Err: errors.New("exit code 2"), Duration: time.Second})
	pass(time.Second)
	err := &problem.Error{
		Op: "build [2/2] RUN   make \\\n   all", Err: errors.New("exit code 2"), File: "app/Dockerfile", Line: 12,
		Detail: []string{"cc -c x.c", "x.c:1: error: no such thing", "```", "::error::not ours"},
	}
	end(err)
	r.Fail("deploy", err)
}

func warnings(r *report.Reporter) {
	for line := range 12 {
		r.Build(progress.Warning{
			File: "Dockerfile", Line: line + 1, Message: fmt.Sprintf("JSONArgsRecommended: JSON arguments recommended for CMD <%d> (line %d)", line, line+1),
			Detail: "JSON arguments are recommended for ENTRYPOINT and CMD", URL: "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
		})
	}
	r.Build(progress.Warning{Detail: "a finding without a place"})
}

func untrusted(r *report.Reporter) {
	r.Build(progress.StepStarted{ID: "a", Name: "[1/1] RUN evil"})
	r.Build(progress.StepOutput{ID: "a", Data: []byte("::set-output name=image::evil\n##[error]evil\n 10%\r 50%\r100%\ncarriage\r\n\n")})
	r.Build(progress.StepOutput{ID: "a", Data: []byte(strings.Repeat("x", 100_000) + "\n")})
	r.Build(progress.StepOutput{ID: "a", Data: bytes.Repeat([]byte("no end "), 10_000)})
	r.Build(progress.StepOutput{ID: "unknown", Data: []byte("a step that was never begun\n")})
	r.Build(progress.StepDone{ID: "a"})
	r.Deploy(deploy.ServiceEvent{At: time.Date(2026, 11, 5, 9, 3, 7, 0, time.UTC), Message: "(service web)\n::error::evil"})
}

func push(r *report.Reporter) {
	const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop"
	end := r.Phase("Push")
	for kind, size := range []int64{0, 172, 12_345_678, 4_812_345_678} {
		r.Registry(registry.Event{
			Kind:   []registry.Kind{registry.KindMounted, registry.KindExists, registry.KindPushed, registry.KindPushed}[kind],
			Object: "layer " + digest, Repository: host, Size: size, Duration: time.Duration(size) * 10,
		})
	}
	r.Registry(registry.Event{Kind: registry.KindPushed, Object: "config " + digest, Repository: host, Size: 1700, Duration: 20 * time.Millisecond})
	r.Registry(registry.Event{Kind: registry.KindPushed, Object: "manifest " + digest, Repository: host, Size: 868, Duration: 20 * time.Millisecond})
	r.Registry(registry.Event{Kind: registry.KindPushed, Object: "tag 127.0.0.1:37989/rehearsal:4e5d1f7a90b3", Repository: "127.0.0.1:37989/rehearsal", Duration: time.Millisecond})
	end(nil)
}

const (
	arnV1 = "arn:aws:ecs:eu-central-1:123456789012:task-definition/web:1"
	arnV2 = "arn:aws:ecs:eu-central-1:123456789012:task-definition/web:2"
)

func deployment(r *report.Reporter) {
	end := r.Phase("Deployment")
	r.Deploy(deploy.Registered{ARN: arnV2, Changed: true})
	r.Deploy(deploy.Started{DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2, PreviousARN: arnV1, ConsoleURL: "https://console.example.com/x"})
	r.Deploy(deploy.Waiting{DeploymentID: "ecs-svc/42", State: "PENDING", Desired: 4})
	r.Deploy(deploy.Waiting{DeploymentID: "ecs-svc/42", State: "IN_PROGRESS", Running: 2, Pending: 2, Desired: 4, Elapsed: 38 * time.Second})
	r.Deploy(deploy.ServiceEvent{At: time.Date(2026, 11, 5, 9, 3, 7, 0, time.UTC), Message: "(service web) has started 2 tasks: (task a) (task b)."})
	r.Deploy(deploy.Notice{Message: "ecs:ListTasks is denied: failing tasks cannot be named"})
	pass(125 * time.Second)
	r.Deploy(deploy.Waiting{DeploymentID: "ecs-svc/42", State: "IN_PROGRESS", Running: 4, Desired: 4, Elapsed: 125 * time.Second})
	r.Deploy(deploy.Done{Outcome: deploy.Outcome{Status: deploy.StatusSucceeded, DeploymentID: "ecs-svc/42"}})
	r.Fact("Console", "https://console.example.com/x")
	r.Fact("Deployment", "succeeded ecs-svc/42")
	end(nil)
}

func failingTasks(r *report.Reporter) {
	code := 2
	for i := range 3 {
		id := fmt.Sprintf("%032x", i+1)
		r.Deploy(deploy.TaskFailed{
			TaskID: id, StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited",
			Containers: []deploy.ContainerEnd{{Name: "app", ExitCode: &code}, {Name: "proxy"}, {Name: "log", Reason: "OutOfMemoryError: killed"}},
			Summary:    "container app ended with exit code 2", Fix: "Run the image locally.",
		})
		r.Deploy(deploy.LogLines{TaskID: id, Container: "app", Lines: []string{"starting", "panic: no | DATABASE_URL"}})
	}
	r.Deploy(deploy.TaskFailed{TaskID: "f", StopCode: "TaskFailedToStart", Summary: "no capacity"})
	r.Deploy(deploy.RollingBack{Reason: "3 tasks failed", To: arnV1})
	r.Deploy(deploy.RollingBack{Reason: "circuit breaker", ByECS: true})
	r.Deploy(deploy.Done{Outcome: deploy.Outcome{Status: deploy.StatusRolledBack, DeploymentID: "ecs-svc/42"}})
}

func ends(r *report.Reporter) {
	for _, status := range []deploy.Status{
		deploy.StatusSucceeded, deploy.StatusFailed, deploy.StatusSuperseded, deploy.StatusTimedOut, deploy.StatusStopped, deploy.StatusUnchanged, deploy.StatusStarted,
	} {
		r.Deploy(deploy.Done{Outcome: deploy.Outcome{Status: status, DeploymentID: "ecs-svc/42"}})
	}
	r.Deploy(deploy.Registered{ARN: arnV1})
	r.Deploy(deploy.Started{DeploymentID: "ecs-svc/42", TaskDefinitionARN: arnV2, Joined: true})
	r.Phase("Not finished")
}

func severalProblems(r *report.Reporter) {
	end := r.Phase("Pre-flight")
	err := errors.Join(
		&problem.Error{Op: "find repository", Input: "repository", Value: "shoop", Err: errors.New("RepositoryNotFoundException: it does not exist"), Fix: "Create it: aws ecr create-repository"},
		&problem.Error{Op: "assume role", Err: errors.New("AccessDenied: <no> & *never*"), Fix: "Add a statement:\n{\n  \"Effect\": \"Allow\"\n}", Detail: []string{"the token's sub: repo:acme/shop"}},
		errors.New("an error of nobody's"),
	)
	end(err)
	r.Fail("deploy", err)
}

func changesAndOutputs(r *report.Reporter) {
	r.Change("containerDefinitions[app].image", `"shop@`+digest+`"`, `"shop:v2"`)
	r.Change("containerDefinitions[app].environment[STAGE]", "", `"prod"`)
	r.Change("tags[team]", `"shop"`, "")
	r.Change("containerDefinitions[app].command", `"`+strings.Repeat("long ", 200)+`"`, `"short"`)
	_ = r.Output("image", "shop:v1")
	_ = r.Output("image", "shop:v2@"+digest)
	_ = r.Output("tags", "shop:v2\nshop:latest")
	r.Outputs()
}
