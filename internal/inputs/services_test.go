package inputs

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/rollout"
)

func TestServices(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:ecs:eu-west-1:123456789012:service/blue/api"
	tests := map[string]struct {
		set  values
		want func(*Deployment)
	}{
		"one":                {values{"service": "web"}, func(d *Deployment) { d.Service = "web" }},
		"one in its cluster": {values{"service": "prod/web"}, func(d *Deployment) { d.Cluster, d.Service = "prod", "web" }},
		"one with its container": {values{"service": "web=app", "cluster": "prod"}, func(d *Deployment) {
			d.Cluster, d.Service = "prod", "web"
			d.Targets = []Target{{Cluster: "prod", Service: "web", Container: "app"}}
		}},
		"several": {values{"service": "web\nblue/api = app \n\n" + arn, "cluster": "prod", "max-parallel": "2", "waves": "1, 10%\n100%", "wave-bake-minutes": "5"}, func(d *Deployment) {
			d.Cluster, d.Service, d.MaxParallel, d.WaveBake = "prod", "web", 2, 5*time.Minute
			d.Targets = []Target{
				{Cluster: "prod", Service: "web"},
				{Cluster: "blue", Service: "api", Container: "app"},
				{Cluster: "blue", Service: arn, Region: "eu-west-1"},
			}
			d.Waves = []rollout.Wave{{Count: 1}, {Percent: 10}, {Percent: 100}}
		}},
		"targets": {values{"targets": "- region: eu-west-1\n  cluster: prod\n  service: web\n  role: arn:aws:iam::123456789012:role/eu\n" +
			"- {service: api=app, role: [hub, \"arn:aws:iam::210987654321:role/spoke\"]}\n- service: " + arn + "\n"}, func(d *Deployment) {
			d.Cluster, d.Service = "prod", "web"
			d.Targets = []Target{
				{Cluster: "prod", Service: "web", Region: "eu-west-1", Roles: []string{"arn:aws:iam::123456789012:role/eu"}},
				{Cluster: "default", Service: "api", Container: "app", Roles: []string{"hub", "arn:aws:iam::210987654321:role/spoke"}},
				{Cluster: "blue", Service: arn, Region: "eu-west-1"},
			}
		}},
		"one target": {values{"targets": `[{"service": "web"}]`}, func(d *Deployment) {
			d.Service, d.Targets = "web", []Target{{Cluster: "default", Service: "web"}}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.set["image"] = "nginx"
			s, err := Parse(test.set.get, job().get)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults().Deployment
			test.want(&want)
			if diff := cmp.Diff(s.Deployment, want); diff != "" {
				t.Errorf("deployment (-got +want):\n%s", diff)
			}
		})
	}
}

