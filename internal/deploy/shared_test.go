package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

// fleet is many services in two clusters of an account that holds to ECS's rates.
type fleet struct {
	cloud   *emulator.Cloud
	clients []*deploy.Client
	next    string

	mu    sync.Mutex
	stops map[string]time.Time // when a failed task stopped, by service
	named map[string]time.Time // when it was told
}

func newFleet(t *testing.T, size int, latency time.Duration) *fleet {
	t.Helper()
	f := &fleet{cloud: emulator.New(emulator.Options{Rates: true}), stops: map[string]time.Time{}, named: map[string]time.Time{}}
	f.cloud.AddUser(accessKey, "secret")
	f.cloud.AddLogGroup("/app")
	if _, err := f.cloud.RegisterTaskDefinition(definition); err != nil {
		t.Fatal(err)
	}
	config := aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
		HTTPClient: &http.Client{Transport: distant{f.cloud.RoundTripper(), latency}},
	}
	shared := &deploy.Shared{}
	for i := range size {
		name, cluster := fmt.Sprintf("web-%03d", i), fmt.Sprintf("shop-%d", i%2)
		if _, err := f.cloud.AddService(emulator.Service{Cluster: cluster, Name: name, TaskDefinition: "web:1", DesiredCount: 2}); err != nil {
			t.Fatal(err)
		}
		f.clients = append(f.clients, deploy.New(deploy.Options{
			Config: config, Cluster: cluster, Service: name, Wait: true, RollbackOnFailure: true, Shared: shared,
			Events: func(e deploy.Event) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if failed, ok := e.(deploy.TaskFailed); ok && f.named[name].IsZero() {
					f.stops[name], f.named[name] = failed.StoppedAt, time.Now()
				}
			},
		}))
	}
	next, err := f.cloud.RegisterTaskDefinition(strings.Replace(definition, "web:1", "web:2", 1))
	if err != nil {
		t.Fatal(err)
	}
	f.next = next
	return f
}

// each does something with each client, side by side.
func (f *fleet) each(do func(i int, c *deploy.Client)) {
	var all sync.WaitGroup
	for i, c := range f.clients {
		all.Go(func() { do(i, c) })
	}
	all.Wait()
}

// calls are counted by action since a moment, those that were throttled apart.
func (f *fleet) calls(since time.Time) (counts map[string]int, reads, throttled int) {
	counts = map[string]int{}
	for _, call := range f.cloud.Called("ecs", "") {
		if call.Time.Before(since) {
			continue
		}
		counts[call.Action]++
		if call.ErrorCode == "ThrottlingException" {
			throttled++
		}
		if strings.HasPrefix(call.Action, "Describe") || strings.HasPrefix(call.Action, "List") {
			reads++
		}
	}
	return counts, reads, throttled
}

// Two hundred services at once keep to ECS's rates: no call is refused, and
// there is far less than one read a second for each. A crashing task of one of
// them is still named within ten seconds.
func TestTwoHundredServices(t *testing.T) {
	t.Parallel()
	const broken = 7
	size := 200
	if raceDetector {
		size = 20 // ten times slower
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, size, 80*time.Millisecond)
		f.cloud.Behave(func(task emulator.TaskInfo) emulator.Behaviour {
			switch {
			case task.Revision == 1:
				return emulator.Behaviour{}
			case task.Service == fmt.Sprintf("web-%03d", broken):
				return emulator.Behaviour{Exit: &emulator.Exit{Code: 3}}
			}
			return emulator.Behaviour{StartDelay: 3 * time.Minute}
		})
		begin := time.Now()
		f.each(func(i int, c *deploy.Client) {
			if _, err := c.Service(t.Context()); err != nil {
				t.Errorf("service %d: %v", i, err)
			}
		})
		found, _, _ := f.calls(begin)
		if found["DescribeServices"] != size/10 {
			t.Errorf("%d calls of DescribeServices for %d services, want one for ten", found["DescribeServices"], size)
		}
		start := time.Now()
		f.each(func(i int, c *deploy.Client) {
			out, err := c.Deploy(t.Context(), f.next)
			want := deploy.StatusSucceeded
			if i == broken {
				want = deploy.StatusRolledBack
			}
			if out.Status != want || (err != nil) != (i == broken) {
				t.Errorf("service %d: %s, error %v", i, out.Status, err)
			}
		})
		took := time.Since(start)
		counts, reads, throttled := f.calls(start)
		perService := float64(reads) / took.Seconds() / float64(size)
		t.Logf("%s: %d reads, %.1f a second, %.3f a second and service: %v", took, reads, float64(reads)/took.Seconds(), perService, counts)
		if throttled != 0 {
			t.Errorf("%d calls were throttled", throttled)
		}
		if perService > 0.15 && size == 200 {
			t.Errorf("%.3f reads a second and service", perService)
		}
		if counts["UpdateService"] != size {
			t.Errorf("%d updates, want %d", counts["UpdateService"], size)
		}
		if took > 7*time.Minute {
			t.Errorf("took %s", took)
		}
		name := fmt.Sprintf("web-%03d", broken)
		// A service by itself has it within 10 seconds; these share 16 reads a second.
		if late := f.named[name].Sub(f.stops[name]); f.named[name].IsZero() || late > 30*time.Second {
			t.Errorf("the crashing task was named after %s", late)
		}
	})
}

