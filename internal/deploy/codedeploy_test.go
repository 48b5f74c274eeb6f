package deploy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/emulator"
)

// TestAppSpecOfTheDeployment looks at what CodeDeploy is given.
func TestAppSpecOfTheDeployment(t *testing.T) {
	t.Parallel()
	const resource = `"Resources":[{"TargetService":{"Type":"AWS::ECS::Service","Properties":{"TaskDefinition":"arn:aws:ecs:us-east-1:123456789012:task-definition/web:2","LoadBalancerInfo":{"ContainerName":"web","ContainerPort":80}}}}]`
	tests := map[string]struct {
		given string
		want  string
		fails string
	}{
		"made": {want: `{` + resource + `,"version":0}`},
		"JSON, with what we do not know": {
			given: ` { "version" : 0.0, "Resources": [ {"web": {"type":"AWS::ECS::Service", "properties":{"taskDefinition":"<TASK_DEFINITION>", "loadBalancerInfo":{"containerName":"web","containerPort":80}, "new":[1.0,"<b>"]}}} ],"Hooks":[{"AfterInstall":"fn"}]}`,
			want: `{"version":0.0,"Resources":[{"web":{"type":"AWS::ECS::Service","properties":{"taskDefinition":"arn:aws:ecs:us-east-1:123456789012:task-definition/web:2",` +
				`"loadBalancerInfo":{"containerName":"web","containerPort":80},"new":[1.0,"<b>"]}}}],"Hooks":[{"AfterInstall":"fn"}]}`,
		},
		"YAML": {
			given: "version: 0.0 # the only one\nResources:\n  - TargetService:\n      Type: AWS::ECS::Service\n      Properties:\n        TaskDefinition: <TASK_DEFINITION>\n" +
				"        LoadBalancerInfo:\n          ContainerName: web\n          ContainerPort: 80\nHooks:\n  - BeforeAllowTraffic: arn:aws:lambda:us-east-1:1:function:check\n",
			want: `{"version":0.0,` + resource + `,"Hooks":[{"BeforeAllowTraffic":"arn:aws:lambda:us-east-1:1:function:check"}]}`,
		},
		"no place":      {given: `{"version":0.0,"Resources":[{"TargetService":{"Type":"AWS::ECS::Service","Properties":{}}}]}`, fails: "it has no TaskDefinition"},
		"no resource":   {given: `{"version":0.0,"Resources":[]}`, fails: "it has 0 resources, not one"},
		"two resources": {given: `{"Resources":[{"a":{"Properties":{"TaskDefinition":""}},"b":{"Properties":{"TaskDefinition":""}}}]}`, fails: "it has 2 resources, not one"},
		"a list":        {given: `[1]`, fails: "is no object"},
		"neither":       {given: "a: [b", fails: "neither JSON nor YAML"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.given != "" {
				if err := deploy.CheckAppSpec([]byte(test.given)); (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("CheckAppSpec gave %v, want %q", err, test.fails)
				}
			}
			if test.fails != "" {
				return
			}
			synctest.Test(t, func(t *testing.T) {
				cloud, config := codeWorld(t, emulator.DeploymentGroup{}, emulator.Behaviour{})
				client := deploy.New(deploy.Options{Config: config, Cluster: "shop", Service: "web", CodeDeploy: deploy.CodeDeploy{AppSpec: []byte(test.given), Description: "more than " + strings.Repeat("x", 512)}})
				out, err := client.Deploy(t.Context(), registerNext(t, client))
				if err != nil || out.Status != deploy.StatusStarted {
					t.Fatalf("Deploy gave %+v, %v", out, err)
				}
				got, description := createdWith(t, cloud)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("AppSpec (-want +got):\n%s", diff)
				}
				if n := len([]rune(description)); n != 512 {
					t.Errorf("the description has %d characters, want 512", n)
				}
			})
		})
	}
}

// createdWith gives the AppSpec and the description of the last CreateDeployment.
func createdWith(t *testing.T, cloud *emulator.Cloud) (content, description string) {
	t.Helper()
	for _, call := range cloud.Calls() {
		if call.Action == "CreateDeployment" {
			var in struct {
				Description string
				Revision    struct{ AppSpecContent struct{ Content string } }
			}
			if err := json.Unmarshal(call.Request, &in); err != nil {
				t.Fatal(err)
			}
			content, description = in.Revision.AppSpecContent.Content, in.Description
		}
	}
	return content, description
}