// A user makes these mistakes, and reads the whole text.
func TestServicesMistakes(t *testing.T) {
	t.Parallel()
	const (
		wave   = " Write numbers of services or percentages of all, each more than the one before, such as 1, 10%, 100%."
		target = " " + targetsForm
	)
	tests := map[string]struct {
		set  values
		want []string
	}{
		"no names": {values{"service": "web\na b\nx/y/z\napi=\narn:aws:ecs:eu-central-1:123456789012:task/x"}, []string{
			`read the inputs: input "service" is "a b": neither the name nor the ARN of a service. ` + serviceForm,
			`read the inputs: input "service" is "x/y/z": neither the name nor the ARN of a service. ` + serviceForm,
			`read the inputs: input "service" is "api=": neither the name nor the ARN of a service. ` + serviceForm,
			`read the inputs: input "service" is "arn:aws:ecs:eu-central-1:123456789012:task/x": neither the name nor the ARN of a service. ` + serviceForm,
		}},
		"twice": {values{"service": "web\ndefault/web"}, []string{
			`read the inputs: input "service" is "default/web": there twice. Name each service once.`,
		}},
		"a container twice": {values{"service": "web=app\napi", "container-name": "app"}, []string{
			`read the inputs: input "container-name" is "app": default/web names its container, app, too. Remove one of them.`,
		}},
		"service and targets": {values{"service": "web", "targets": "[{service: api}]"}, []string{
			`read the inputs: input "targets": there is also "service". Put all services into one of them.`,
		}},
		"no waves": {values{"service": "web\napi", "waves": "0, half, 101%"}, []string{
			`read the inputs: input "waves": "0": a wave has at least one service.` + wave,
			`read the inputs: input "waves": "half" is neither a number of services nor a percentage.` + wave,
			`read the inputs: input "waves": "101%" is not more than 0% and at most 100%.` + wave,
		}},
		"waves go back": {values{"service": "web\napi", "waves": "50%, 10%"}, []string{
			`read the inputs: input "waves": 10% comes after 50%, and is no more than that: each says how many services have been begun by then, from the first.` + wave,
		}},
		"a bake in one wave": {values{"service": "web\napi", "wave-bake-minutes": "5"}, []string{
			`read the inputs: input "wave-bake-minutes" is "5": there is only one wave, so there is nothing between. Set "waves", or remove it.`,
		}},
		"waves without a wait": {values{"service": "web\napi", "waves": "1", "wait-for-service-stability": "false"}, []string{
			`read the inputs: input "waves" is "1": the end of a wave is not seen if deployments are not waited for. Set "wait-for-service-stability" to true, or remove "waves".`,
		}},
		"waves of nothing": {values{"waves": "1", "repository": "app", "image": ""}, []string{
			`read the inputs: input "service": empty, but there is also "waves": nothing would be deployed. Set "service", or remove "waves".`,
		}},
		"too many at once": {values{"service": "web", "max-parallel": "501"}, []string{
			`read the inputs: input "max-parallel" is "501": not between 1 and 500. Write a whole number from 1 to 500.`,
		}},
		"one deployment group for all": {values{"service": "web\napi", "codedeploy-deployment-group": "g", "codedeploy-application": "a"}, []string{
			`read the inputs: input "service": there are several services, but also "codedeploy-application", "codedeploy-deployment-group" of one. Remove "codedeploy-application", "codedeploy-deployment-group": they are found for each service.`,
		}},
		"several go on": {values{"service": "web\napi", "continue-deployment": "true", "image": ""}, []string{
			`read the inputs: input "continue-deployment" is "true": there are several services, or targets. Name one service, without a container; for several, do it in a step for each.`,
		}},
		"no list":   {values{"targets": "service: web"}, []string{`read the inputs: input "targets": not a list with an entry for each service.` + target}},
		"no entry":  {values{"targets": "- web"}, []string{`read the inputs: input "targets": entry 1 has no members.` + target}},
		"no target": {values{"targets": "- region: eu-west-1"}, []string{`read the inputs: input "targets": entry 1: no service.` + target}},
		"wrong targets": {values{"targets": "- {service: a, cluser: x}\n- {service: b, region: Paris, role: [1]}\n- {service: x/c, cluster: y}\n- {service: 7}"}, []string{
			`read the inputs: input "targets": entry 1: "cluser" is none of region, role, cluster, service, container.` + target,
			"read the inputs: input \"targets\": entry 2: \"Paris\" is not a region\nrole is not a text or a list of them." + target,
			`read the inputs: input "targets": entry 3: the service is in the cluster x, not in y.` + target,
			`read the inputs: input "targets": entry 4: service is not a text.` + target,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := values{"image": "nginx"}
			maps.Copy(set, test.set)
			_, err := Parse(set.get, job().get)
			var got []string
			if all, several := err.(interface{ Unwrap() []error }); several {
				for _, each := range all.Unwrap() {
					got = append(got, each.Error())
				}
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("mistakes (-got +want):\n%s", diff)
			}
		})
	}
}

// The YAML parser is not ours: its words may change, that it refuses may not.
func TestTargetsNoYAML(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"- {service", "a: b: c", "\t- x", "- &a [*a]"} {
		_, err := Parse(values{"image": "nginx", "targets": text}.get, job().get)
		if err == nil || !strings.Contains(err.Error(), `input "targets"`) || strings.Contains(errors.Join(err).Error(), "panic") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}
