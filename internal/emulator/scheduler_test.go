package emulator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
)

func container(name, image string) []ecstypes.ContainerDefinition {
	return []ecstypes.ContainerDefinition{{Name: &name, Image: &image, Memory: aws.Int32(128)}}
}

// crash makes tasks of every revision but the first exit at once.
func crash(i emulator.TaskInfo) emulator.Behaviour {
	if i.Revision == 1 {
		return emulator.Behaviour{}
	}
	return emulator.Behaviour{Logs: []string{"no DATABASE_URL"}, Exit: &emulator.Exit{Code: 3}}
}

func unhealthy(i emulator.TaskInfo) emulator.Behaviour {
	if i.Revision == 1 {
		return emulator.Behaviour{}
	}
	return emulator.Behaviour{Health: emulator.Failing}
}

// kinds shortens events to what they are about, without tasks and numbers.
func kinds(s *ecstypes.Service, names map[string]string) []string {
	var out []string
	for _, message := range events(s) {
		message = strings.TrimPrefix(message, "(service web) ")
		for id, name := range names {
			message = strings.ReplaceAll(message, id, name)
		}
		message, _, _ = strings.Cut(message, ": (task")
		out = append(out, message)
	}
	return out
}

func TestBreakerRollsBack(t *testing.T) {
	t.Parallel()
	for name, behave := range map[string]func(emulator.TaskInfo) emulator.Behaviour{"crash": crash, "unhealthy": unhealthy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				w.service(t, 1, &emulator.CircuitBreaker{Enable: true, Rollback: true})
				w.Behave(behave)
				before := *w.describe(t).Deployments[0].Id
				failed := *w.deploy(t).Deployments[0].Id
				var seen []ecstypes.ServiceDeploymentStatus
				var reasons []string
				for range 120 {
					wait(t, 500*time.Millisecond)
					r := w.record(t)
					if len(seen) == 0 || seen[len(seen)-1] != r.Status {
						seen = append(seen, r.Status)
					}
					if reason := *w.describe(t).Deployments[0].RolloutStateReason; !slices.Contains(reasons, reason) {
						reasons = append(reasons, reason)
					}
				}
				if diff := cmp.Diff([]ecstypes.ServiceDeploymentStatus{"IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_SUCCESSFUL"}, seen); diff != "" {
					t.Errorf("statuses (-want +got):\n%s", diff)
				}
				wantReasons := []string{
					"ECS deployment " + failed + " in progress.",
					"ECS deployment circuit breaker: rolling back to deploymentId " + before + ".",
					"ECS deployment " + before + " completed.",
				}
				if diff := cmp.Diff(wantReasons, reasons); diff != "" {
					t.Errorf("reasons (-want +got):\n%s", diff)
				}
				r := w.record(t)
				if r.DeploymentCircuitBreaker.Status != "TRIGGERED" || r.DeploymentCircuitBreaker.FailureCount != 3 || r.Rollback == nil ||
					*r.StatusReason != "Service deployment rolled back because the circuit breaker threshold was exceeded." {
					t.Errorf("got %+v, %v, %s", r.DeploymentCircuitBreaker, r.Rollback, aws.ToString(r.StatusReason))
				}
				s := w.describe(t)
				if len(s.Deployments) != 1 || *s.Deployments[0].Id != before || !strings.HasSuffix(*s.TaskDefinition, "web:1") || s.RunningCount != 1 {
					t.Errorf("got %d deployments of %s, %d running", len(s.Deployments), *s.TaskDefinition, s.RunningCount)
				}
				got := kinds(s, map[string]string{before: "OLD", failed: "NEW"})
				want := []string{
					"(deployment NEW) deployment failed: tasks failed to start.", "rolling back to deployment OLD.",
					"(deployment OLD) deployment completed.", "has reached a steady state.",
				}
				if diff := cmp.Diff(want, got[len(got)-4:]); diff != "" {
					t.Errorf("last events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestBreakerWithoutRollback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 1, &emulator.CircuitBreaker{Enable: true})
		w.Behave(crash)
		w.deploy(t)
		wait(t, time.Minute)
		s, r := w.describe(t), w.record(t)
		if r.Status != "STOPPED" || s.Deployments[0].RolloutState != "FAILED" || s.Deployments[0].FailedTasks != 3 {
			t.Errorf("got %s, %s, %d failed tasks", r.Status, s.Deployments[0].RolloutState, s.Deployments[0].FailedTasks)
		}
		if got, want := *s.Deployments[0].RolloutStateReason, "ECS deployment circuit breaker: tasks failed to start."; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if s.RunningCount != 1 {
			t.Errorf("got %d running, want the old task", s.RunningCount)
		}
		w.Behave(nil)
		w.deploy(t)
		wait(t, time.Minute)
		if s = w.describe(t); s.Deployments[0].RolloutState != "COMPLETED" || len(s.Deployments) != 1 {
			t.Errorf("the next deployment: got %s, %d deployments", s.Deployments[0].RolloutState, len(s.Deployments))
		}
	})
}

func TestWithoutBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 1, nil)
		w.Behave(crash)
		w.deploy(t)
		wait(t, 5*time.Hour)
		s, r := w.describe(t), w.record(t)
		if r.Status != "IN_PROGRESS" || s.Deployments[0].RolloutState != "IN_PROGRESS" || s.RunningCount != 1 {
			t.Errorf("got %s, %s, %d running", r.Status, s.Deployments[0].RolloutState, s.RunningCount)
		}
		// 3 at once, then after 10, 20, 40 ... seconds, at last every 27 minutes.
		if n := s.Deployments[0].FailedTasks; n < 15 || n > 30 {
			t.Errorf("got %d failed tasks, want the pauses to grow", n)
		}
		if !slices.Contains(kinds(s, nil), "is unable to consistently start tasks successfully. For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.") {
			t.Errorf("got events %q", events(s))
		}
	})
}