// TestCodeDeployAgain deploys to a service that has been deployed to before.
func TestCodeDeployAgain(t *testing.T) {
	t.Parallel()
	const hooks = `{"version":0.0,"Resources":[{"TargetService":{"Type":"AWS::ECS::Service","Properties":{"TaskDefinition":"x","LoadBalancerInfo":{"ContainerName":"web","ContainerPort":80}}}}],"Hooks":[{"AfterInstall":"fn"}]}`
	tests := map[string]struct {
		group  emulator.DeploymentGroup
		first  deploy.Options
		second deploy.Options
		same   bool // the same task definition again
		pause  time.Duration
		status deploy.Status
		joined bool
		fails  []string
		hooks  bool // in the second AppSpec
	}{
		"the AppSpec of the last one": {
			first: deploy.Options{Wait: true, CodeDeploy: deploy.CodeDeploy{AppSpec: []byte(hooks), WaitForEnd: true}}, second: deploy.Options{Wait: true},
			status: deploy.StatusSucceeded, hooks: true,
		},
		"nothing to do": {
			first: deploy.Options{Wait: true}, second: deploy.Options{Wait: true}, same: true, pause: time.Minute, status: deploy.StatusUnchanged,
		},
		"forced": {
			first: deploy.Options{Wait: true}, second: deploy.Options{Wait: true, Update: deploy.Update{ForceNewDeployment: true}}, same: true, pause: time.Minute,
			status: deploy.StatusSucceeded,
		},
		"the same is under way": {
			second: deploy.Options{Wait: true}, same: true, status: deploy.StatusSucceeded, joined: true,
		},
		"another is under way": {
			second: deploy.Options{Wait: true}, fails: []string{"DeploymentLimitExceededException", "created", "by user, is under way", "aws deploy stop-deployment --region us-east-1 --deployment-id d-"},
		},
		"another waits to end its old tasks": {
			group: emulator.DeploymentGroup{TerminationWait: time.Hour}, first: deploy.Options{Wait: true}, second: deploy.Options{Wait: true},
			fails: []string{"its traffic has moved, and it waits to end its old tasks", "aws deploy continue-deployment", "codedeploy-wait-for: succeeded"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud, config := codeWorld(t, test.group, emulator.Behaviour{})
				open := func(o deploy.Options, events *[]deploy.Event) *deploy.Client {
					o.Config, o.Cluster, o.Service = config, "shop", "web"
					o.Events = func(e deploy.Event) { *events = append(*events, e) }
					return deploy.New(o)
				}
				var before, events []deploy.Event
				first := open(test.first, &before)
				arn := registerNext(t, first)
				if _, err := first.Deploy(t.Context(), arn); err != nil {
					t.Fatal(err)
				}
				wait(t, test.pause)
				second := open(test.second, &events)
				if !test.same {
					arn = registerImage(t, second, "docker.io/library/web:3")
				}
				out, err := second.Deploy(t.Context(), arn)
				check(t, out, err, test.status, test.fails)
				joined := false
				for _, e := range events {
					started, is := e.(deploy.Started)
					joined = joined || is && started.Joined
				}
				if joined != test.joined {
					t.Errorf("joined %t, want %t", joined, test.joined)
				}
				if content, _ := createdWith(t, cloud); test.hooks != strings.Contains(content, `"Hooks":[{"AfterInstall":"fn"}]`) {
					t.Errorf("AppSpec %s, want hooks: %t", content, test.hooks)
				}
			})
		})
	}
}

// wait lets virtual time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// TestFindDeploymentGroup holds what is said when the group cannot be found.
func TestFindDeploymentGroup(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		groups []emulator.DeploymentGroup
		given  deploy.CodeDeploy
		denied []string
		fails  []string
	}{
		"none":               {fails: []string{"no deployment group of the account and region names the service", "region us-east-1"}},
		"of another service": {groups: []emulator.DeploymentGroup{{Cluster: "shop", Service: "api"}}, fails: []string{"no deployment group"}},
		"several": {
			groups: []emulator.DeploymentGroup{{Application: "a", Name: "x", Cluster: "shop", Service: "web"}, {Application: "b", Name: "y", Cluster: "shop", Service: "web"}},
			fails:  []string{"several deployment groups name the service: a/x, b/y", "codedeploy-application"},
		},
		"several, one given": {
			groups: []emulator.DeploymentGroup{{Application: "a", Name: "x", Cluster: "shop", Service: "web"}, {Application: "b", Name: "y", Cluster: "shop", Service: "web"}},
			given:  deploy.CodeDeploy{Application: "b"},
		},
		"given, of another service": {
			groups: []emulator.DeploymentGroup{{Application: "a", Name: "x", Cluster: "shop", Service: "api"}}, given: deploy.CodeDeploy{Application: "a", Group: "x"},
			fails: []string{`"codedeploy-deployment-group" is "x"`, "the group is for shop/api, not for service web"},
		},
		"given, application missing": {given: deploy.CodeDeploy{Application: "a", Group: "x"}, fails: []string{`"codedeploy-application" is "a"`, "No application found"}},
		"given, group missing": {
			groups: []emulator.DeploymentGroup{{Application: "a", Name: "x", Cluster: "shop", Service: "web"}}, given: deploy.CodeDeploy{Application: "a", Group: "y"},
			fails: []string{`"codedeploy-deployment-group" is "y"`, "No Deployment Group found"},
		},
		"looking is not allowed": {
			groups: []emulator.DeploymentGroup{{Application: "a", Name: "x", Cluster: "shop", Service: "web"}}, denied: []string{"ListApplications"},
			fails: []string{"codedeploy:ListApplications", "Set the inputs codedeploy-application and codedeploy-deployment-group"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := emulator.New(emulator.Options{})
				for _, service := range []string{"web", "api"} {
					if _, err := cloud.AddService(emulator.Service{Cluster: "shop", Name: service, TaskDefinition: definition, Settings: behindBalancer}); err != nil {
						t.Fatal(err)
					}
				}
				for _, group := range test.groups {
					cloud.AddDeploymentGroup(group)
				}
				for _, action := range test.denied {
					cloud.Fail(emulator.Fault{Action: action, Kind: emulator.Denied, Times: -1})
				}
				_, err := deploy.New(deploy.Options{Config: configOf(cloud), Cluster: "shop", Service: "web", CodeDeploy: test.given}).Service(t.Context())
				check(t, deploy.Outcome{}, err, "", test.fails)
			})
		})
	}
}

