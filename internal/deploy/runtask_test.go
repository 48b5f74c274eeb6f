package deploy_test

import (
	"context"
	"encoding/json"
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
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

const (
	network = `"networkConfiguration":{"awsvpcConfiguration":{"subnets":["subnet-1"],"securityGroups":["sg-1"],"assignPublicIp":"ENABLED"}}`
	fargate = `{` + network + `,"launchType":"FARGATE","platformVersion":"LATEST"}`
	spot    = `{` + network + `,"capacityProviderStrategy":[{"capacityProvider":"FARGATE_SPOT","weight":2,"base":1}],"platformVersion":"1.4.0"}`
)

// taskWorld is a cloud with a service, a client for it, and what is heard.
type taskWorld struct {
	cloud  *emulator.Cloud
	client *deploy.Client
	task   deploy.Task
	events []deploy.Event
}

func newTaskWorld(t *testing.T, settings string, opts deploy.Options) *taskWorld {
	t.Helper()
	w := &taskWorld{cloud: emulator.New(emulator.Options{})}
	w.cloud.AddUser("AKIAIOSFODNN7EXAMPLE", "secret")
	w.cloud.AddLogGroup("/app")
	arn, err := w.cloud.AddService(emulator.Service{Cluster: "shop", Name: "web", TaskDefinition: definition, DesiredCount: 1, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	opts.Config = aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
		HTTPClient: &http.Client{Transport: w.cloud.RoundTripper()},
	}
	opts.Service, opts.Events = arn, func(e deploy.Event) { w.events = append(w.events, e) }
	w.client = deploy.New(opts)
	document, err := taskdef.Parse([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	service, err := w.client.Service(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.task = deploy.Task{Definition: document, DefinitionARN: service.TaskDefinitionARN, Container: "web", StartedBy: "towline-1-1", Wait: true}
	return w
}

// written is everything that the container was heard to write.
func (w *taskWorld) written() []string {
	var lines []string
	for _, e := range w.events {
		if e, ok := e.(deploy.TaskOutput); ok {
			lines = append(lines, e.Lines...)
		}
	}
	return lines
}

func TestRunTask(t *testing.T) {
	t.Parallel()
	exit := func(after time.Duration, code int) *emulator.Exit { return &emulator.Exit{After: after, Code: code} }
	many := make([]string, 1200)
	for i := range many {
		many[i] = fmt.Sprintf("line %d", i)
	}
	tests := map[string]struct {
		next    emulator.Behaviour
		faults  []emulator.Fault
		denied  []string
		opts    deploy.Options
		change  func(*deploy.Task)
		started int      // tasks
		fails   []string // in the error; empty: none
		wrote   []string
		notices int
	}{
		"well":                {next: emulator.Behaviour{Logs: []string{"a", "b"}, Exit: exit(time.Minute, 0)}, started: 1, wrote: []string{"a", "b"}},
		"well at once":        {next: emulator.Behaviour{Logs: []string{"a"}, Exit: exit(0, 0)}, started: 1, wrote: []string{"a"}},
		"writes much":         {next: emulator.Behaviour{Logs: many, Exit: exit(0, 0)}, started: 1, wrote: slices.Concat(many[:1000], many[1150:])},
		"fails":               {next: emulator.Behaviour{Logs: []string{"no table"}, Exit: exit(time.Second, 4)}, started: 1, fails: []string{"run task of web:1: container web ended with exit code 4; nothing was deployed"}, wrote: []string{"no table"}},
		"out of memory":       {next: emulator.Behaviour{Exit: &emulator.Exit{Code: 137, Reason: "OutOfMemoryError: Container killed due to memory usage"}}, started: 1, fails: []string{"out of memory"}},
		"cannot start":        {next: emulator.Behaviour{FailToStart: "CannotPullContainerError: pull access denied"}, started: 1, fails: []string{"the image cannot be pulled", "nothing was deployed"}},
		"no room":             {next: emulator.Behaviour{Unplaced: "RESOURCE:CPU"}, fails: []string{"ECS did not start the task: RESOURCE:CPU: no task can be placed"}},
		"no agent":            {next: emulator.Behaviour{Unplaced: "AGENT"}, fails: []string{"AGENT: no task can be placed"}},
		"no capacity":         {next: emulator.Behaviour{Unplaced: "Capacity is unavailable at this time. Please try again later or in a different availability zone"}, fails: []string{"AWS has no", "Try again later"}},
		"reason nobody knows": {next: emulator.Behaviour{Unplaced: "RESOURCE:FLUX"}, fails: []string{"ECS did not start the task: RESOURCE:FLUX", "Look at the cluster's capacity"}},
		"takes too long":      {next: emulator.Behaviour{Exit: exit(time.Hour, 0)}, opts: deploy.Options{WaitLimit: 3 * time.Minute}, started: 1, fails: []string{"goes on in cluster shop", `"wait-for-minutes"`, "aws ecs stop-task --region us-east-1 --cluster shop --task "}},
		"not waited for":      {next: emulator.Behaviour{Exit: exit(time.Hour, 1)}, change: func(t *deploy.Task) { t.Wait = false }, started: 1},
		"without the log":     {next: emulator.Behaviour{Logs: []string{"a"}, Exit: exit(0, 0)}, denied: []string{"GetLogEvents"}, started: 1, notices: 1},
		"without its place":   {next: emulator.Behaviour{Logs: []string{"a"}, Exit: exit(0, 0)}, denied: []string{"DescribeTaskDefinition"}, started: 1, notices: 2},
		"not to be seen":      {next: emulator.Behaviour{Exit: exit(0, 0)}, denied: []string{"DescribeTasks"}, started: 1, fails: []string{"goes on, but can no longer be watched", "Allow ecs:DescribeTasks"}},
		"not allowed":         {denied: []string{"RunTask"}, fails: []string{"Allow ecs:RunTask"}},
		"in spite of faults": {
			next: emulator.Behaviour{Logs: []string{"a"}, Exit: exit(20*time.Second, 0)}, started: 1, wrote: []string{"a"},
			faults: []emulator.Fault{
				{Action: "RunTask", Kind: emulator.Throttle, Times: 2},
				{Action: "RunTask", Kind: emulator.Lost},
				{Action: "RunTask", Kind: emulator.CutAnswer, Bytes: 20},
				{Action: "DescribeTasks", Kind: emulator.Unavailable, Skip: 1, Times: 9},
				{Action: "GetLogEvents", Kind: emulator.Reset, Times: 2},
			},
		},
		"every answer is lost": { // found by what started it
			next: emulator.Behaviour{Exit: exit(time.Minute, 0)}, started: 1,
			faults: []emulator.Fault{{Action: "RunTask", Kind: emulator.Lost, Times: -1}},
		},
		"nothing arrives":      {faults: []emulator.Fault{{Action: "RunTask", Kind: emulator.Reset, Times: -1}}, fails: []string{"run task of web:1"}},
		"refused":              {change: func(t *deploy.Task) { t.DefinitionARN += "9" }, fails: []string{"TaskDefinition not found", "Correct what ECS refuses"}},
		"override of a nobody": {change: func(t *deploy.Task) { t.ContainerOverrides = []byte(`[{"name":"x"}]`) }, fails: []string{`has no container "x". Use a container that exists: web`}},
		"long overrides":       {change: func(t *deploy.Task) { t.Command = []string{strings.Repeat("x", 9000)} }, fails: []string{"characters, ECS takes at most 8192. Shorten"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newTaskWorld(t, fargate, test.opts)
				w.cloud.Behave(func(emulator.TaskInfo) emulator.Behaviour { return test.next })
				for _, action := range test.denied {
					w.cloud.Fail(emulator.Fault{Action: action, Kind: emulator.Denied, Times: -1})
				}
				for _, fault := range test.faults {
					w.cloud.Fail(fault)
				}
				if test.change != nil {
					test.change(&w.task)
				}
				arn, err := w.client.RunTask(t.Context(), w.task)
				if started := w.cloud.TaskCount(); started != test.started || (arn != "") != (started > 0) {
					t.Errorf("%d tasks were started, want %d; ARN %q", started, test.started, arn)
				}
				checkProblem(t, err, test.fails)
				if diff := cmp.Diff(w.written(), test.wrote); diff != "" {
					t.Errorf("what it wrote (-got +want):\n%s", diff)
				}
				notices := 0
				for _, e := range w.events {
					if _, ok := e.(deploy.Notice); ok {
						notices++
					}
				}
				if notices != test.notices {
					t.Errorf("got %d notices, want %d: %+v", notices, test.notices, w.events)
				}
			})
		})
	}
}

func checkProblem(t *testing.T, err error, parts []string) {
	t.Helper()
	if len(parts) == 0 {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	if e, ok := errors.AsType[*problem.Error](err); !ok || e.Fix == "" {
		t.Errorf("error %v, want a problem with a remedy", err)
	}
	for _, part := range parts {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("error %v, want %q in it", err, part)
		}
	}
}

// A cancellation at any second, each answer of RunTask lost or not: what is said
// to go on goes on, and what is said to be stopped is.
func TestRunTaskCancelled(t *testing.T) {
	t.Parallel()
	for second := range 30 {
		for _, stops := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d s, stops: %t", second, stops), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newTaskWorld(t, fargate, deploy.Options{RollbackOnCancel: stops})
					w.cloud.Behave(func(emulator.TaskInfo) emulator.Behaviour {
						return emulator.Behaviour{Exit: &emulator.Exit{After: time.Hour}}
					})
					w.cloud.Fail(emulator.Fault{Action: "RunTask", Kind: emulator.Lost, Times: second % 4})
					ctx, cancel := context.WithCancelCause(t.Context())
					stop := time.AfterFunc(time.Duration(second)*time.Second, func() { cancel(errors.New("the job was cancelled")) })
					defer stop.Stop()
					begin := time.Now()
					arn, err := w.client.RunTask(ctx, w.task)
					if late := time.Since(begin) - time.Duration(second)*time.Second; late > 2*time.Second {
						t.Errorf("it returned %s after the cancellation", late)
					}
					stopped := len(w.cloud.Called("ecs", "StopTask")) > 0
					if arn != "" && stopped != stops || err == nil || w.cloud.TaskCount() > 1 {
						t.Errorf("%q, %v: stopped %t, want %t; %d tasks", arn, err, stopped, stops, w.cloud.TaskCount())
					}
					if text := fmt.Sprint(err); arn != "" && (!strings.Contains(text, "was cancelled") || strings.Contains(text, "was stopped") != stops) {
						t.Errorf("error %v", err)
					}
				})
			})
		}
	}
}

