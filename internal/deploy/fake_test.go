package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

const (
	account    = "arn:aws:ecs:eu-central-1:111122223333:"
	oldTD      = account + "task-definition/web:1"
	newTD      = account + "task-definition/web:2"
	otherTD    = account + "task-definition/web:7"
	serviceARN = account + "service/prod/web"
	ourSD      = account + "service-deployment/prod/web/sd2"
)

// fakeECS answers ECS's and CloudWatch Logs' calls on the wire for one service.
// What happens after UpdateService is a script: steps with the time at which
// they take effect, applied when the next call comes in.
type fakeECS struct {
	mu          sync.Mutex
	service     map[string]any
	deployments []*fakeDeployment // newest first
	states      []*fakeState
	events      []map[string]any
	tasks       []map[string]any
	logs        map[string][]string // stream: lines
	definitions map[string]string   // ARN: DescribeTaskDefinition's answer
	script      []step              // after the first update
	onStop      []step              // after StopServiceDeployment
	onUpdate    []step              // after the second update
	refuse      map[string]string   // action: error code
	hook        func(action string, call int) error
	pending     []due
	calls       []string
	bodies      map[string][]string
	updates     int
	hidden      *fakeDeployment
	denyText    string // instead of the usual refusal
	urls        []string
}

type fakeDeployment struct {
	id, status, taskDefinition, rollout, reason string
	created                                     time.Time
	desired, running, pending, failed           int
}

type fakeState struct {
	arn, status, reason, revision, taskDefinition, breaker string
	created                                                time.Time
}

type step struct {
	after time.Duration
	do    func(f *fakeECS)
}

type due struct {
	at time.Time
	do func(f *fakeECS)
}

// newFake gives the service "web" in the cluster "prod", two tasks of web:1.
func newFake() *fakeECS {
	now := time.Now()
	return &fakeECS{
		service: map[string]any{
			"serviceArn": serviceARN, "serviceName": "web", "clusterArn": account + "cluster/prod", "status": "ACTIVE",
			"deploymentController": map[string]any{"type": "ECS"}, "desiredCount": 2,
			"currentServiceDeployment": account + "service-deployment/prod/web/sd1",
		},
		deployments: []*fakeDeployment{{
			id: "ecs-svc/1", status: "PRIMARY", taskDefinition: oldTD, rollout: "COMPLETED",
			created: now.Add(-time.Hour), desired: 2, running: 2,
		}},
		states: []*fakeState{{
			arn: account + "service-deployment/prod/web/sd1", status: "SUCCESSFUL", revision: account + "service-revision/prod/web/r1",
			taskDefinition: oldTD, created: now.Add(-time.Hour),
		}},
		events: []map[string]any{{"id": "old", "createdAt": epoch(now.Add(-time.Minute)), "message": "(service web) has reached a steady state."}},
		logs:   map[string][]string{}, refuse: map[string]string{}, bodies: map[string][]string{},
		definitions: map[string]string{newTD: `{"taskDefinition":{"taskDefinitionArn":"` + newTD + `","containerDefinitions":[` +
			`{"name":"app","logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"/web","awslogs-stream-prefix":"ecs","awslogs-region":"eu-west-1"}}},` +
			`{"name":"proxy","essential":false}],"inventedField":{"x":[1.0]}},"tags":[{"key":"team","value":"a"}]}`},
	}
}

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// client gives a Client for f; events go to the returned slice.
func (f *fakeECS) client(opts Options) (*Client, *[]Event) {
	var got []Event
	opts.Config = aws.Config{
		Region: "eu-central-1", HTTPClient: &http.Client{Transport: f},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	}
	if opts.Service == "" {
		opts.Service, opts.Cluster = "web", "prod"
	}
	opts.Events = func(e Event) { got = append(got, e) }
	return New(opts), &got
}

// RoundTrip answers in the calling goroutine and opens no socket, so that a
// wait under testing/synctest runs on virtual time.
func (f *fakeECS) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	_, action, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(req.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		return nil, errors.New("not signed: " + action)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pass()
	f.calls = append(f.calls, action)
	f.urls = append(f.urls, req.URL.String())
	f.bodies[action] = append(f.bodies[action], string(body))
	if f.hook != nil {
		if err := f.hook(action, len(f.bodies[action])); err != nil {
			return nil, err
		}
	}
	rec := httptest.NewRecorder()
	if code := f.refuse[action]; code != "" {
		f.fail(rec, code, firstOf(f.denyText, "User: arn:aws:sts::111122223333:assumed-role/ci/x is not authorized to perform: ecs:"+action+" on resource: "+serviceARN+" because no identity-based policy allows it"))
	} else {
		f.serve(rec, req, action, body)
	}
	return rec.Result(), nil
}