func TestFailingTasks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		behave   func(emulator.TaskInfo) emulator.Behaviour
		image    string
		noGroup  bool
		stopCode ecstypes.TaskStopCode
		reason   string
		exitCode *int32
		inner    string
		logs     []string
	}{
		"exits at once": {
			behave: crash, stopCode: "EssentialContainerExited", reason: "Essential container in task exited",
			exitCode: aws.Int32(3), logs: []string{"no DATABASE_URL"},
		},
		"out of memory": {
			behave: func(emulator.TaskInfo) emulator.Behaviour {
				return emulator.Behaviour{Exit: &emulator.Exit{
					After: 10 * time.Millisecond, Code: 137, Reason: "OutOfMemoryError: Container killed due to memory usage",
				}}
			},
			stopCode: "EssentialContainerExited", reason: "Essential container in task exited", exitCode: aws.Int32(137),
			inner: "OutOfMemoryError: Container killed due to memory usage",
		},
		"image missing": {
			image: "123456789012.dkr.ecr.us-east-1.amazonaws.com/web:gone", stopCode: "TaskFailedToStart",
			reason: "CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref 123456789012.dkr.ecr.us-east-1.amazonaws.com/web:gone: " +
				"123456789012.dkr.ecr.us-east-1.amazonaws.com/web:gone: not found",
		},
		"health checks": {behave: unhealthy, stopCode: "ServiceSchedulerInitiated", reason: "Task failed container health checks", exitCode: aws.Int32(143)},
		"no log group": {
			image: "docker.io/library/web:2", noGroup: true, stopCode: "TaskFailedToStart",
			reason: "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: " +
				"failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1",
		},
		"no secret": {
			behave: func(emulator.TaskInfo) emulator.Behaviour {
				return emulator.Behaviour{FailToStart: "ResourceInitializationError: unable to pull secrets or registry auth: no such secret"}
			},
			stopCode: "TaskFailedToStart", reason: "ResourceInitializationError: unable to pull secrets or registry auth: no such secret",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				w.AddRepository(emulator.Repository{Name: "web"})
				w.service(t, 1, nil)
				w.Behave(tt.behave)
				doc := webV1
				if tt.image != "" {
					doc = strings.Replace(doc, "docker.io/library/web:1", tt.image, 1)
				}
				if tt.noGroup {
					doc = strings.Replace(doc, `"/app"`, `"/other"`, 1)
				}
				arn, err := w.RegisterTaskDefinition(doc)
				if err != nil {
					t.Fatal(err)
				}
				updated, err := w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web"), TaskDefinition: &arn})
				if err != nil {
					t.Fatal(err)
				}
				wait(t, 8*time.Second)
				task := w.stopped(t, *updated.Service.Deployments[0].Id)
				if task.StopCode != tt.stopCode || *task.StoppedReason != tt.reason {
					t.Errorf("got %s: %s\nwant %s: %s", task.StopCode, *task.StoppedReason, tt.stopCode, tt.reason)
				}
				k := task.Containers[0]
				if diff := cmp.Diff(tt.exitCode, k.ExitCode); diff != "" {
					t.Errorf("exit code (-want +got):\n%s", diff)
				}
				if aws.ToString(k.Reason) != tt.inner {
					t.Errorf("got container reason %q, want %q", aws.ToString(k.Reason), tt.inner)
				}
				if tt.logs != nil {
					id := (*task.TaskArn)[strings.LastIndex(*task.TaskArn, "/")+1:]
					if diff := cmp.Diff(tt.logs, w.tail(t, "web/web/"+id)); diff != "" {
						t.Errorf("logs (-want +got):\n%s", diff)
					}
				}
			})
		})
	}
}

