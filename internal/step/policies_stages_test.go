package step_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/towline/towline/internal/emulator"
)

// stage is what a flow is run in, besides what the document says.
type stage struct {
	// world are the lines of a scenario's world. The first run of a flow has
	// to succeed.
	world []string
	// fails says that the step fails, whatever the role may do.
	fails bool
	// breaks are optional statements that the step cannot do without here.
	breaks []string
	// tolerates are refusals that are none: the step asks, and goes another way.
	tolerates []string
	// code says that CodeDeploy deploys already, neighbour that another service
	// of the region is being deployed, later how long ago all that began.
	code, neighbour bool
	later           time.Duration
}

// suffices says whether what is not optional is enough here.
func (s stage) suffices() bool { return !s.fails && len(s.breaks) == 0 }

// begin brings the stage to the time of the step.
func (s stage) begin(t *testing.T, w *world, definition string) {
	t.Helper()
	if s.code {
		w.codeDeployAnother(t, definition)
	}
	if s.neighbour {
		w.deployNeighbour(t)
	}
	if s.later > 0 {
		timer := time.NewTimer(s.later)
		<-timer.C
	}
}

// pausing is a deployment that waits for a day.
const pausing = `{"strategy": "BLUE_GREEN", "lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}]}`

// stages are what each flow of the document is run in: the first has to
// succeed, the others are where the optional permissions are of use.
func stages() map[string][]stage {
	crashes := `tasks {"Logs": ["starting", "panic: DATABASE_URL is not set"], "Exit": {"Code": 2}}`
	const balancers = `"loadBalancers": [{"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/1", "containerName": "app", "containerPort": 8080}]`
	balanced := "service-settings {" + balancers + "}"
	unhealthy := stage{world: []string{"no-circuit-breaker", balanced, `tasks {"Health": 1}`}, fails: true}
	deployments := []stage{
		{}, {world: []string{"no-circuit-breaker", crashes}, fails: true}, {world: []string{"service-name web2"}, fails: true}, unhealthy,
	}
	again := stage{world: []string{"twice"}}                     // with the cache of the first run
	held := stage{world: []string{"immutable-tags v*", "twice"}} // whose cache is found by a listing
	onInstances := []string{`service-settings {"launchType": "EC2"}`, "instance x86_64"}
	taken := with(deployments, "taken v9")
	ends := `one-off-task {"Logs": ["migrated"], "Exit": {"After": 5000000000}}`
	migrated := `one-off-task {"Logs": ["migrated"], "Exit": {"Container": "migrate", "After": 5000000000}}`
	lost := stage{world: []string{migrated, `fault {"Action": "RunTask", "Kind": "lost", "Times": -1}`}, breaks: []string{"OptionalListTasks", "OptionalDescribeTasks"}}
	codeDeploys := func(group string) []stage {
		return []stage{
			{world: []string{"code-deploy " + group}},
			{world: []string{"code-deploy " + group, `fault {"Action": "CreateDeployment", "Kind": "lost"}`}, breaks: []string{"OptionalFindDeployment"}},
			{world: []string{"code-deploy " + group, crashes}, fails: true},
			{world: []string{"code-deploy " + group, `tasks {"Health": 1}`}, fails: true},
			{world: []string{"code-deploy " + group, "service-name web2"}, fails: true},
		}
	}
	paused := []stage{{world: []string{"taken v1", "deployment-configuration " + pausing, "deploying"}, later: 10 * time.Minute}}
	crashing := stage{world: []string{"taken v1", "no-circuit-breaker", crashes, "deploying"}, fails: true}
	gone := stage{world: crashing.world}
	sick := stage{world: []string{"taken v1", "no-circuit-breaker", balanced, `tasks {"Health": 1}`, "deploying"}, fails: true}
	sickCode := stage{world: []string{"taken v1", "code-deploy {}", `tasks {"Health": 1}`}, code: true, later: time.Minute}
	sickContinued := sickCode
	sickContinued.fails = true
	waiting := []string{"taken v1", `code-deploy {"ReadyWait": 3600000000000}`}
	resumes := []stage{
		{world: waiting, code: true, later: 10 * time.Minute},
		{world: append([]string{"service-name web2"}, waiting...), fails: true},
	}
	failing := stage{world: []string{"taken v1", "code-deploy {}", crashes}, code: true, later: time.Minute}
	continued := failing
	continued.fails = true
	return map[string][]stage{
		"build-push":          {{}, again, held},
		"build-push-uri":      {{}, again, held, {world: []string{"repository-name shop2"}, fails: true}},
		"create-repository":   {{world: []string{"repository-name shop2"}}, again, held},
		"cache":               {{}, again},
		"cross-account":       {{}, again, held},
		"public":              {{}},
		"log-in":              {{}},
		"instances":           {{world: onInstances}, {world: append([]string{"twice"}, onInstances...)}, {world: append([]string{"immutable-tags v*", "twice"}, onInstances...)}, {world: append([]string{"service-name web2"}, onInstances...), fails: true}},
		"merge":               {{world: []string{"pushed linux/amd64", "pushed linux/arm64"}}},
		"deploy-image":        taken,
		"full":                append(deployments, again, held),
		"not-waiting":         {{}, deployments[2], again, held},
		"register":            {{}},
		"volume":              {{}, deployments[2]},
		"run-task":            {{world: []string{migrated}}, lost},
		"migrate":             append(with(deployments[:3], "network", ends), stage{world: []string{"network , " + balancers, ends, "no-circuit-breaker", `tasks {"Health": 1}`}, fails: true}),
		"keep-revisions":      {{world: []string{"revisions 5"}, neighbour: true, later: time.Minute}, deployments[2]},
		"continue":            append(slices.Clone(paused), deployments[2], crashing, sick),
		"rollback":            append(slices.Clone(paused), stage{world: []string{"taken v1", "deploying"}}, deployments[2], gone),
		"codedeploy":          codeDeploys(`{}`),
		"codedeploy-search":   tolerating(codeDeploys(`{"Application": "shop", "Name": "blue-green"}`), "codedeploy GetDeploymentGroup"),
		"codedeploy-continue": append(slices.Clone(resumes), continued, sickContinued),
		"codedeploy-rollback": append(slices.Clone(resumes), failing),
	}
}

