package step_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/towline/towline/internal/emulator"
)

// contract is one question to AWS, and what AWS documents as the answer. The
// emulator must give it, and so must moto, which nobody here wrote, or the
// emulator's idea of AWS is only ours.
type contract struct {
	ask  func(context.Context, aws.Config) (string, error)
	want string
	// moto is what moto answers where that is something else, and why says how it
	// comes. A difference that is no more fails the test.
	moto, why string
}

// TestContracts asks the emulator and moto the same questions with AWS's SDK.
func TestContracts(t *testing.T) { //nolint:tparallel // a topic sees what the one before it changed
	t.Parallel()
	m := startMoto(t)
	m.prepare(t)
	ours := emulatedLikeMoto(t)
	for _, topic := range []struct {
		name string
		asks map[string]contract
	}{
		{"sts", contractsOfSTS()},
		{"ecr", contractsOfECR()},
		{"what definitions name", contractsOfNamed()},
		{"ecs reads", contractsOfReads()},
		{"ecs refusals", contractsOfRefusals()},
		{"ecs definitions", contractsOfDefinitions()},
		{"ecs writes", contractsOfWrites(m.subnet(t))},
	} {
		t.Run(topic.name, func(t *testing.T) {
			for name, c := range topic.asks {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					c.check(t, ours, m.config())
				})
			}
		})
	}
}

// check asks the emulator and moto.
func (c contract) check(t *testing.T, ours, motos aws.Config) {
	t.Helper()
	if got := answer(c.ask(t.Context(), ours)); got != c.want {
		t.Errorf("the emulator: got %s, want %s", got, c.want)
	}
	got := answer(c.ask(t.Context(), motos))
	if want := cmp.Or(c.moto, c.want); got != want {
		t.Errorf("moto: got %s, want %s", got, want)
	}
	if c.moto == c.want || (c.moto == "") != (c.why == "") {
		t.Errorf("a difference of moto needs what it is and why: %q %q", c.moto, c.why)
	}
}

