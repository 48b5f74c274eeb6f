package inputs

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDeployment(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  values
		want func(*Deployment)
	}{
		"nothing is set": {values{}, func(*Deployment) {}},
		"a service's properties": {values{
			"desired-count": "0", "force-new-deployment": "true", "enable-ecs-managed-tags": "false", "propagate-tags": "SERVICE",
			"service-managed-ebs-volume-name": "data", "service-managed-ebs-volume": `{"roleArn": "arn:x", "sizeInGiB": 20}`,
			"max-retries": "0", "on-cancel": "rollback", "on-pause": "wait", "wait-for-minutes": "1440",
		}, func(d *Deployment) {
			d.Update = ServiceUpdate{
				DesiredCount: new(0), ForceNewDeployment: true, EnableECSManagedTags: new(false), PropagateTags: "SERVICE",
				ManagedEBSVolumeName: "data", ManagedEBSVolume: json.RawMessage(`{"roleArn": "arn:x", "sizeInGiB": 20}`),
			}
			d.MaxRetries, d.RollbackOnCancel, d.WaitAtPause, d.WaitFor = 0, true, true, 24*time.Hour
		}},
		"canary": {values{
			"deployment-strategy": "canary", "canary-percent": "2.5%", "canary-bake-minutes": "15", "bake-time-minutes": "0",
			"circuit-breaker": "rollback", "alarms": "5xx, latency\n5xx",
		}, func(d *Deployment) {
			d.Strategy = Strategy{
				Name: StrategyCanary, CanaryPercent: new(2.5), CanaryBakeMinutes: new(15), BakeMinutes: new(0),
				CircuitBreaker: BreakerRollback, Alarms: []string{"5xx", "latency"},
			}
		}},
		"linear, as the service has it": {values{"linear-step-percent": "33.3", "linear-step-bake-minutes": "1"}, func(d *Deployment) {
			d.Strategy = Strategy{LinearPercent: new(33.3), LinearBakeMinutes: new(1)}
		}},
		"rolling": {values{"deployment-strategy": "rolling", "minimum-healthy-percent": "50", "maximum-percent": "150", "alarms": "off"}, func(d *Deployment) {
			d.Strategy = Strategy{Name: StrategyRolling, MinimumHealthyPercent: new(50), MaximumPercent: new(150), AlarmsOff: true}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.set["service"], test.set["image"] = "web", "nginx"
			s, err := Parse(test.set.get, job().get)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults().Deployment
			want.Service = "web"
			test.want(&want)
			if diff := cmp.Diff(s.Deployment, want); diff != "" {
				t.Errorf("deployment (-got +want):\n%s", diff)
			}
		})
	}
}

func TestDeploymentMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  values
		want []string // one for each mistake
	}{
		"words": {
			values{"deployment-strategy": "blue/green", "circuit-breaker": "true", "on-cancel": "stop", "propagate-tags": "service"},
			[]string{"rolling, recreate, blue-green, linear, canary", "on, off, rollback", "leave, rollback", "SERVICE, TASK_DEFINITION, NONE"},
		},
		"numbers": {
			values{"desired-count": "-1", "canary-percent": "0.05", "linear-step-percent": "2", "bake-time-minutes": "1441", "max-retries": "many"},
			[]string{`"-1": not between 0 and 5000`, "steps of 0.1", "number from 3 to 100", "not between 0 and 1440", `"max-retries"`},
		},
		"percent of another strategy": {values{"deployment-strategy": "linear", "canary-percent": "5"}, []string{`without effect on a linear deployment. Remove it, or set "deployment-strategy" to canary`}},
		"a bake that is no more":      {values{"deployment-strategy": "rolling", "bake-time-minutes": "5"}, []string{"blue-green or linear or canary"}},
		"recreate and its own bounds": {values{"deployment-strategy": "recreate", "maximum-percent": "200"}, []string{"recreate is rolling with 0 and 100 percent"}},
		"no room to move":             {values{"minimum-healthy-percent": "100", "maximum-percent": "100"}, []string{"no task can be started or stopped"}},
		"volume without a name":       {values{"service-managed-ebs-volume": "{}"}, []string{`Name the volume`}},
		"volume without a text":       {values{"service-managed-ebs-volume-name": "data"}, []string{`Describe the volume`}},
		"volume without a role":       {values{"service-managed-ebs-volume-name": "data", "service-managed-ebs-volume": `{"sizeInGiB":1}`}, []string{"no roleArn"}},
		"volume that is no JSON":      {values{"service-managed-ebs-volume-name": "data", "service-managed-ebs-volume": `[]`}, []string{"JSON object"}},
		"cancel without waiting":      {values{"on-cancel": "rollback", "wait-for-service-stability": "false"}, []string{"not waited for"}},
		"strategy without a service":  {values{"service": "", "image": "", "deployment-strategy": "canary"}, []string{`empty, but there is also "deployment-strategy"`}},
		"continue and build":          {values{"continue-deployment": "true"}, []string{`Remove "image". Do it in a step of its own`}},
		"continue and roll back":      {values{"image": "", "continue-deployment": "true", "rollback-deployment": "true"}, []string{"Set one of them"}},
		"continue nothing":            {values{"service": "", "image": "", "continue-deployment": "true"}, []string{"Name the service whose deployment is meant"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := values{"service": "web", "image": "nginx"}
			maps.Copy(set, test.set)
			_, err := Parse(set.get, job().get)
			var all []error
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				all = joined.Unwrap()
			}
			if len(all) != len(test.want) {
				t.Fatalf("%d mistakes, want %d: %v", len(all), len(test.want), err)
			}
			for _, want := range test.want {
				if !strings.Contains(errors.Join(all...).Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	for _, input := range []string{"continue-deployment", "rollback-deployment"} {
		s, err := Parse(values{"service": "web", input: "true"}.get, job().get)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Resumes() || s.Builds() || s.Pushes() || s.Registers() || s.Deploys() || !s.NeedsAWS() {
			t.Errorf("%s: resumes %t, builds %t, pushes %t, registers %t, deploys %t, needs AWS %t", input,
				s.Resumes(), s.Builds(), s.Pushes(), s.Registers(), s.Deploys(), s.NeedsAWS())
		}
	}
}