// with adds lines to all worlds.
func with(all []stage, lines ...string) []stage {
	var out []stage
	for _, s := range all {
		s.world = append(append([]string(nil), lines...), s.world...)
		out = append(out, s)
	}
	return out
}

func tolerating(all []stage, refusals ...string) []stage {
	var out []stage
	for _, s := range all {
		s.tolerates = refusals
		out = append(out, s)
	}
	return out
}

// deployNeighbour adds a service of another cluster whose deployment is under way.
func (w *world) deployNeighbour(t *testing.T) {
	t.Helper()
	definition := strings.ReplaceAll(runs, `"family": "web"`, `"family": "worker"`)
	if _, err := w.cloud.AddService(emulator.Service{Cluster: "batch", Name: "worker", TaskDefinition: definition, DesiredCount: 1, DeploymentConfiguration: pausing}); err != nil {
		t.Fatal(err)
	}
	arn, err := w.cloud.RegisterTaskDefinition(definition)
	if err != nil {
		t.Fatal(err)
	}
	client := ecs.New(ecs.Options{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""), HTTPClient: &http.Client{Transport: w.cloud.RoundTripper()}})
	if _, err = client.UpdateService(context.WithoutCancel(t.Context()), &ecs.UpdateServiceInput{Cluster: aws.String("batch"), Service: aws.String("worker"), TaskDefinition: &arn}); err != nil {
		t.Fatal(err)
	}
}

// codeDeployAnother lets CodeDeploy deploy another revision.
func (w *world) codeDeployAnother(t *testing.T, definition string) {
	t.Helper()
	arn, err := w.cloud.RegisterTaskDefinition(definition)
	if err != nil {
		t.Fatal(err)
	}
	content := fmt.Sprintf(`{"version": 0.0, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {"TaskDefinition": %q, "LoadBalancerInfo": {"ContainerName": "app", "ContainerPort": 8080}}}}]}`, arn)
	client := cdsdk.New(cdsdk.Options{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""), HTTPClient: &http.Client{Transport: w.cloud.RoundTripper()}})
	if _, err = client.CreateDeployment(context.WithoutCancel(t.Context()), &cdsdk.CreateDeploymentInput{
		ApplicationName: aws.String("AppECS-prod-web"), DeploymentGroupName: aws.String("DgpECS-prod-web"),
		Revision: &cdtypes.RevisionLocation{RevisionType: cdtypes.RevisionLocationTypeAppSpecContent, AppSpecContent: &cdtypes.AppSpecContent{Content: &content}},
	}); err != nil {
		t.Fatal(err)
	}
}