// emulatedLikeMoto is the emulator with what motoAWS.prepare makes.
func emulatedLikeMoto(t *testing.T) aws.Config {
	t.Helper()
	cloud := emulator.New(emulator.Options{Region: "eu-central-1", Key: issuerKey()})
	cloud.AddUser(userKey, userSecret)
	if _, err := cloud.AddRole(emulator.Role{Name: "deploy", TrustPolicy: cloud.TrustGitHub("repo:acme/shop:ref:refs/heads/main")}); err != nil {
		t.Fatal(err)
	}
	cloud.AddRepository(emulator.Repository{Name: "shop"})
	cloud.AddCluster("prod")
	_, err := cloud.AddService(emulator.Service{
		Cluster: "prod", Name: "web", DesiredCount: 2,
		TaskDefinition: `{"family":"web","networkMode":"awsvpc","cpu":"256","memory":"512","requiresCompatibilities":["FARGATE"],
			"containerDefinitions":[{"name":"app","image":"123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v1","essential":true}]}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	return aws.Config{
		Region: "eu-central-1", HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
		Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// nothing is the answer that holds nothing.
const nothing = "nothing"

// answer is what was answered, or an error's HTTP status and code.
func answer(text string, err error) string {
	var api smithy.APIError
	var response *awshttp.ResponseError
	switch {
	case err == nil:
		return cmp.Or(text, nothing)
	case !errors.As(err, &api) || !errors.As(err, &response):
		return "no answer of AWS's"
	default:
		return fmt.Sprintf("%d %s", response.HTTPStatusCode(), api.ErrorCode())
	}
}

func contractsOfSTS() map[string]contract {
	return map[string]contract{
		"whose keys": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			if err != nil {
				return "", err
			}
			return *out.Account, nil
		}, want: "123456789012"},
		"a token that is none": {
			ask: func(ctx context.Context, cfg aws.Config) (string, error) {
				_, err := sts.NewFromConfig(cfg).AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
					RoleArn: aws.String("arn:aws:iam::123456789012:role/deploy"), RoleSessionName: aws.String("towline"), WebIdentityToken: aws.String("not a token"),
				})
				return "taken", err
			},
			want: "400 InvalidIdentityToken", moto: "taken", why: "moto reads no tokens",
		},
	}
}

func contractsOfECR() map[string]contract {
	repository := func(name string) func(context.Context, aws.Config) (string, error) {
		return func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecr.NewFromConfig(cfg).DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{name}})
			if err != nil {
				return "", err
			}
			r := out.Repositories[0]
			return fmt.Sprint(*r.RepositoryUri, " ", *r.RepositoryArn, " ", r.ImageTagMutability, " ", *r.RegistryId), nil
		}
	}
	images := func(name, tag string) func(context.Context, aws.Config) (string, error) {
		return func(ctx context.Context, cfg aws.Config) (string, error) {
			input := &ecr.DescribeImagesInput{RepositoryName: &name}
			if tag != "" {
				input.ImageIds = []ecrtypes.ImageIdentifier{{ImageTag: &tag}}
			}
			out, err := ecr.NewFromConfig(cfg).DescribeImages(ctx, input)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d images", len(out.ImageDetails)), nil
		}
	}
	return map[string]contract{
		"repository":         {ask: repository("shop"), want: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop arn:aws:ecr:eu-central-1:123456789012:repository/shop MUTABLE 123456789012"},
		"missing repository": {ask: repository("nope"), want: "400 RepositoryNotFoundException"},
		"token": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecr.NewFromConfig(cfg).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
			if err != nil {
				return "", err
			}
			token, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
			user, _, _ := strings.Cut(string(token), ":")
			return user + " " + *out.AuthorizationData[0].ProxyEndpoint, err
		}, want: "AWS https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"},
		"missing image":                       {ask: images("shop", "nope"), want: "400 ImageNotFoundException"},
		"image of a missing repository":       {ask: images("nope", "v1"), want: "400 RepositoryNotFoundException"},
		"repository that is to be made twice": {ask: createTwice, want: "400 RepositoryAlreadyExistsException"},
	}
}

func createTwice(ctx context.Context, cfg aws.Config) (string, error) {
	client := ecr.NewFromConfig(cfg)
	if _, err := client.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: aws.String("new")}); err != nil {
		return "", fmt.Errorf("the first time: %s", answer("", err)) //nolint:err113 // shown as it is
	}
	_, err := client.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: aws.String("new")})
	return "made twice", err
}

func contractsOfNamed() map[string]contract {
	return map[string]contract{
		"role": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := iam.NewFromConfig(cfg).GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("deploy")})
			if err != nil {
				return "", err
			}
			return *out.Role.Arn, nil
		}, want: "arn:aws:iam::123456789012:role/deploy"},
		"missing role": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := iam.NewFromConfig(cfg).GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("nope")})
			return "", err
		}, want: "404 NoSuchEntity"},
		"missing secret": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := secretsmanager.NewFromConfig(cfg).DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("prod/nope")})
			return "", err
		}, want: "400 ResourceNotFoundException", moto: "404 ResourceNotFoundException", why: "AWS documents 400"},
		"missing parameter": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ssm.NewFromConfig(cfg).DescribeParameters(ctx, &ssm.DescribeParametersInput{ParameterFilters: namedLike("/prod/nope")})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d parameters", len(out.Parameters)), nil
		}, want: "0 parameters"},
		"missing log group": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := cloudwatchlogs.NewFromConfig(cfg).DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("/nope")})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d groups", len(out.LogGroups)), nil
		}, want: "0 groups"},
		"lines of a missing log group": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := cloudwatchlogs.NewFromConfig(cfg).GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("/nope"), LogStreamName: aws.String("web/app/1")})
			return "", err
		}, want: "400 ResourceNotFoundException"},
		"health in a missing target group": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := elb.NewFromConfig(cfg).DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{
				TargetGroupArn: aws.String("arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/nope/73e2d6bc24d8a067"),
			})
			return "", err
		}, want: "400 TargetGroupNotFound"},
	}
}

func contractsOfReads() map[string]contract {
	services := func(cluster, name string) func(context.Context, aws.Config) (string, error) {
		return func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecs.NewFromConfig(cfg).DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &cluster, Services: []string{name}})
			if err != nil {
				return "", err
			}
			var found []string
			for _, s := range out.Services {
				found = append(found, fmt.Sprint(*s.ServiceName, " ", *s.Status, " ", *s.TaskDefinition, " wants ", s.DesiredCount))
			}
			return strings.Join(append(found, failures(out.Failures)...), "; "), nil
		}
	}
	return map[string]contract{
		"cluster":                      {ask: clusters("prod"), want: "prod ACTIVE"},
		"missing cluster":              {ask: clusters("nope"), want: "arn:aws:ecs:eu-central-1:123456789012:cluster/nope MISSING"},
		"service":                      {ask: services("prod", "web"), want: "web ACTIVE arn:aws:ecs:eu-central-1:123456789012:task-definition/web:1 wants 2"},
		"missing service":              {ask: services("prod", "nope"), want: "arn:aws:ecs:eu-central-1:123456789012:service/prod/nope MISSING", moto: "arn:aws:ecs:eu-central-1:123456789012:service/nope MISSING", why: "moto writes the ARNs of before 2018 here"},
		"service of a missing cluster": {ask: services("nope", "web"), want: "400 ClusterNotFoundException"},
		"missing definition": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := ecs.NewFromConfig(cfg).DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String("nope")})
			return "", err
		}, want: "400 ClientException"},
		"services": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecs.NewFromConfig(cfg).ListServices(ctx, &ecs.ListServicesInput{Cluster: aws.String("prod")})
			if err != nil {
				return "", err
			}
			return strings.Join(out.ServiceArns, " "), nil
		}, want: "arn:aws:ecs:eu-central-1:123456789012:service/prod/web"},
		"missing task": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecs.NewFromConfig(cfg).DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String("prod"), Tasks: []string{missingTask}})
			if err != nil {
				return "", err
			}
			return strings.Join(failures(out.Failures), "; "), nil
		}, want: missingTask + " MISSING", moto: nothing, why: "moto leaves out tasks that it does not know"},
		"service deployments": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecs.NewFromConfig(cfg).ListServiceDeployments(ctx, &ecs.ListServiceDeploymentsInput{Cluster: aws.String("prod"), Service: aws.String("web")})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d deployments", len(out.ServiceDeployments)), nil
		}, want: "1 deployments", moto: "no answer of AWS's", why: "moto has no service deployments"},
	}
}

const missingTask = "arn:aws:ecs:eu-central-1:123456789012:task/prod/0123456789abcdef0123456789abcdef"

func clusters(name string) func(context.Context, aws.Config) (string, error) {
	return func(ctx context.Context, cfg aws.Config) (string, error) {
		out, err := ecs.NewFromConfig(cfg).DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{name}})
		if err != nil {
			return "", err
		}
		var found []string
		for _, c := range out.Clusters {
			found = append(found, *c.ClusterName+" "+*c.Status)
		}
		return strings.Join(append(found, failures(out.Failures)...), "; "), nil
	}
}

func failures(all []ecstypes.Failure) []string {
	var out []string
	for _, f := range all {
		out = append(out, aws.ToString(f.Arn)+" "+aws.ToString(f.Reason))
	}
	return out
}

func contractsOfRefusals() map[string]contract {
	update := func(cluster, service, definition string) func(context.Context, aws.Config) (string, error) {
		return func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := ecs.NewFromConfig(cfg).UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: &cluster, Service: &service, TaskDefinition: &definition})
			return "updated", err
		}
	}
	return map[string]contract{
		"update of a missing service":         {ask: update("prod", "nope", "web:1"), want: "400 ServiceNotFoundException"},
		"update in a missing cluster":         {ask: update("nope", "web", "web:1"), want: "400 ClusterNotFoundException"},
		"update to a missing task definition": {ask: update("prod", "web", "web:99"), want: "400 ClientException"},
		"task in a missing cluster": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := ecs.NewFromConfig(cfg).RunTask(ctx, &ecs.RunTaskInput{Cluster: aws.String("nope"), TaskDefinition: aws.String("web:1")})
			return "started", err
		}, want: "400 ClusterNotFoundException"},
		"tasks of a missing cluster": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := ecs.NewFromConfig(cfg).ListTasks(ctx, &ecs.ListTasksInput{Cluster: aws.String("nope")})
			return "", err
		}, want: "400 ClusterNotFoundException"},
		"definition without containers": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			_, err := ecs.NewFromConfig(cfg).RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{Family: aws.String("empty"), ContainerDefinitions: []ecstypes.ContainerDefinition{}})
			return "registered", err
		}, want: "400 ClientException", moto: "registered", why: "moto takes it"},
	}
}

// contractsOfDefinitions follow one family from its first revision to the end.
func contractsOfDefinitions() map[string]contract {
	const life = "registered job:1 ACTIVE; registered job:2 ACTIVE; latest is 2 with job:2, 1 tag; active: job:1 job:2; job:2 is INACTIVE; "
	return map[string]contract{
		"life": {
			ask: func(ctx context.Context, cfg aws.Config) (string, error) {
				client := ecs.NewFromConfig(cfg)
				var told []string
				for _, image := range []string{"job:1", "job:2"} {
					out, err := client.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
						Family: aws.String("job"), Cpu: aws.String("256"), Memory: aws.String("512"), NetworkMode: ecstypes.NetworkModeAwsvpc,
						RequiresCompatibilities: []ecstypes.Compatibility{ecstypes.CompatibilityFargate},
						ContainerDefinitions:    []ecstypes.ContainerDefinition{{Name: aws.String("job"), Image: &image, Memory: aws.Int32(256), Essential: aws.Bool(true)}},
						Tags:                    []ecstypes.Tag{{Key: aws.String("team"), Value: aws.String("shop")}},
					})
					if err != nil {
						return "", err
					}
					told = append(told, fmt.Sprint("registered ", lastOf(*out.TaskDefinition.TaskDefinitionArn), " ", out.TaskDefinition.Status))
				}
				latest := func() error {
					out, err := client.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String("job"), Include: []ecstypes.TaskDefinitionField{ecstypes.TaskDefinitionFieldTags}})
					if err == nil {
						told = append(told, fmt.Sprint("latest is ", out.TaskDefinition.Revision, " with ", *out.TaskDefinition.ContainerDefinitions[0].Image, ", ", len(out.Tags), " tag"))
					}
					return err
				}
				list := func() error {
					out, err := client.ListTaskDefinitions(ctx, &ecs.ListTaskDefinitionsInput{FamilyPrefix: aws.String("job"), Sort: ecstypes.SortOrderDesc, Status: ecstypes.TaskDefinitionStatusActive})
					if err == nil {
						for i, arn := range out.TaskDefinitionArns {
							out.TaskDefinitionArns[i] = lastOf(arn)
						}
						slices.Sort(out.TaskDefinitionArns)
						told = append(told, "active: "+strings.Join(out.TaskDefinitionArns, " "))
					}
					return err
				}
				end := func() error {
					out, err := client.DeregisterTaskDefinition(ctx, &ecs.DeregisterTaskDefinitionInput{TaskDefinition: aws.String("job:2")})
					if err == nil {
						told = append(told, fmt.Sprint("job:2 is ", out.TaskDefinition.Status))
					}
					return err
				}
				for _, next := range []func() error{latest, list, end, latest, list} {
					if err := next(); err != nil {
						return strings.Join(told, "; "), err
					}
				}
				return strings.Join(told, "; "), nil
			}, want: life + "latest is 1 with job:1, 1 tag; active: job:1",
			moto: life + "latest is 2 with job:2, 1 tag; active: job:1", why: "moto's latest revision may be an inactive one",
		},
	}
}

func lastOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// contractsOfWrites move the service, and start and stop a task.
func contractsOfWrites(subnet string) map[string]contract {
	return map[string]contract{
		"update": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			out, err := ecs.NewFromConfig(cfg).UpdateService(ctx, &ecs.UpdateServiceInput{
				Cluster: aws.String("prod"), Service: aws.String("web"), TaskDefinition: aws.String("job:1"), DesiredCount: aws.Int32(3), ForceNewDeployment: true,
			})
			if err != nil {
				return "", err
			}
			told := fmt.Sprint("runs ", lastOf(*out.Service.TaskDefinition), ", wants ", out.Service.DesiredCount)
			for _, d := range out.Service.Deployments {
				told += fmt.Sprint("; ", *d.Status, " ", lastOf(*d.TaskDefinition), " ", strings.HasPrefix(*d.Id, "ecs-svc/"))
			}
			return told, nil
		}, want: "runs job:1, wants 3; PRIMARY job:1 true; ACTIVE web:1 true", moto: "runs job:1, wants 3; PRIMARY web:1 true", why: "moto starts the forced deployment with the revision before"},
		"task": {ask: func(ctx context.Context, cfg aws.Config) (string, error) {
			client := ecs.NewFromConfig(cfg)
			out, err := client.RunTask(ctx, &ecs.RunTaskInput{
				Cluster: aws.String("prod"), TaskDefinition: aws.String("job:1"), LaunchType: ecstypes.LaunchTypeFargate, StartedBy: aws.String("towline"),
				NetworkConfiguration: &ecstypes.NetworkConfiguration{AwsvpcConfiguration: &ecstypes.AwsVpcConfiguration{Subnets: []string{subnet}, SecurityGroups: []string{"sg-1"}}},
			})
			if err != nil {
				return "", err
			}
			arn := out.Tasks[0].TaskArn
			found, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String("prod"), Tasks: []string{*arn}})
			if err != nil {
				return "", err
			}
			task := found.Tasks[0]
			told := fmt.Sprint(lastOf(*task.TaskDefinitionArn), " by ", *task.StartedBy, ", container ", *task.Containers[0].Name)
			stopped, err := client.StopTask(ctx, &ecs.StopTaskInput{Cluster: aws.String("prod"), Task: arn, Reason: aws.String("enough")})
			if err != nil {
				return "", err
			}
			return told + fmt.Sprint(", to be ", *stopped.Task.DesiredStatus, ": ", *stopped.Task.StoppedReason), nil
		}, want: "job:1 by towline, container job, to be STOPPED: enough"},
	}
}

// namedLike is how pre-flight asks for one parameter.
func namedLike(name string) []ssmtypes.ParameterStringFilter {
	return []ssmtypes.ParameterStringFilter{{Key: aws.String("Name"), Option: aws.String("Equals"), Values: []string{name}}}
}

// subnet is one that moto has from its start.
func (m *motoAWS) subnet(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://ec2.eu-central-1.amazonaws.com/?Action=DescribeSubnets&Version=2016-11-15", nil)
	if err != nil {
		t.Fatal(err)
	}
	// By this moto knows which service is meant.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+userKey+"/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=none")
	resp, err := m.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "<subnetId>")
	id, _, found := strings.Cut(after, "</subnetId>")
	if !found {
		t.Fatalf("moto has no subnet: %s", page)
	}
	return id
}
