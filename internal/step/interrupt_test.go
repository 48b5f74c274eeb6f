package step_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"

	"github.com/towline/towline/internal/emulator"
)

var (
	interruptSeed = flag.Uint64("interrupt.seed", 0, "run only this seed of TestInterrupted")
	interruptRuns = flag.Int("interrupt.runs", 0, "how many deployments TestInterrupted interrupts")
)

// patience is how long a step may take to end after a signal: the runner kills
// the container 10 seconds after it.
const patience = 5 * time.Second

// TestInterrupted sends SIGINT at random moments of steps that deploy: before,
// in and after any request, and while they wait. Whatever the moment, the step
// ends within 5 seconds, tells which deployment goes on and how to stop it, or
// asks for its rollback where on-cancel says so, and writes its outputs. What it
// tells is held against what ECS itself knows. A failure names its seed:
// -run TestInterrupted -interrupt.seed N.
//
//nolint:paralleltest // one bubble lives at a time
func TestInterrupted(t *testing.T) {
	first, runs := uint64(1), 120
	if raceDetector {
		runs = 20
	}
	if *interruptRuns > 0 {
		runs = *interruptRuns
	}
	if *interruptSeed > 0 {
		first, runs = *interruptSeed, 1
	}
	ends := map[string]int{}
	for seed := first; seed < first+uint64(runs); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { ends[interrupted(t, seed)]++ })
	}
	t.Logf("%d steps from seed %d were interrupted: %v", runs, first, ends)
	// Else the moments are not what they should be.
	for _, end := range []string{nothingBegun, leftAlone, rollbackDue} {
		if runs >= 100 && ends[end] < runs/20 {
			t.Errorf("only %d of %d steps ended with %q", ends[end], runs, end)
		}
	}
}

// interrupted runs one step and says how it ended.
func interrupted(t *testing.T, seed uint64) (end string) {
	t.Helper()
	i := &interruption{dice: rand.New(rand.NewPCG(seed, 11))}
	inputs, lines := i.choose()
	env := newEnvironment(t, inputs)
	t.Run("bubble", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			t.Helper()
			i.world = newWorld(t, env, strings.Join(lines, "\n"), "")
			i.skipCalls = len(i.cloud.Calls())
			i.latency = i.pace / 2 // there, and as much back
			account := i.cloud.RoundTripper()
			i.through = roundTrip(func(req *http.Request) (*http.Response, error) { return i.carry(req, account) })
			if i.denied {
				i.cloud.Fail(emulator.Fault{Action: "StopServiceDeployment", Kind: emulator.Denied, Times: -1})
				i.cloud.Fail(emulator.Fault{Action: "StopDeployment", Kind: emulator.Denied, Times: -1})
			}
			code := i.run(t)
			end = i.judge(t, code)
			if t.Failed() {
				t.Logf("seed %d: -run TestInterrupted -interrupt.seed %d\n%s\n%s\ntruth %+v\n%s", seed, seed,
					strings.Join(i.plan, "\n"), strings.Join(lines, "\n"), i.cloud.Deployments("prod", "web"), i.log.String())
			}
			settle(t)
		})
	})
	return end
}

// interruption is one step and the moment of its end.
type interruption struct {
	*world

	dice *rand.Rand
	plan []string

	rollback, denied, codeDeploy bool
	// pace is how long a request takes, half of it there and half back.
	pace time.Duration
	// after is when the signal comes; else it comes at request at, or at the
	// first one of action, and in which part of it.
	after  time.Duration
	at     int
	action string
	part   int

	mu       sync.Mutex
	requests int
	over     bool
	signal   time.Time
	// codeDeployID is that of the deployment which CodeDeploy has created.
	codeDeployID string
}

// How a step ended that was interrupted.
const (
	nothingBegun = "nothing begun"
	leftAlone    = "left"
	rollbackDue  = "rollback asked for"
)

func among[T any](dice *rand.Rand, choices ...T) T { return choices[dice.IntN(len(choices))] }