// TestRunTaskRequest looks at what is sent: what is inherited, and what is given.
func TestRunTaskRequest(t *testing.T) {
	t.Parallel()
	const overridden = `,"overrides":{"containerOverrides":[`
	tests := map[string]struct {
		settings string
		change   func(*deploy.Task)
		want     string // after startedBy
	}{
		"of the service":     {fargate, func(*deploy.Task) {}, `"launchType":"FARGATE","platformVersion":"LATEST",` + network},
		"capacity providers": {spot, func(*deploy.Task) {}, `"capacityProviderStrategy":[{"base":1,"capacityProvider":"FARGATE_SPOT","weight":2}],"platformVersion":"1.4.0",` + network},
		"given": {spot, func(t *deploy.Task) {
			t.LaunchType, t.Subnets, t.SecurityGroups, t.AssignPublicIP = "EC2", []string{"subnet-9"}, []string{"sg-9"}, "DISABLED"
		}, `"launchType":"EC2","networkConfiguration":{"awsvpcConfiguration":{"subnets":["subnet-9"],"securityGroups":["sg-9"],"assignPublicIp":"DISABLED"}}`},
		"providers given": {fargate, func(t *deploy.Task) {
			t.CapacityProviderStrategy, t.PlatformVersion = []byte(`[{"capacityProvider":"FARGATE","future":1.0}]`), "1.3.0"
		}, `"capacityProviderStrategy":[{"capacityProvider":"FARGATE","future":1.0}],"platformVersion":"1.3.0",` + network},
		"overrides": {fargate, func(t *deploy.Task) {
			t.ContainerOverrides = []byte(`[{"name":"web","memory":512,"environment":[{"name":"A","value":"old"},{"name":"B","value":"b"}]}]`)
			t.Command, t.Environment = []string{"sh", "-c", ""}, []taskdef.Pair{{Name: "A", Value: "new"}}
		}, `"launchType":"FARGATE","platformVersion":"LATEST",` + network + overridden +
			`{"command":["sh","-c",""],"environment":[{"name":"B","value":"b"},{"name":"A","value":"new"}],"memory":512,"name":"web"}]}`},
		"tags and volume": {fargate, func(t *deploy.Task) {
			t.Tags, t.VolumeName, t.Volume = []taskdef.Pair{{Name: "k", Value: "v"}}, "data", []byte(`{"roleArn":"r"}`)
		}, `"launchType":"FARGATE","platformVersion":"LATEST",` + network + `,"tags":[{"key":"k","value":"v"}],"volumeConfigurations":[{"name":"data","managedEBSVolume":{"roleArn":"r"}}]`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newTaskWorld(t, test.settings, deploy.Options{})
				test.change(&w.task)
				w.task.Wait = false
				if _, err := w.client.RunTask(t.Context(), w.task); err != nil {
					t.Fatal(err)
				}
				body := string(w.cloud.Called("ecs", "RunTask")[0].Request)
				_, got, _ := strings.Cut(body, `"startedBy":"towline-1-1",`)
				if diff := cmp.Diff(got, test.want+"}"); diff != "" {
					t.Errorf("request (-got +want):\n%s", diff)
				}
				var sent struct{ ClientToken string }
				if err := json.Unmarshal([]byte(body), &sent); err != nil || len(sent.ClientToken) < 20 || len(sent.ClientToken) > 64 {
					t.Errorf("client token %q, %v", sent.ClientToken, err)
				}
			})
		})
	}
}

