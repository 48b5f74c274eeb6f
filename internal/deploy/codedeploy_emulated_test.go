package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

const behindBalancer = `{"deploymentController":{"type":"CODE_DEPLOY"},"loadBalancers":[{"targetGroupArn":"arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/blue/1","containerName":"web","containerPort":80}]}`

// codeDeployCase is one deployment by CodeDeploy.
type codeDeployCase struct {
	group   emulator.DeploymentGroup
	opts    deploy.Options
	next    emulator.Behaviour // of the new task definition's tasks
	faults  []emulator.Fault
	denied  []string
	cancel  time.Duration // when the caller goes away
	after   map[time.Duration]func(*cdsdk.Client, string)
	status  deploy.Status
	fails   []string
	reason  string
	ends    string   // what the service's PRIMARY runs at the end; default web:2
	stages  []string // told in this order
	longest time.Duration
	creates int // CreateDeployment that were carried out; default 1
}

// TestCodeDeploy goes the whole way with CodeDeploy on the emulator.
func TestCodeDeploy(t *testing.T) {
	t.Parallel()
	crash := emulator.Behaviour{Logs: []string{"no DATABASE_URL"}, Exit: &emulator.Exit{Code: 3}}
	onFailure := []string{"DEPLOYMENT_FAILURE"}
	tests := map[string]codeDeployCase{
		"at once": {
			group: emulator.DeploymentGroup{TerminationWait: time.Minute}, status: deploy.StatusSucceeded, longest: time.Minute, reason: "CodeDeploy ends the old ones",
			stages: []string{"Install", "AfterAllowTraffic 100"},
		},
		"traffic has moved, old tasks stay an hour": {
			group: emulator.DeploymentGroup{TerminationWait: time.Hour}, status: deploy.StatusSucceeded, longest: 2 * time.Minute,
			reason: "after 60 minutes, until when no other deployment can start",
		},
		"to the very end": {
			group: emulator.DeploymentGroup{TerminationWait: 10 * time.Minute}, opts: deploy.Options{CodeDeploy: deploy.CodeDeploy{WaitForEnd: true}},
			status: deploy.StatusSucceeded, longest: 12 * time.Minute,
		},
		"linear, another configuration": {
			opts:   deploy.Options{CodeDeploy: deploy.CodeDeploy{Config: "CodeDeployDefault.ECSLinear10PercentEvery1Minutes"}},
			status: deploy.StatusSucceeded, longest: 11 * time.Minute,
			stages: []string{"AllowTraffic 10", "AllowTraffic 50", "AllowTraffic 90", "AfterAllowTraffic 100"},
		},
		"canary": {
			group: emulator.DeploymentGroup{Config: "CodeDeployDefault.ECSCanary10Percent5Minutes"}, status: deploy.StatusSucceeded, longest: 7 * time.Minute,
			stages: []string{"AllowTraffic 10", "AfterAllowTraffic 100"},
		},
		"group of another name": {
			group: emulator.DeploymentGroup{Application: "shop", Name: "web-blue-green"}, status: deploy.StatusSucceeded,
		},
		"given": {
			group:  emulator.DeploymentGroup{Application: "shop", Name: "web-blue-green"},
			opts:   deploy.Options{CodeDeploy: deploy.CodeDeploy{Application: "shop", Group: "web-blue-green", Description: strings.Repeat("d", 600)}},
			denied: []string{"ListApplications", "ListDeploymentGroups"}, status: deploy.StatusSucceeded,
		},
		"without the targets": {
			denied: []string{"ListDeploymentTargets", "ListTasks"}, status: deploy.StatusSucceeded, longest: time.Minute,
		},
		"in spite of faults": {
			status: deploy.StatusSucceeded,
			faults: []emulator.Fault{
				{Action: "CreateDeployment", Kind: emulator.Throttle, Times: 3},
				{Action: "GetDeployment", Kind: emulator.Unavailable, Times: 3},
				{Action: "GetDeploymentGroup", Kind: emulator.Reset},
				{Action: "BatchGetDeploymentTargets", Kind: emulator.CutAnswer, Bytes: 20},
			},
		},
		"the answer is lost": {faults: []emulator.Fault{{Action: "CreateDeployment", Kind: emulator.Lost}}, status: deploy.StatusSucceeded},
		"hook fails": {
			group: emulator.DeploymentGroup{RollbackOn: onFailure, Ends: map[string]emulator.LifecycleEnd{
				"BeforeAllowTraffic": {Code: "HOOK_EXECUTION_FAILURE", Message: "smoke test got 500"},
			}},
			status: deploy.StatusRolledBack, ends: "web:1",
			fails: []string{"HOOK_EXECUTION_FAILURE: The deployment failed because the lifecycle event BeforeAllowTraffic failed: smoke test got 500", "rolled back to web:1 by deployment d-", "PutLifecycleEventHookExecutionStatus"},
		},
		"hook fails after the traffic": {
			group: emulator.DeploymentGroup{Ends: map[string]emulator.LifecycleEnd{"AfterAllowTraffic": {Code: "HOOK_EXECUTION_FAILURE"}}},
			opts:  deploy.Options{RollbackOnFailure: true}, status: deploy.StatusRolledBack, ends: "web:1", fails: []string{"AfterAllowTraffic failed", "rolled back to web:1"},
		},
		"hook fails, not rolled back": {
			group:  emulator.DeploymentGroup{Ends: map[string]emulator.LifecycleEnd{"AfterInstall": {Code: "HOOK_EXECUTION_FAILURE"}}},
			status: deploy.StatusFailed, ends: "web:1", fails: []string{"AfterInstall failed", "no traffic stays on the new tasks, the service runs web:1"},
		},
		"alarm": {
			group: emulator.DeploymentGroup{
				RollbackOn: []string{"DEPLOYMENT_STOP_ON_ALARM"}, Config: "CodeDeployDefault.ECSCanary10Percent5Minutes",
				Ends: map[string]emulator.LifecycleEnd{"AllowTraffic": {After: time.Minute, Code: "ALARM_ACTIVE"}},
			},
			status: deploy.StatusRolledBack, ends: "web:1", fails: []string{"ALARM_ACTIVE", "Look at the alarm's metric", "rolled back to web:1"},
		},
		"crashing tasks": {
			next: crash, opts: deploy.Options{RollbackOnFailure: true}, longest: 2 * time.Minute,
			status: deploy.StatusRolledBack, ends: "web:1", fails: []string{"none stays up", "exit code 3", "rolled back to web:1"},
		},
		"crashing tasks, left": {
			next: crash, longest: 2 * time.Minute,
			status: deploy.StatusFailed, ends: "web:1", fails: []string{"exit code 3", `input "rollback-on-failure" is false`, "aws deploy stop-deployment --region us-east-1 --deployment-id d-"},
		},
		"never healthy": {
			next: emulator.Behaviour{Health: emulator.Undecided}, opts: deploy.Options{WaitLimit: 5 * time.Minute, RollbackOnFailure: true},
			status: deploy.StatusRolledBack, ends: "web:1", fails: []string{"wait-for-minutes", "rolled back"},
		},
		"never healthy, left": {
			next: emulator.Behaviour{Health: emulator.Undecided}, opts: deploy.Options{WaitLimit: 5 * time.Minute},
			status: deploy.StatusTimedOut, ends: "web:1", fails: []string{"goes on with 2 of 2 new tasks running", "aws deploy stop-deployment"},
		},
		"never healthy, CodeDeploy's own limit": {
			next: emulator.Behaviour{Health: emulator.Undecided}, opts: deploy.Options{WaitLimit: 2 * time.Hour, RollbackOnFailure: true},
			status: deploy.StatusRolledBack, ends: "web:1", fails: []string{"TIMEOUT", "60 minutes"},
		},
		"stopped by somebody": {
			next:   emulator.Behaviour{StartDelay: 10 * time.Minute},
			after:  map[time.Duration]func(*cdsdk.Client, string){time.Minute: stopDeployment},
			status: deploy.StatusStopped, ends: "web:1", fails: []string{"was stopped by somebody", "MANUAL_STOP"},
		},
		"paused": {
			group: emulator.DeploymentGroup{ReadyWait: time.Hour}, status: deploy.StatusPaused, ends: "web:1", reason: "paused before its traffic moves",
		},
		"paused, waited for": {
			group: emulator.DeploymentGroup{ReadyWait: time.Hour}, opts: deploy.Options{WaitAtPause: true},
			after:  map[time.Duration]func(*cdsdk.Client, string){5 * time.Minute: continueDeployment},
			status: deploy.StatusSucceeded, longest: 7 * time.Minute,
		},
		"cancelled": {
			next: emulator.Behaviour{StartDelay: 10 * time.Minute}, cancel: time.Minute, status: deploy.StatusStarted, ends: "web:1",
			fails: []string{"goes on in cluster shop", "aws deploy stop-deployment"}, longest: time.Minute + 5*time.Second,
		},
		"cancelled, rolled back": {
			next: emulator.Behaviour{StartDelay: 10 * time.Minute}, cancel: time.Minute, opts: deploy.Options{RollbackOnCancel: true}, status: deploy.StatusStarted,
			ends: "web:1", fails: []string{"was asked for and goes on"}, longest: time.Minute + 5*time.Second,
		},
		"unknown configuration": {
			opts:  deploy.Options{CodeDeploy: deploy.CodeDeploy{Config: "CodeDeployDefault.AllAtOnce"}},
			fails: []string{`"codedeploy-deployment-config"`, "CodeDeployDefault.ECSAllAtOnce"}, ends: "web:1", creates: -1,
		},
		"creating is not allowed": {
			denied: []string{"CreateDeployment"}, fails: []string{"Allow codedeploy:CreateDeployment on"}, ends: "web:1", creates: -1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { runCodeDeploy(t, test) })
		})
	}
}