// What is abandoned is stopped and rolled back, what has ended is reverted; both
// are told to be so.
func TestAbandonAndRevert(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, time.Millisecond)
		f.cloud.Behave(func(task emulator.TaskInfo) emulator.Behaviour {
			if task.Revision == 2 && task.Service == "web-001" {
				return emulator.Behaviour{StartDelay: 5 * time.Minute}
			}
			return emulator.Behaviour{}
		})
		why := errors.New("service other has failed")
		outs := make([]deploy.Outcome, 3)
		errs := make([]error, 3)
		time.AfterFunc(2*time.Minute, func() { f.clients[1].Abandon(why) })
		f.clients[2].Abandon(why)
		f.each(func(i int, c *deploy.Client) { outs[i], errs[i] = c.Deploy(t.Context(), f.next) })
		for i, want := range []deploy.Status{deploy.StatusSucceeded, deploy.StatusRolledBack, ""} {
			if outs[i].Status != want || outs[i].Abandoned != (i == 1) {
				t.Errorf("service %d: %s, abandoned %t, error %v", i, outs[i].Status, outs[i].Abandoned, errs[i])
			}
		}
		if err := fmt.Sprint(errs[1]); !strings.Contains(err, "did not succeed: given up: service other has failed; rolled back to web:1") {
			t.Errorf("error %s", err)
		}
		if !errors.Is(errs[2], deploy.ErrAbandoned) {
			t.Errorf("error %v of one that was not begun", errs[2])
		}
		if err := f.clients[0].Holds(t.Context(), outs[0]); err != nil {
			t.Errorf("does not hold: %v", err)
		}
		back, err := f.clients[0].Revert(t.Context(), outs[0], why.Error())
		if err != nil || back.Status != deploy.StatusRolledBack || back.Reason != "service other has failed; rolled back to web:1" {
			t.Errorf("reverted: %+v, error %v", back, err)
		}
		if err := f.clients[0].Holds(t.Context(), outs[0]); err == nil || !strings.Contains(err.Error(), "somebody has deployed web:1") {
			t.Errorf("holds, error %v", err)
		}
		for i, c := range f.clients {
			s, err := c.Service(context.WithoutCancel(t.Context()))
			if err != nil || !strings.HasSuffix(s.TaskDefinitionARN, "web:1") {
				t.Errorf("service %d runs %+v, error %v", i, s, err)
			}
		}
		if again, err := f.clients[0].Revert(t.Context(), outs[0], "x"); err != nil || again.Status != deploy.StatusSucceeded {
			t.Errorf("reverted twice: %+v, error %v", again, err)
		}
	})
}

// A call for many that is refused once costs none of them its answer.
func TestSharedReads(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault emulator.Fault
	}{
		"denied":            {fault: emulator.Fault{Action: "DescribeServices", Kind: emulator.Denied}},
		"refused":           {fault: emulator.Fault{Action: "DescribeServices", Error: &emulator.Error{Code: "InvalidParameterException", Message: "no"}}},
		"a lost connection": {fault: emulator.Fault{Action: "DescribeServices", Kind: emulator.Reset}},
		"throttled":         {fault: emulator.Fault{Action: "DescribeServices", Kind: emulator.Throttle, Times: 3}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 8, time.Millisecond)
				f.cloud.Fail(test.fault)
				f.each(func(i int, c *deploy.Client) {
					if _, err := c.Service(t.Context()); err != nil {
						t.Errorf("service %d: %v", i, err)
					}
				})
			})
		})
	}
}

// A reader who goes away while others wait for the same call does not take them
// along.
func TestSharedReaderLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 4, time.Second)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(500*time.Millisecond, func() { cancel(errors.New("gone")) })
		first := make(chan error)
		go func() { _, err := f.clients[0].Service(ctx); first <- err }()
		synctest.Wait()
		var all sync.WaitGroup
		for _, c := range f.clients[1:] {
			all.Go(func() {
				if _, err := c.Service(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := <-first; err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("error %v of the one that left", err)
		}
	})
}
