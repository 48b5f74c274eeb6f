package emulator_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
)

// armImage is an image for arm64 that starts /app.
func armImage(t *testing.T) v1.Image {
	t.Helper()
	img := appImage(t, 1)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config.Entrypoint = "linux", "arm64", []string{"/app"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestWrongArchitecture(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		index      bool
		platform   string
		wantReason string
		wantCode   *int32
	}{
		"image":          {wantReason: "Essential container in task exited", wantCode: aws.Int32(255)},
		"index":          {index: true, wantReason: "CannotPullContainerError: pull image manifest has been retried 7 time(s): image Manifest does not contain descriptor matching platform 'linux/amd64'"},
		"image as wants": {platform: `"runtimePlatform":{"cpuArchitecture":"ARM64"},`},
		"index as wants": {index: true, platform: `"runtimePlatform":{"cpuArchitecture":"ARM64"},`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				w.service(t, 1, nil)
				uri := w.AddRepository(emulator.Repository{Name: "web"})
				img := armImage(t)
				var err error
				if tt.index {
					arm := v1.Platform{OS: "linux", Architecture: "arm64"}
					index := mutate.AppendManifests(mutate.RemoveManifests(emptyIndex(t), func(v1.Descriptor) bool { return true }),
						mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &arm}})
					err = remote.WriteIndex(mustParse(t, uri+":1"), index, w.remote(t, w.login(t))...)
				} else {
					err = remote.Write(mustParse(t, uri+":1"), img, w.remote(t, w.login(t))...)
				}
				if err != nil {
					t.Fatal(err)
				}
				doc := strings.Replace(webV1, "docker.io/library/web:1", uri+":1", 1)
				arn, err := w.RegisterTaskDefinition(strings.Replace(doc, "{", "{"+tt.platform, 1))
				if err != nil {
					t.Fatal(err)
				}
				out, err := w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web"), TaskDefinition: &arn})
				if err != nil {
					t.Fatal(err)
				}
				wait(t, 10*time.Second)
				if tt.wantReason == "" {
					if got := w.record(t).Status; got != "SUCCESSFUL" {
						t.Errorf("got %s: %q", got, events(w.describe(t)))
					}
					return
				}
				task := w.stopped(t, *out.Service.Deployments[0].Id)
				if *task.StoppedReason != tt.wantReason {
					t.Errorf("got %q, want %q", *task.StoppedReason, tt.wantReason)
				}
				if diff := cmp.Diff(tt.wantCode, task.Containers[0].ExitCode); diff != "" {
					t.Errorf("exit code (-want +got):\n%s", diff)
				}
				if tt.wantCode != nil {
					id := (*task.TaskArn)[strings.LastIndex(*task.TaskArn, "/")+1:]
					if diff := cmp.Diff([]string{"exec /app: exec format error"}, w.LogLines("/app", "web/web/"+id)); diff != "" {
						t.Errorf("logs (-want +got):\n%s", diff)
					}
				}
			})
		})
	}
}

func TestLoadBalancer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const group = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/73e2d6bc24d8a067"
		w := newWorld(emulator.Options{})
		settings, err := json.Marshal(map[string]any{"loadBalancers": []any{map[string]any{"targetGroupArn": group, "containerName": "web", "containerPort": 80}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.AddService(emulator.Service{Cluster: "shop", Name: "web", TaskDefinition: webV1, DesiredCount: 1, Settings: string(settings)}); err != nil {
			t.Fatal(err)
		}
		id := *w.deploy(t).Deployments[0].Id
		wait(t, 20*time.Second)
		want := []string{
			"has reached a steady state.", "has started 1 tasks", "registered 1 targets in (target-group " + group + ")",
			"deregistered 1 targets in (target-group " + group + ")", "has stopped 1 running tasks",
			"(deployment " + id + ") deployment completed.", "has reached a steady state.",
		}
		if diff := cmp.Diff(want, kinds(w.describe(t), nil)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		w.Behave(unhealthy)
		id = *w.deploy(t).Deployments[0].Id
		wait(t, 10*time.Second)
		if got, want := *w.stopped(t, id).StoppedReason, "Task failed ELB health checks in (target-group "+group+")"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestOtherServices(t *testing.T) {
	t.Parallel()
	w := newWorld(emulator.Options{})
	for name, settings := range map[string]string{
		"gone":  `{"status":"INACTIVE"}`,
		"green": `{"deploymentController":{"type":"CODE_DEPLOY"}}`,
	} {
		if _, err := w.AddService(emulator.Service{Cluster: "shop", Name: name, TaskDefinition: webV1, DesiredCount: 1, Settings: settings}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("gone")})
	wantCode(t, err, "ServiceNotActiveException", "Service was not ACTIVE.")
	_, err = w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("green"), TaskDefinition: aws.String("web")})
	wantCode(t, err, "InvalidParameterException", "Unable to update task definition on services with a CODE_DEPLOY deployment controller.")
	out, err := w.ecs.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("shop"), Services: []string{"green"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := out.Services[0]; len(s.Deployments) != 0 || len(s.TaskSets) != 1 || *s.TaskSets[0].Status != "PRIMARY" {
		t.Errorf("got %d deployments and task sets %+v, want one PRIMARY task set under CODE_DEPLOY", len(s.Deployments), s.TaskSets)
	}
}