// codeWorld is a cluster with a service that CodeDeploy deploys.
func codeWorld(t *testing.T, group emulator.DeploymentGroup, next emulator.Behaviour) (*emulator.Cloud, aws.Config) {
	t.Helper()
	cloud := emulator.New(emulator.Options{})
	cloud.AddLogGroup("/app")
	if _, err := cloud.AddService(emulator.Service{Cluster: "shop", Name: "web", TaskDefinition: definition, DesiredCount: 2, Settings: behindBalancer}); err != nil {
		t.Fatal(err)
	}
	group.Cluster, group.Service = "shop", "web"
	cloud.AddDeploymentGroup(group)
	cloud.Behave(func(i emulator.TaskInfo) emulator.Behaviour {
		if i.Revision == 1 {
			return emulator.Behaviour{}
		}
		return next
	})
	return cloud, configOf(cloud)
}

// configOf gives the credentials of a user who may do everything.
func configOf(cloud *emulator.Cloud) aws.Config {
	cloud.AddUser("AKIAIOSFODNN7EXAMPLE", "secret")
	return aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
		HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
	}
}

func runCodeDeploy(t *testing.T, test codeDeployCase) {
	t.Helper()
	cloud, config := codeWorld(t, test.group, test.next)
	for _, action := range test.denied {
		cloud.Fail(emulator.Fault{Action: action, Kind: emulator.Denied, Times: -1})
	}
	for _, fault := range test.faults {
		cloud.Fail(fault)
	}
	var events []deploy.Event
	id := ""
	test.opts.Config, test.opts.Cluster, test.opts.Service, test.opts.Wait = config, "shop", "web", true
	test.opts.Events = func(e deploy.Event) {
		events = append(events, e)
		if e, started := e.(deploy.Started); started {
			id = e.DeploymentID
		}
	}
	client := deploy.New(test.opts)
	arn := registerNext(t, client)
	for after, do := range test.after {
		time.AfterFunc(after, func() { do(cdsdk.NewFromConfig(config), id) })
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	if test.cancel > 0 {
		time.AfterFunc(test.cancel, func() { cancel(errors.New("the job was cancelled")) })
	}
	begin := time.Now()
	out, err := client.Deploy(ctx, arn)
	took := time.Since(begin)
	cancel(nil)
	check(t, out, err, test.status, test.fails)
	if test.longest > 0 && took > test.longest {
		t.Errorf("it took %s, want at most %s", took, test.longest)
	}
	if !strings.Contains(out.Reason, test.reason) {
		t.Errorf("reason %q, want %q in it", out.Reason, test.reason)
	}
	if test.creates >= 0 && (!strings.HasPrefix(out.CodeDeployID, "d-") || !strings.Contains(out.ConsoleURL, "/codesuite/codedeploy/deployments/"+out.CodeDeployID)) {
		t.Errorf("outcome %+v names no deployment", out)
	}
	checkStages(t, events, test.stages)
	created := 0
	for _, call := range cloud.Calls() {
		if call.Action == "CreateDeployment" && call.ErrorCode == "" {
			created++
		}
	}
	if want := max(test.creates+1, 1); test.creates >= 0 && created != want {
		t.Errorf("%d deployments were created, want %d", created, want)
	}
	service, err := deploy.New(deploy.Options{Config: config, Cluster: "shop", Service: "web"}).Service(t.Context())
	if err != nil && len(test.denied) == 0 {
		t.Fatal(err)
	}
	if want := firstNonEmpty(test.ends, "web:2"); err == nil && !strings.HasSuffix(service.TaskDefinitionARN, want) {
		t.Errorf("the service ends on %s, want %s", service.TaskDefinitionARN, want)
	}
	if t.Failed() {
		for _, e := range events {
			t.Logf("%T %+v", e, e)
		}
		t.Logf("%+v\n%v", out, err)
	}
}

// checkStages wants these stages in this order, among others.
func checkStages(t *testing.T, events []deploy.Event, want []string) {
	t.Helper()
	var got []string
	for _, e := range events {
		if e, is := e.(deploy.Stage); is {
			got = append(got, strings.TrimSpace(e.Stage+" "+fmt.Sprint(aws.ToFloat64(e.Production))))
		}
	}
	at := 0
	for _, stage := range want {
		i := slices.IndexFunc(got[at:], func(one string) bool { return one == stage || strings.HasPrefix(one, stage+" ") })
		if i < 0 {
			t.Errorf("stages %q, want %q in this order", got, want)
			return
		}
		at += i
	}
}

func firstNonEmpty(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func stopDeployment(other *cdsdk.Client, id string) {
	_, _ = other.StopDeployment(context.Background(), &cdsdk.StopDeploymentInput{DeploymentId: &id, AutoRollbackEnabled: aws.Bool(false)})
}

func continueDeployment(other *cdsdk.Client, id string) {
	_, _ = other.ContinueDeployment(context.Background(), &cdsdk.ContinueDeploymentInput{DeploymentId: &id, DeploymentWaitType: "READY_WAIT"})
}