func TestKeepRevisions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		revisions, keep int
		spare           []string
		prepare         func(t *testing.T, w *taskWorld)
		denied          string
		want            []string
		left            int
	}{
		"few":               {revisions: 3, keep: 3},
		"the oldest":        {revisions: 6, keep: 2, want: []string{"web:2", "web:3", "web:4"}}, // web:1 runs
		"what is spared":    {revisions: 6, keep: 2, spare: []string{"web:3"}, want: []string{"web:2", "web:4"}},
		"many at once":      {revisions: 70, keep: 1, want: nil, left: 18},
		"other services":    {revisions: 6, keep: 1, prepare: otherService("web:4"), want: []string{"web:2", "web:3", "web:5"}},
		"where a way leads": {revisions: 6, keep: 1, prepare: underWay, want: []string{"web:2", "web:3", "web:4"}},
		"no clusters":       {revisions: 6, keep: 1, denied: "ListClusters"},
		"no services":       {revisions: 6, keep: 1, denied: "ListServices"},
		"no list":           {revisions: 6, keep: 1, denied: "ListTaskDefinitions"},
		"no right":          {revisions: 6, keep: 1, denied: "DeregisterTaskDefinition"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newTaskWorld(t, fargate, deploy.Options{})
				for range test.revisions - 1 {
					if _, err := w.cloud.RegisterTaskDefinition(definition); err != nil {
						t.Fatal(err)
					}
				}
				if test.prepare != nil {
					test.prepare(t, w)
				}
				if test.denied != "" {
					w.cloud.Fail(emulator.Fault{Action: test.denied, Kind: emulator.Denied, Times: -1})
				}
				for i, name := range test.spare {
					test.spare[i] = "arn:aws:ecs:us-east-1:123456789012:task-definition/" + name
				}
				if err := w.client.KeepRevisions(t.Context(), "web", test.keep, test.spare...); err != nil {
					t.Fatal(err)
				}
				var got []string
				left, notices := 0, 0
				for _, e := range w.events {
					switch e := e.(type) {
					case deploy.Deregistered:
						left = e.Left
						for _, arn := range e.ARNs {
							got = append(got, arn[strings.LastIndexByte(arn, '/')+1:])
						}
					case deploy.Notice:
						notices++
					}
				}
				if left != test.left || notices > 0 != (test.denied != "") {
					t.Errorf("%d left, want %d; %d notices", left, test.left, notices)
				}
				if test.left > 0 {
					if len(got) != 50 || got[0] != "web:2" {
						t.Errorf("deregistered %v", got)
					}
				} else if diff := cmp.Diff(got, test.want); diff != "" {
					t.Errorf("deregistered (-got +want):\n%s", diff)
				}
			})
		})
	}
}

// otherService runs a revision in another cluster.
func otherService(revision string) func(t *testing.T, w *taskWorld) {
	return func(t *testing.T, w *taskWorld) {
		t.Helper()
		if _, err := w.cloud.AddService(emulator.Service{Cluster: "other", Name: "batch", TaskDefinition: revision, DesiredCount: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// underWay moves the service to web:5, and does not get there.
func underWay(t *testing.T, w *taskWorld) {
	t.Helper()
	w.cloud.Behave(func(emulator.TaskInfo) emulator.Behaviour { return emulator.Behaviour{StartDelay: time.Hour} })
	out, err := w.client.Deploy(t.Context(), "arn:aws:ecs:us-east-1:123456789012:task-definition/web:5")
	if err != nil || out.Status != deploy.StatusStarted {
		t.Fatalf("%+v, %v", out, err)
	}
}