// stopped describes the first task of a deployment that stopped.
func (w *world) stopped(t *testing.T, deployment string) ecstypes.Task {
	t.Helper()
	list, err := w.ecs.ListTasks(t.Context(), &ecs.ListTasksInput{
		Cluster: aws.String("shop"), ServiceName: aws.String("web"), DesiredStatus: ecstypes.DesiredStatusStopped,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.TaskArns) == 0 {
		t.Fatal("no task stopped")
	}
	out, err := w.ecs.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Cluster: aws.String("shop"), Tasks: list.TaskArns})
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range out.Tasks {
		if *task.StartedBy == deployment {
			return task
		}
	}
	t.Fatal("no task of the deployment stopped")
	return ecstypes.Task{}
}

func (w *world) tail(t *testing.T, stream string) []string {
	t.Helper()
	out, err := w.logs.GetLogEvents(t.Context(), &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: aws.String("/app"), LogStreamName: &stream, StartFromHead: aws.Bool(false), Limit: aws.Int32(50),
	})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range out.Events {
		lines = append(lines, *e.Message)
	}
	return lines
}

func TestSuperseded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 2, nil)
		w.deploy(t)
		wait(t, 2*time.Second)
		first := w.record(t)
		w.deploy(t)
		wait(t, time.Minute)
		out, err := w.ecs.DescribeServiceDeployments(t.Context(), &ecs.DescribeServiceDeploymentsInput{
			ServiceDeploymentArns: []string{*first.ServiceDeploymentArn, *w.record(t).ServiceDeploymentArn},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := []ecstypes.ServiceDeploymentStatus{out.ServiceDeployments[0].Status, out.ServiceDeployments[1].Status}
		if diff := cmp.Diff([]ecstypes.ServiceDeploymentStatus{"STOPPED", "SUCCESSFUL"}, got); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
		if s := w.describe(t); !strings.HasSuffix(*s.TaskDefinition, "web:3") || s.RunningCount != 2 {
			t.Errorf("got %s with %d running", *s.TaskDefinition, s.RunningCount)
		}
	})
}

func TestStopServiceDeployment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 2, nil)
		w.Behave(func(i emulator.TaskInfo) emulator.Behaviour {
			if i.Revision > 1 {
				return emulator.Behaviour{Health: emulator.Undecided}
			}
			return emulator.Behaviour{}
		})
		w.deploy(t)
		wait(t, time.Minute)
		arn := w.record(t).ServiceDeploymentArn
		if _, err := w.ecs.StopServiceDeployment(t.Context(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: arn, StopType: "ROLLBACK"}); err != nil {
			t.Fatal(err)
		}
		if got := w.record(t).Status; got != "ROLLBACK_REQUESTED" {
			t.Errorf("got %s, want ROLLBACK_REQUESTED", got)
		}
		wait(t, time.Minute)
		if got := w.record(t).Status; got != "ROLLBACK_SUCCESSFUL" {
			t.Errorf("got %s, want ROLLBACK_SUCCESSFUL", got)
		}
		_, err := w.ecs.StopServiceDeployment(t.Context(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: arn, StopType: "ROLLBACK"})
		wantCode(t, err, "ConflictException", "")
		if s := w.describe(t); !strings.HasSuffix(*s.TaskDefinition, "web:1") || s.RunningCount != 2 || len(s.Deployments) != 1 {
			t.Errorf("got %s with %d running, %d deployments", *s.TaskDefinition, s.RunningCount, len(s.Deployments))
		}
	})
}

// TestBounds watches that a rollout stays within minimum and maximum.
func TestBounds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ desired, least, most, wantLow, wantHigh int }{
		"100 to 200": {desired: 4, least: 100, most: 200, wantLow: 4, wantHigh: 8},
		"100 to 150": {desired: 4, least: 100, most: 150, wantLow: 4, wantHigh: 6},
		"50 to 100":  {desired: 4, least: 50, most: 100, wantLow: 2, wantHigh: 4},
		"0 to 100":   {desired: 1, least: 0, most: 100, wantLow: 0, wantHigh: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				if _, err := w.AddService(emulator.Service{
					Cluster: "shop", Name: "web", TaskDefinition: webV1, DesiredCount: tt.desired,
					MinimumHealthyPercent: &tt.least, MaximumPercent: &tt.most,
				}); err != nil {
					t.Fatal(err)
				}
				w.deploy(t)
				low, high := tt.desired, 0
				for range 400 {
					wait(t, 100*time.Millisecond)
					s := w.describe(t)
					low, high = min(low, int(s.RunningCount)), max(high, int(s.RunningCount+s.PendingCount))
				}
				if low != tt.wantLow || high != tt.wantHigh {
					t.Errorf("got %d to %d tasks, want %d to %d", low, high, tt.wantLow, tt.wantHigh)
				}
				if s := w.describe(t); s.Deployments[0].RolloutState != "COMPLETED" {
					t.Errorf("got %s", s.Deployments[0].RolloutState)
				}
			})
		})
	}
}

func TestStuckBetweenBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		if _, err := w.AddService(emulator.Service{
			Cluster: "shop", Name: "web", TaskDefinition: webV1, DesiredCount: 1, MaximumPercent: aws.Int(100),
		}); err != nil {
			t.Fatal(err)
		}
		w.deploy(t)
		wait(t, time.Minute)
		got := events(w.describe(t))
		if want := "(service web) was unable to stop or start tasks during a deployment because of the service deployment configuration. " +
			"Update the minimumHealthyPercent or maximumPercent value and try again."; got[len(got)-1] != want {
			t.Errorf("got %q", got)
		}
	})
}

func TestUpdateService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 1, nil)
		update := func(in ecs.UpdateServiceInput) (*ecs.UpdateServiceOutput, error) {
			in.Cluster = aws.String("shop")
			if in.Service == nil {
				in.Service = aws.String("web")
			}
			return w.ecs.UpdateService(t.Context(), &in)
		}
		before := *w.describe(t).Deployments[0].Id

		same, err := update(ecs.UpdateServiceInput{TaskDefinition: aws.String("web:1")})
		if err != nil || *same.Service.Deployments[0].Id != before {
			t.Errorf("same definition: %v, want no new deployment", err)
		}
		scaled, err := update(ecs.UpdateServiceInput{DesiredCount: aws.Int32(3)})
		if err != nil || *scaled.Service.Deployments[0].Id != before || scaled.Service.DesiredCount != 3 {
			t.Errorf("scaling: %v, want no new deployment", err)
		}
		wait(t, 10*time.Second)
		if got := w.describe(t).RunningCount; got != 3 {
			t.Errorf("got %d running, want 3", got)
		}
		forced, err := update(ecs.UpdateServiceInput{ForceNewDeployment: true})
		if err != nil || *forced.Service.Deployments[0].Id == before {
			t.Errorf("forced: %v, want a new deployment", err)
		}
		_, err = update(ecs.UpdateServiceInput{TaskDefinition: aws.String("web:9")})
		wantCode(t, err, "ClientException", "TaskDefinition not found.")
		if _, err = w.ecs.DeregisterTaskDefinition(t.Context(), &ecs.DeregisterTaskDefinitionInput{TaskDefinition: aws.String("web:1")}); err != nil {
			t.Fatal(err)
		}
		_, err = update(ecs.UpdateServiceInput{TaskDefinition: aws.String("web:1")})
		wantCode(t, err, "ClientException", "TaskDefinition is inactive")
		_, err = update(ecs.UpdateServiceInput{Service: aws.String("none")})
		wantCode(t, err, "ServiceNotFoundException", "Service not found.")
		_, err = w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("none"), Service: aws.String("web")})
		wantCode(t, err, "ClusterNotFoundException", "Cluster not found.")
		out, err := w.ecs.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("shop"), Services: []string{"none"}})
		if err != nil || len(out.Failures) != 1 || *out.Failures[0].Reason != "MISSING" {
			t.Errorf("got %v, %v, want a failure MISSING", out, err)
		}
	})
}

// TestRevisionProvesDigest pushes an image, deploys it by tag, and reads its
// digest from the service revision and the tasks.
func TestRevisionProvesDigest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 1, nil)
		uri := w.AddRepository(emulator.Repository{Name: "web"})
		img := appImage(t, 1)
		if err := remote.Write(mustParse(t, uri+":1"), img, w.remote(t, w.login(t))...); err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		arn, err := w.RegisterTaskDefinition(strings.Replace(webV1, "docker.io/library/web:1", fmt.Sprintf("%s:1@%s", uri, digest), 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.ecs.UpdateService(t.Context(), &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web"), TaskDefinition: &arn}); err != nil {
			t.Fatal(err)
		}
		wait(t, time.Minute)
		r := w.record(t)
		if r.Status != "SUCCESSFUL" {
			t.Fatalf("got %s, events %q", r.Status, events(w.describe(t)))
		}
		out, err := w.ecs.DescribeServiceRevisions(t.Context(), &ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{*r.TargetServiceRevision.Arn}})
		if err != nil {
			t.Fatal(err)
		}
		if got := *out.ServiceRevisions[0].ContainerImages[0].ImageDigest; got != digest.String() {
			t.Errorf("got %s, want %s", got, digest)
		}
	})
}