// TestResumeCodeDeploy decides about a deployment that waits before its traffic
// moves.
func TestResumeCodeDeploy(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, config := codeWorld(t, emulator.DeploymentGroup{ReadyWait: time.Hour}, emulator.Behaviour{})
				client := deploy.New(deploy.Options{Config: config, Cluster: "shop", Service: "web", Wait: true})
				out, err := client.Deploy(t.Context(), registerNext(t, client))
				if err != nil || out.Status != deploy.StatusPaused {
					t.Fatalf("Deploy gave %+v, %v", out, err)
				}
				again := deploy.New(deploy.Options{Config: config, Cluster: "shop", Service: "web", Wait: true})
				resumed, err := again.Resume(t.Context(), back)
				want, ends := deploy.StatusSucceeded, "web:2"
				if back {
					want, ends = deploy.StatusRolledBack, "web:1"
				}
				if err != nil || resumed.Status != want || resumed.CodeDeployID != out.CodeDeployID {
					t.Errorf("Resume gave %+v, %v; want %s of %s", resumed, err, want, out.CodeDeployID)
				}
				service, err := again.Service(t.Context())
				if err != nil || !strings.HasSuffix(service.TaskDefinitionARN, ends) {
					t.Errorf("the service ends on %v, %v, want %s", service, err, ends)
				}
				wait(t, time.Minute)
				if _, err = again.Resume(t.Context(), back); err == nil || !strings.Contains(err.Error(), "no deployment of the service is paused or under way") {
					t.Errorf("a second Resume gave %v", err)
				}
			})
		})
	}
}

// TestEmulatedCodeDeployIsStrict: what the real one refuses is refused.
func TestEmulatedCodeDeployIsStrict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, config := codeWorld(t, emulator.DeploymentGroup{}, emulator.Behaviour{})
		client := cdsdk.NewFromConfig(config)
		for _, content := range []string{
			`x`, `{"Resources":[]}`, `{"Resources":[{"T":{"Type":"AWS::Lambda::Function","Properties":{"TaskDefinition":"web:1"}}}]}`,
			`{"Resources":[{"T":{"Type":"AWS::ECS::Service","Properties":{"TaskDefinition":"web:9","LoadBalancerInfo":{"ContainerName":"web","ContainerPort":80}}}}]}`,
		} {
			_, err := client.CreateDeployment(t.Context(), &cdsdk.CreateDeploymentInput{
				ApplicationName: aws.String("AppECS-shop-web"), DeploymentGroupName: aws.String("DgpECS-shop-web"),
				Revision: &cdtypes.RevisionLocation{RevisionType: "AppSpecContent", AppSpecContent: &cdtypes.AppSpecContent{Content: aws.String(content)}},
			})
			if err == nil || !strings.Contains(err.Error(), "InvalidRevisionException") {
				t.Errorf("CreateDeployment with %s gave %v", content, err)
			}
		}
		if _, err := client.GetDeployment(t.Context(), &cdsdk.GetDeploymentInput{DeploymentId: aws.String("d-000000000")}); err == nil || !strings.Contains(err.Error(), "DeploymentDoesNotExistException") {
			t.Errorf("GetDeployment gave %v", err)
		}
	})
}