// pass applies the steps whose time has come.
func (f *fakeECS) pass() {
	slices.SortStableFunc(f.pending, func(a, b due) int { return a.at.Compare(b.at) })
	for len(f.pending) > 0 && !f.pending[0].at.After(time.Now()) {
		do := f.pending[0].do
		f.pending = f.pending[1:]
		do(f)
	}
}

func (f *fakeECS) plan(steps []step) {
	for _, s := range steps {
		f.pending = append(f.pending, due{time.Now().Add(s.after), s.do})
	}
}

func (f *fakeECS) fail(w http.ResponseWriter, code, message string) {
	w.Header().Set("X-Amzn-Requestid", "req-1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

func (f *fakeECS) serve(w http.ResponseWriter, req *http.Request, action string, body []byte) {
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		f.fail(w, "SerializationException", err.Error())
		return
	}
	var out any
	switch action {
	case "DescribeServices":
		out = map[string]any{"services": []any{f.render()}}
		if name := lastPart(in["services"].([]any)[0].(string)); name != "web" {
			out = map[string]any{"failures": []any{map[string]any{"arn": name, "reason": "MISSING"}}}
		}
	case "ListServices":
		out = map[string]any{"serviceArns": []string{account + "service/prod/api", serviceARN, account + "service/prod/worker"}}
	case "UpdateService":
		f.update(in)
		out = map[string]any{"service": f.render()}
		f.pass()
	case "StopServiceDeployment":
		f.plan(f.onStop)
		out = map[string]any{"serviceDeploymentArn": in["serviceDeploymentArn"]}
	case "ListServiceDeployments":
		out = map[string]any{"serviceDeployments": f.briefs()}
	case "DescribeServiceDeployments":
		out = map[string]any{"serviceDeployments": f.described(in["serviceDeploymentArns"].([]any)[0].(string))}
	case "DescribeServiceRevisions":
		out = map[string]any{"serviceRevisions": f.revisions(in["serviceRevisionArns"].([]any)[0].(string))}
	case "ListTasks":
		out = map[string]any{"taskArns": f.taskARNs(in["desiredStatus"].(string))}
	case "DescribeTasks":
		out = map[string]any{"tasks": f.describedTasks(in["tasks"].([]any))}
	case "DescribeTaskDefinition":
		_, _ = io.WriteString(w, f.definitions[in["taskDefinition"].(string)])
		return
	case "RegisterTaskDefinition":
		out = map[string]any{"taskDefinition": map[string]any{"taskDefinitionArn": newTD}}
	case "GetLogEvents":
		if !strings.Contains(req.Host+req.URL.Host, "eu-west-1") {
			f.fail(w, "InvalidParameterException", "wrong region")
			return
		}
		lines, found := f.logs[in["logStreamName"].(string)]
		if !found {
			f.fail(w, "ResourceNotFoundException", "The specified log stream does not exist.")
			return
		}
		var events []any
		for _, l := range lines {
			events = append(events, map[string]any{"message": l, "timestamp": 1})
		}
		out = map[string]any{"events": events}
	default:
		f.fail(w, "UnknownOperationException", action)
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

// update makes a new PRIMARY deployment with its service deployment.
func (f *fakeECS) update(in map[string]any) {
	f.updates++
	id := f.updates + 1
	f.replace(fmt.Sprintf("ecs-svc/%d", id), in["taskDefinition"].(string))
	f.states = append(f.states, &fakeState{
		arn: fmt.Sprintf("%sservice-deployment/prod/web/sd%d", account, id), status: "PENDING",
		revision: fmt.Sprintf("%sservice-revision/prod/web/r%d", account, id), taskDefinition: in["taskDefinition"].(string), created: time.Now(),
	})
	if f.updates == 1 {
		f.plan(f.script)
	} else {
		f.plan(f.onUpdate)
	}
}

// replace puts a deployment of td before all others.
func (f *fakeECS) replace(id, td string) {
	desired := f.service["desiredCount"].(int)
	for _, d := range f.deployments {
		d.status = "ACTIVE"
	}
	f.deployments = slices.Insert(f.deployments, 0, &fakeDeployment{
		id: id, status: "PRIMARY", taskDefinition: td, rollout: "IN_PROGRESS",
		reason: "ECS deployment " + id + " in progress.", created: time.Now(), desired: desired, pending: desired,
	})
}

func (f *fakeECS) deployment(id string) *fakeDeployment {
	for _, d := range f.deployments {
		if d.id == id {
			return d
		}
	}
	return &fakeDeployment{}
}

func (f *fakeECS) state(n int) *fakeState { return f.states[n-1] }

func (f *fakeECS) render() map[string]any {
	var list []any
	for _, d := range f.deployments {
		list = append(list, map[string]any{
			"id": d.id, "status": d.status, "taskDefinition": d.taskDefinition, "rolloutState": d.rollout, "rolloutStateReason": d.reason,
			"createdAt": epoch(d.created), "desiredCount": d.desired, "runningCount": d.running, "pendingCount": d.pending, "failedTasks": d.failed,
		})
	}
	s := map[string]any{"deployments": list, "events": f.events, "taskDefinition": f.deployments[0].taskDefinition}
	maps.Copy(s, f.service)
	return s
}

func (f *fakeECS) briefs() []any {
	var list []any
	for _, s := range slices.Backward(f.states) {
		list = append(list, map[string]any{
			"serviceDeploymentArn": s.arn, "status": s.status, "createdAt": epoch(s.created), "targetServiceRevisionArn": s.revision,
		})
	}
	return list
}

func (f *fakeECS) described(arn string) []any {
	for _, s := range f.states {
		if s.arn == arn {
			return []any{map[string]any{
				"serviceDeploymentArn": s.arn, "status": s.status, "statusReason": s.reason, "createdAt": epoch(s.created),
				"targetServiceRevision":    map[string]any{"arn": s.revision},
				"deploymentCircuitBreaker": map[string]any{"status": s.breaker},
			}}
		}
	}
	return nil
}

func (f *fakeECS) revisions(arn string) []any {
	for _, s := range f.states {
		if s.revision == arn {
			return []any{map[string]any{"serviceRevisionArn": arn, "taskDefinition": s.taskDefinition}}
		}
	}
	return nil
}

func (f *fakeECS) taskARNs(status string) []string {
	arns := []string{}
	for _, t := range f.tasks {
		if t["desiredStatus"] == status {
			arns = append(arns, t["taskArn"].(string))
		}
	}
	return arns
}

func (f *fakeECS) describedTasks(arns []any) []any {
	var list []any
	for _, t := range f.tasks {
		if slices.Contains(arns, t["taskArn"]) {
			list = append(list, t)
		}
	}
	return list
}

// say adds a service event.
func (f *fakeECS) say(message string) {
	f.events = slices.Insert(f.events, 0, map[string]any{
		"id": fmt.Sprint("e", len(f.events)), "createdAt": epoch(time.Now()), "message": message,
	})
}

// stopTask adds a stopped task of a deployment; code < 0 means no exit code.
func (f *fakeECS) stopTask(id, startedBy, stopCode, reason string, code int) {
	app := map[string]any{"name": "app", "lastStatus": "STOPPED"}
	if code >= 0 {
		app["exitCode"] = code
	}
	f.tasks = append(f.tasks, map[string]any{
		"taskArn": account + "task/prod/" + id, "startedBy": startedBy, "desiredStatus": "STOPPED", "lastStatus": "STOPPED",
		"stopCode": stopCode, "stoppedReason": reason, "containers": []any{app, map[string]any{"name": "proxy", "exitCode": 143}},
		"createdAt": epoch(time.Now().Add(-20 * time.Second)), "startedAt": epoch(time.Now().Add(-10 * time.Second)), "stoppedAt": epoch(time.Now()),
	})
}

// count says how often an action was called.
func (f *fakeECS) count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bodies[action])
}

// of filters events by type.
func of[E Event](events []Event) []E {
	var found []E
	for _, e := range events {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

func wantIn(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s = %q, want %q in it", what, text, p)
		}
	}
}
