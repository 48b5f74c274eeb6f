package deploy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

// The load balancer knows why its targets are unhealthy while ECS still waits
// for the grace period to pass.
func TestTargetHealth(t *testing.T) {
	t.Parallel()
	const balanced = `{"loadBalancers": [{"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/73e2d6bc24d8a067", "containerName": "web", "containerPort": 8080}]}`
	tests := map[string]struct {
		next     emulator.Behaviour
		settings string
		denied   bool
		fails    []string
		notice   string
		asked    int
	}{
		"answers with another status": {
			next:  emulator.Behaviour{Health: emulator.Undecided, Unhealthy: "Health checks failed with these codes: [503]"},
			fails: []string{"wait-for-minutes", "the load balancer's health checks fail: the container answers with status 503", "matcher"}, asked: 1,
		},
		"does not answer": {
			next:  emulator.Behaviour{Health: emulator.Undecided, Unhealthy: "Request timed out"},
			fails: []string{"the load balancer's health checks fail: the container does not answer in time"}, asked: 1,
		},
		"may not be asked": {
			next: emulator.Behaviour{Health: emulator.Undecided, Unhealthy: "Request timed out"}, denied: true,
			fails: []string{"wait-for-minutes"}, notice: "elasticloadbalancing:DescribeTargetHealth is not allowed", asked: 1,
		},
		"tasks that are only slow": {
			next: emulator.Behaviour{StartDelay: time.Hour}, fails: []string{"wait-for-minutes"}, asked: 1,
		},
		"no load balancer": {
			next: emulator.Behaviour{Health: emulator.Undecided}, settings: `{}`, fails: []string{"wait-for-minutes"},
		},
		"ECS has its words": {
			next:  emulator.Behaviour{Health: emulator.Failing, Unhealthy: "Health checks failed with these codes: [404]"},
			fails: []string{"the container answers with status 404"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if test.settings == "" {
					test.settings = balanced
				}
				a := newArena(t, emulator.Options{}, emulator.Service{DesiredCount: 1, Settings: test.settings}, deploy.Options{Wait: true, WaitLimit: 5 * time.Minute})
				a.failing(test.next)
				if test.denied {
					a.cloud.Fail(emulator.Fault{Action: "DescribeTargetHealth", Kind: emulator.Denied, Times: -1})
				}
				out, err := a.deploy(t.Context())
				check(t, out, err, out.Status, test.fails)
				asked := 0
				for _, call := range a.cloud.Calls() {
					if call.Action == "DescribeTargetHealth" {
						asked++
					}
				}
				if asked != test.asked {
					t.Errorf("asked for target health %d times, want %d", asked, test.asked)
				}
				a.wantNotice(t, test.notice)
			})
		})
	}
}

// wantNotice looks for a notice that begins so; none is wanted of "".
func (a *arena) wantNotice(t *testing.T, begin string) {
	t.Helper()
	if begin == "" {
		return
	}
	for _, e := range a.events {
		if n, is := e.(deploy.Notice); is && len(n.Message) >= len(begin) && n.Message[:len(begin)] == begin {
			return
		}
	}
	t.Errorf("no notice %q", begin)
}
