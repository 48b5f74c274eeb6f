package deploy

import "testing"

// TestUnhealthyIsToldClosely: a stopped task names its health checks, the
// service's events say how they failed, the task definition which command.
func TestUnhealthyIsToldClosely(t *testing.T) {
	t.Parallel()
	const elb = "Task failed ELB health checks in (target-group arn:aws:x)"
	tests := map[string]struct {
		failure      TaskFailed
		said         []string
		summary, fix string
	}{
		"by the event of this task": {
			failure: TaskFailed{TaskID: "aa", StoppedReason: elb},
			said: []string{
				"(service web) (task aa) (port 80) is unhealthy in (target-group arn:aws:x) due to (reason Health checks failed with these codes: [301]).",
				"(service web) (task bb) (port 80) is unhealthy in (target-group arn:aws:x) due to (reason Request timed out).",
			},
			summary: "the load balancer's health checks fail: the container answers with status 301",
		},
		"by an event of its instance": {
			failure: TaskFailed{TaskID: "aa", StoppedReason: elb},
			said:    []string{"(service web) (instance i-1) (port 32768) is unhealthy in (target-group arn:aws:x) due to (reason Request timed out)."},
			summary: "the load balancer's health checks fail: the container does not answer in time",
		},
		"another task's event says nothing": {
			failure: TaskFailed{TaskID: "aa", StoppedReason: elb},
			said:    []string{"(service web) (task bb) (port 80) is unhealthy in (target-group arn:aws:x) due to (reason Request timed out)."},
			summary: balancer, fix: balancerFix,
		},
		"the container's own check": {
			failure: TaskFailed{StoppedReason: "Task failed container health checks", Containers: []ContainerEnd{
				{Name: "proxy"}, {Name: "app", ExitCode: new(137), Unhealthy: true, HealthCheck: checkCommand([]string{"CMD-SHELL", "curl -f localhost || exit 1"})},
			}},
			summary: "the health check of container app fails",
			fix:     "Run the check in the image (curl -f localhost || exit 1): its programs must be there and end with 0, and startPeriod must cover the start.",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTaskWatch(&Client{}, &deployment{})
			w.said = test.said
			got := w.explainOne(test.failure)
			if got.summary != test.summary {
				t.Errorf("summary %q, want %q", got.summary, test.summary)
			}
			if test.fix != "" && got.fix != test.fix {
				t.Errorf("fix %q, want %q", got.fix, test.fix)
			}
		})
	}
}