// choose gives a random step: its inputs, and the lines of its world.
func (i *interruption) choose() (inputs map[string]string, lines []string) {
	d := i.dice
	inputs = map[string]string{"repository": "", "tags": "", "image": "registry.example.com/shop:v2"}
	i.rollback, i.denied = d.IntN(2) == 0, d.IntN(10) == 0
	if i.rollback {
		inputs["on-cancel"] = "rollback"
	}
	inputs["rollback-on-failure"] = among(d, "true", "false")
	switch d.IntN(6) {
	case 0:
		i.codeDeploy = true
		inputs["codedeploy-deployment-config"] = "CodeDeployDefault.ECSLinear10PercentEvery1Minutes"
		lines = append(lines, "code-deploy {}")
	case 1:
		lines = append(lines, `deployment-configuration {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 2}`)
	case 2:
		lines = append(lines, `deployment-configuration {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 5, "canaryBakeTimeInMinutes": 3}}`)
	case 3:
		lines = append(lines, "no-circuit-breaker")
	}
	lines = append(lines, among(d,
		`tasks {}`, `tasks {"StartDelay": 120000000000}`, `tasks {"StartDelay": 3600000000000}`,
		`tasks {"Exit": {"Code": 3}}`, `tasks {"Health": 2}`))
	i.pace = among(d, 20*time.Millisecond, 300*time.Millisecond, 900*time.Millisecond)
	switch d.IntN(4) {
	case 0:
		i.after = time.Duration(d.Int64N(int64(25 * i.pace)))
	case 1:
		i.after = 20*i.pace + time.Duration(d.Int64N(int64(4*time.Minute)))
	case 2:
		i.at = 1 + d.IntN(30)
	default:
		i.action = among(d, "RegisterTaskDefinition", "UpdateService", "UpdateService", "ListServiceDeployments", "StopServiceDeployment")
		if i.codeDeploy {
			i.action = among(d, "RegisterTaskDefinition", "CreateDeployment", "CreateDeployment", "GetDeployment")
		}
	}
	i.part = d.IntN(3) // before, in the middle, after
	i.plan = append(i.plan, fmt.Sprintf("rollback %t, stop denied %t, requests take %s; SIGINT after %s, or at request %d or %s, in part %d of it",
		i.rollback, i.denied, i.pace, i.after, i.at, i.action, i.part))
	return inputs, lines
}

// carry takes a request to the account and its answer back, and sends the
// signal when its moment has come. What has arrived is carried out, even where
// nobody waits for the answer any more.
func (i *interruption) carry(req *http.Request, account http.RoundTripper) (*http.Response, error) {
	_, action, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	i.mu.Lock()
	if i.requests++; i.requests == 1 && i.after > 0 {
		time.AfterFunc(i.after, i.interrupt)
	}
	chosen := i.at == i.requests || i.action != "" && i.action == action
	i.mu.Unlock()
	moment := func(part int) {
		if chosen && part == i.part {
			i.interrupt()
		}
	}
	moment(0)
	if err := i.travel(req.Context()); err != nil {
		return nil, err
	}
	resp, err := account.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if action == "CreateDeployment" {
		if err := i.note(resp); err != nil {
			return nil, err
		}
	}
	moment(1)
	if err := i.travel(req.Context()); err != nil {
		return nil, err
	}
	moment(2)
	return resp, nil
}

// note keeps the name of the deployment that CodeDeploy has created.
func (i *interruption) note(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var created struct{ DeploymentID string }
	if err := json.Unmarshal(body, &created); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.codeDeployID = created.DeploymentID
	return nil
}

// interrupt is the signal, once.
func (i *interruption) interrupt() {
	i.mu.Lock()
	due := i.signal.IsZero() && !i.over
	if due {
		i.signal = time.Now()
	}
	i.mu.Unlock()
	if due {
		i.stop()
	}
}

// judge holds what the step says against what is true, and says how it ended.
func (i *interruption) judge(t *testing.T, code int) string {
	t.Helper()
	i.mu.Lock()
	i.over = true
	i.mu.Unlock()
	parts := i.outcome(t, code)
	i.judgeCalls(t)
	if i.signal.IsZero() {
		return "over before"
	}
	if took := time.Since(i.signal); took > patience {
		t.Errorf("ended %s after the signal, want at most %s", took, patience)
	}
	if parts["want/summary"] == "" {
		t.Error("there is no job summary")
	}
	id, status, live := i.truth()
	said := regexp.MustCompile(`(?m)^::error .*$`).FindString(parts["want/log"])
	switch {
	case id == "":
		if !strings.Contains(said, "the job was cancelled (interrupt)") {
			t.Errorf("the error does not say that the job was cancelled: %s", said)
		}
		if strings.Contains(said, "goes on") || strings.Contains(parts["want/outputs"], "deployment-id<<") {
			t.Errorf("nothing was begun, but a deployment is told of: %s", said)
		}
		if !regexp.MustCompile(`; until then |was not updated|No deployment was created|it is not known whether`).MatchString(said) {
			t.Errorf("the error does not say how far the step came: %s", said)
		}
		return nothingBegun
	case !regexp.MustCompile(`(?m)^deployment-id<<\S+\n` + regexp.QuoteMeta(id) + `$`).MatchString(parts["want/outputs"]):
		t.Errorf("the outputs do not name %s:\n%s", id, parts["want/outputs"])
	case !live:
		return "over meanwhile"
	}
	if code == 0 {
		t.Errorf("exit code 0, but %s is %s", id, status)
	}
	return i.judgeLive(t, id, status, said)
}

