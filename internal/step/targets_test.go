package step_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/towline/towline/internal/emulator"
)

// One image goes to the same service in another region, and in another account,
// whose role is assumed from the step's session.
func TestTargets(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		broken bool
		code   int
		status string
		runs   string // in each region
		says   []string
	}{
		"all well": {status: "succeeded", runs: "web:2", says: []string{"eu-west-1", "us-east-1", "210987654321"}},
		"one crashes": {
			broken: true, code: 1, status: "rolled-back", runs: "web:1",
			says: []string{"us-east-1", "container app ended with exit code 2", "panic: DATABASE_URL is not set"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				t.Helper()
				a := newAtlas(t)
				if test.broken {
					a.regions["us-east-1"].Behave(func(i emulator.TaskInfo) emulator.Behaviour {
						if i.Revision == 1 {
							return emulator.Behaviour{}
						}
						return emulator.Behaviour{Logs: []string{"panic: DATABASE_URL is not set"}, Exit: &emulator.Exit{Code: 2}}
					})
				}
				if code := a.run(t); code != test.code {
					t.Errorf("got exit code %d, want %d:\n%s", code, test.code, a.log.String())
				}
				for _, text := range test.says {
					if !strings.Contains(a.log.String(), text) {
						t.Errorf("the log does not say %q:\n%s", text, a.log.String())
					}
				}
				outputs, err := os.ReadFile(a.env["GITHUB_OUTPUT"])
				if err != nil {
					t.Fatal(err)
				}
				if !regexp.MustCompile(`(?m)^deployment-status<<\S+\n` + test.status + `$`).Match(outputs) {
					t.Errorf("got the outputs\n%s\nwant the status %s in them", outputs, test.status)
				}
				for region := range a.regions {
					if got := a.runs(t, region); got != test.runs {
						t.Errorf("%s: the service runs %s, want %s", region, got, test.runs)
					}
				}
			})
		})
	}
}

// atlas is an account with two regions, and another account in a third.
type atlas struct {
	*world
	regions map[string]*emulator.Cloud
}

func newAtlas(t *testing.T) *atlas {
	t.Helper()
	dir := t.TempDir()
	definition := strings.Replace(runs, "123456789012.dkr.ecr.eu-central-1.amazonaws.com", "registry.example.com", 1)
	a := &atlas{world: newWorld(t, environment(dir, filepath.Join(dir, "workspace")), "", definition)}
	a.regions = map[string]*emulator.Cloud{
		"eu-central-1": a.cloud,
		"eu-west-1":    emulator.New(emulator.Options{Region: "eu-west-1", Key: issuerKey()}),
		"us-east-1":    emulator.New(emulator.Options{Region: "us-east-1", Account: "210987654321", Key: issuerKey()}),
	}
	for region, cloud := range a.regions {
		if region == "eu-central-1" {
			continue
		}
		cloud.AddUser(userKey, userSecret)
		cloud.AddLogGroup("/prod/web")
		_, err := cloud.AddService(emulator.Service{
			Cluster: "prod", Name: "web", TaskDefinition: strings.ReplaceAll(definition, "eu-central-1", region), DesiredCount: 1,
			CircuitBreaker: &emulator.CircuitBreaker{Enable: true, Rollback: true},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	trust, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::210987654321:root"}, "Action": []string{"sts:AssumeRole", "sts:TagSession"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.regions["us-east-1"].AddRole(emulator.Role{Name: "deploy", TrustPolicy: string(trust)}); err != nil {
		t.Fatal(err)
	}
	a.through = roundTrip(func(req *http.Request) (*http.Response, error) {
		for region, cloud := range a.regions {
			if strings.Contains(req.URL.Host, region) {
				return cloud.RoundTripper().RoundTrip(req)
			}
		}
		return a.cloud.RoundTripper().RoundTrip(req)
	})
	for name, value := range map[string]string{
		"aws-region": "eu-central-1", "aws-access-key-id": userKey, "aws-secret-access-key": userSecret, "cluster": "prod",
		"container-name": "app", "image": "registry.example.com/shop:v2",
		"targets": `
- service: web
- {region: eu-west-1, service: web}
- {region: us-east-1, service: web, role: "arn:aws:iam::210987654321:role/deploy"}
`,
	} {
		a.env["INPUT_"+strings.ToUpper(name)] = value
	}
	return a
}

// runs is what the service runs in a region: "web:2".
func (a *atlas) runs(t *testing.T, region string) string {
	t.Helper()
	client := ecs.New(ecs.Options{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
		HTTPClient: &http.Client{Transport: a.regions[region].RoundTripper()},
	})
	out, err := client.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("prod"), Services: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	arn := aws.ToString(out.Services[0].TaskDefinition)
	return arn[strings.LastIndex(arn, "/")+1:]
}
