package deploy

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

func TestService(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.service["deploymentConfiguration"] = map[string]any{"strategy": "ROLLING", "deploymentCircuitBreaker": map[string]any{"enable": true, "rollback": true}}
	f.replace("ecs-svc/2", newTD)
	c, _ := f.client(Options{Service: serviceARN})
	got, err := c.Service(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &Service{
		ARN: serviceARN, Name: "web", ClusterARN: account + "cluster/prod", ClusterName: "prod",
		TaskDefinitionARN: newTD, StableTaskDefinitionARN: oldTD, Desired: 2, CircuitBreaker: true, RollsBack: true,
		UnderWay: "ecs-svc/2", Strategy: "rolling",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	// The cluster is in the service's ARN.
	wantIn(t, "DescribeServices", f.bodies["DescribeServices"][0], `"cluster":"prod"`, serviceARN)
}

func TestServiceRefused(t *testing.T) {
	t.Parallel()
	put := func(key string, value any) func(f *fakeECS) {
		return func(f *fakeECS) { f.service[key] = value }
	}
	tests := map[string]struct {
		opts    Options
		prepare func(f *fakeECS)
		input   string
		want    []string
	}{
		"missing": {
			opts: Options{Service: "workers", Cluster: "prod"}, input: "service",
			want: []string{`read service: input "service" is "workers"`, "service workers in cluster prod is MISSING", "cluster prod has worker, web, api.", "eu-central-1"},
		},
		"missing, and the others may not be listed": {
			opts: Options{Service: "workers", Cluster: "prod"}, input: "service", want: []string{"Check the inputs service and cluster"},
			prepare: func(f *fakeECS) { f.refuse["ListServices"] = "AccessDeniedException" },
		},
		"no such cluster": {
			prepare: func(f *fakeECS) { f.refuse["DescribeServices"] = "ClusterNotFoundException" },
			input:   "cluster", want: []string{`input "cluster" is "prod"`, "ClusterNotFoundException", "eu-central-1"},
		},
		"reading is not allowed": {
			prepare: func(f *fakeECS) { f.refuse["DescribeServices"] = "AccessDeniedException" },
			input:   "service", want: []string{"AccessDeniedException", "request req-1", "Allow ecs:DescribeServices on " + serviceARN},
		},
		"INACTIVE":    {prepare: put("status", "INACTIVE"), input: "service", want: []string{"INACTIVE", "deleted"}},
		"DRAINING":    {prepare: put("status", "DRAINING"), input: "service", want: []string{"DRAINING", "being deleted"}},
		"CODE_DEPLOY": {prepare: put("deploymentController", map[string]any{"type": "CODE_DEPLOY"}), input: "codedeploy-deployment-group", want: []string{"DgpECS-prod-web", "UnknownOperation"}},
		"EXTERNAL":    {prepare: put("deploymentController", map[string]any{"type": "EXTERNAL"}), input: "service", want: []string{"EXTERNAL"}},
		"bakes for longer than is waited": {
			opts: Options{Service: "web", Cluster: "prod", Wait: true}, input: "wait-for-minutes",
			prepare: put("deploymentConfiguration", map[string]any{"strategy": "CANARY", "bakeTimeInMinutes": 20}),
			want:    []string{`"wait-for-minutes" is "30"`, "bake times alone take 30m", "Set wait-for-minutes to more than 30"},
		},
		"Express Mode":   {prepare: put("resourceManagementType", "ECS"), input: "service", want: []string{"Express Mode"}},
		"expired":        {prepare: func(f *fakeECS) { f.refuse["DescribeServices"] = "ExpiredTokenException" }, input: "service", want: []string{"ExpiredToken"}},
		"no permissions": {prepare: func(f *fakeECS) { f.refuse["DescribeServices"] = "UnrecognizedClientException" }, input: "service", want: []string{"UnrecognizedClient"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				if test.prepare != nil {
					test.prepare(f)
				}
				c, _ := f.client(test.opts)
				_, err := c.Service(t.Context())
				wantError(t, err, test.want)
				var e *problem.Error
				if errors.As(err, &e) && e.Input != test.input {
					t.Errorf("input %q, want %q", e.Input, test.input)
				}
				if out, err := c.Deploy(t.Context(), newTD); err == nil || out.Status != "" || slices.Contains(f.calls, "UpdateService") {
					t.Errorf("Deploy gave %+v, %v and called %v; want an error and no update", out, err, f.calls)
				}
			})
		})
	}
}