// judgeLive wants to know which deployment goes on and how to stop it, or that
// its rollback was asked for.
func (i *interruption) judgeLive(t *testing.T, id, status, said string) string {
	t.Helper()
	if !strings.Contains(said, id) {
		t.Errorf("the error does not name %s: %s", id, said)
	}
	rolls := regexp.MustCompile(`the rollback of deployment \S+ (was asked for and )?goes on`).MatchString(said)
	back := status == "ROLLBACK_REQUESTED" || status == "ROLLBACK_IN_PROGRESS" || status == "STOP_REQUESTED" || status == "replaced" || status == "Stopped" || i.stopped()
	switch {
	case rolls && !back:
		t.Errorf("a rollback is told of, but %s is %s: %s", id, status, said)
	case rolls, back && strings.Contains(said, "can no longer be rolled back"):
		return rollbackDue
	case !regexp.MustCompile(`aws (ecs stop-service-deployment|deploy stop-deployment|ecs update-service) --`).MatchString(said):
		t.Errorf("the error does not say how to stop %s: %s", id, said)
	case i.pace >= 900*time.Millisecond && strings.Contains(said, "could not be asked for: no time left"):
		// To find a deployment that was just begun and to stop it takes four
		// requests one after the other, more than fit into the time that is left.
	case i.rollback && (!i.denied || !i.codeDeploy || !strings.Contains(said, "its rollback could not be asked for")):
		t.Errorf("no rollback of %s was asked for: %s", id, said)
	}
	return leftAlone
}

// truth gives the deployment that the step has begun, or an empty id, and
// whether it still goes on.
func (i *interruption) truth() (id, status string, live bool) {
	if i.codeDeploy {
		return i.codeDeployTruth()
	}
	all := i.cloud.Deployments("prod", "web")
	for n, d := range all {
		if !strings.HasSuffix(d.TaskDefinition, "/web:2") {
			continue
		}
		if later := all[n+1:]; len(later) > 0 { // by us: nobody else deploys here
			return d.DeploymentID, "replaced", later[0].Finished.IsZero()
		}
		return d.DeploymentID, d.Status, d.Finished.IsZero()
	}
	return "", "", false
}

// judgeCalls wants each change to have been asked for once at most.
func (i *interruption) judgeCalls(t *testing.T) {
	t.Helper()
	forward, back := 0, 0
	for _, call := range i.cloud.Calls()[i.skipCalls:] {
		switch {
		case call.Action == "CreateDeployment", call.Action == "UpdateService" && bytes.Contains(call.Request, []byte("/web:2")):
			forward++
		case call.Action == "UpdateService":
			back++
		}
	}
	if forward > 1 || back > 1 {
		t.Errorf("the deployment was asked for %d times, its reverse %d times; want each once at most", forward, back)
	}
}

// codeDeployTruth is truth for a deployment of CodeDeploy. One that was stopped
// is still on its way back.
func (i *interruption) codeDeployTruth() (id, status string, live bool) {
	if i.codeDeployID == "" {
		return "", "", false
	}
	client := cdsdk.New(cdsdk.Options{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
		HTTPClient: &http.Client{Transport: i.cloud.RoundTripper()},
	})
	out, err := client.GetDeployment(context.Background(), &cdsdk.GetDeploymentInput{DeploymentId: &i.codeDeployID})
	if err != nil {
		return i.codeDeployID, err.Error(), true
	}
	over := []cdtypes.DeploymentStatus{cdtypes.DeploymentStatusSucceeded, cdtypes.DeploymentStatusFailed}
	return i.codeDeployID, string(out.DeploymentInfo.Status), !slices.Contains(over, out.DeploymentInfo.Status)
}

// stopped says whether CodeDeploy has accepted to stop its deployment, which it
// does a moment later.
func (i *interruption) stopped() bool {
	return slices.ContainsFunc(i.cloud.Called("codedeploy", "StopDeployment"), func(call emulator.Call) bool { return call.Status == http.StatusOK })
}
