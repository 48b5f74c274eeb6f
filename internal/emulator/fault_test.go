package emulator_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
)

func TestFaultCodes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind        emulator.FaultKind
		ecs, sts    string
		registry    int
		registryErr string
	}{
		"throttled":   {kind: emulator.Throttle, ecs: "ThrottlingException", sts: "Throttling", registry: 429, registryErr: "TOOMANYREQUESTS"},
		"unavailable": {kind: emulator.Unavailable, ecs: "ServiceUnavailableException", sts: "ServiceUnavailable", registry: 503, registryErr: "UNAVAILABLE"},
		"internal":    {kind: emulator.Internal, ecs: "ServerException", sts: "InternalFailure", registry: 500, registryErr: "UNKNOWN"},
		"denied":      {kind: emulator.Denied, ecs: "AccessDeniedException", sts: "AccessDenied", registry: 403, registryErr: "DENIED"},
		"expired":     {kind: emulator.Expired, ecs: "ExpiredTokenException", sts: "ExpiredToken", registry: 403, registryErr: "DENIED"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(emulator.Options{})
			w.service(t, 1, nil)
			uri := w.AddRepository(emulator.Repository{Name: "web"})
			auth := w.login(t)
			for _, service := range []string{"ecs", "sts", "registry"} {
				w.Fail(emulator.Fault{Service: service, Kind: tt.kind})
			}
			_, err := w.ecs.ListServices(t.Context(), &ecs.ListServicesInput{Cluster: aws.String("shop")})
			wantCode(t, err, tt.ecs, "")
			_, err = w.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			wantCode(t, err, tt.sts, "")
			_, err = remote.Get(mustParse(t, uri+":1"), w.remote(t, auth)...)
			wantRegistry(t, err, tt.registry, tt.registryErr, "")
		})
	}
}

// TestFaultsOnConnection breaks connections, in process and over a socket.
func TestFaultsOnConnection(t *testing.T) {
	t.Parallel()
	for name, socket := range map[string]bool{"round tripper": false, "socket": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(emulator.Options{})
			w.service(t, 1, nil)
			cfg := aws.Config{
				Region: "us-east-1", HTTPClient: &http.Client{Transport: w.RoundTripper()}, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
				Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
			}
			if socket {
				server := httptest.NewServer(w.Cloud)
				t.Cleanup(server.Close)
				cfg.HTTPClient, cfg.BaseEndpoint = server.Client(), &server.URL
			}
			w.ecs = newECS(cfg)
			force := &ecs.UpdateServiceInput{Cluster: aws.String("shop"), Service: aws.String("web"), ForceNewDeployment: true}

			w.Fail(emulator.Fault{Service: "ecs", Action: "UpdateService", Kind: emulator.Reset})
			if _, err := w.ecs.UpdateService(t.Context(), force); !broken(err) {
				t.Errorf("reset: got %v", err)
			}
			if n := len(w.describe(t).Deployments); n != 1 {
				t.Errorf("reset: got %d deployments, want the update not to be carried out", n)
			}
			w.Fail(emulator.Fault{Service: "ecs", Action: "Update*", Kind: emulator.Lost})
			if _, err := w.ecs.UpdateService(t.Context(), force); !broken(err) {
				t.Errorf("lost: got %v", err)
			}
			if n := len(w.describe(t).Deployments); n != 2 {
				t.Errorf("lost: got %d deployments, want the update to be carried out", n)
			}
			w.Fail(emulator.Fault{Action: "DescribeServices", Kind: emulator.CutAnswer, Bytes: 20})
			if _, err := w.ecs.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Cluster: aws.String("shop"), Services: []string{"web"}}); err == nil {
				t.Error("cut answer: got no error")
			}
			w.describe(t)
		})
	}
}

// broken reports an error of the connection rather than of the service.
func broken(err error) bool {
	return err != nil && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
}

// TestTruncatedUpload cuts an upload; the client begins anew and succeeds.
func TestTruncatedUpload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		uri := w.AddRepository(emulator.Repository{Name: "web"})
		w.Fail(emulator.Fault{Service: "registry", Action: "PATCH upload", Kind: emulator.CutRequest, Bytes: 100})
		img := appImage(t, 1)
		auth := w.login(t)
		err := remote.Write(mustParse(t, uri+":1"), img,
			remote.WithTransport(w.RoundTripper()), remote.WithAuth(auth), remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		cut := slices.ContainsFunc(w.Called("registry", "PATCH upload"), func(c emulator.Call) bool { return c.Bytes == 100 && c.Status == 0 })
		if !cut {
			t.Error("got no cut upload in the journal")
		}
		pulled, err := remote.Image(mustParse(t, uri+":1"), w.remote(t, auth)...)
		if err != nil {
			t.Fatal(err)
		}
		compareLayers(t, pulled, img)
	})
}

// TestThrottledRetries shows that the SDK's own retries get through, on virtual time.
func TestThrottledRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		w.service(t, 1, nil)
		w.ecs = newECS(aws.Config{
			Region: "us-east-1", HTTPClient: &http.Client{Transport: w.RoundTripper()},
			Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
			Retryer:     func() aws.Retryer { return retry.NewStandard() },
		})
		w.Fail(emulator.Fault{Service: "ecs", Kind: emulator.Throttle, Times: 2})
		w.describe(t)
		var codes []string
		for _, call := range w.Called("ecs", "DescribeServices") {
			codes = append(codes, call.ErrorCode)
		}
		if diff := cmp.Diff([]string{"ThrottlingException", "ThrottlingException", ""}, codes); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

// TestTaskDefinitionRoundTrip registers members that the SDK does not know and
// reads them back from the wire.
func TestTaskDefinitionRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(emulator.Options{})
	arn, err := w.RegisterTaskDefinition(webV1)
	if err != nil {
		t.Fatal(err)
	}
	var wire []byte
	spy := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, failure := w.RoundTripper().RoundTrip(req)
		if failure == nil {
			wire, failure = io.ReadAll(resp.Body)
			resp.Body = io.NopCloser(strings.NewReader(string(wire)))
		}
		return resp, failure
	})
	client := newECS(aws.Config{
		Region: "us-east-1", HTTPClient: &http.Client{Transport: spy},
		Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
	})
	out, err := client.DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Tags) != 0 {
		t.Errorf("got tags without asking for them")
	}
	out, err = client.DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String("web"), Include: []ecstypes.TaskDefinitionField{ecstypes.TaskDefinitionFieldTags}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Tags) != 1 || *out.Tags[0].Value != "shop" || out.TaskDefinition.Revision != 1 {
		t.Errorf("got tags %v, revision %d", out.Tags, out.TaskDefinition.Revision)
	}
	var got struct {
		TaskDefinition struct {
			SomeFutureField      any
			ContainerDefinitions []struct{ FutureMember any }
		}
	}
	if err := json.Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(map[string]any{"deep": true}), got.TaskDefinition.SomeFutureField); diff != "" {
		t.Errorf("someFutureField (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(any(map[string]any{"a": []any{1.0, "x"}}), got.TaskDefinition.ContainerDefinitions[0].FutureMember); diff != "" {
		t.Errorf("futureMember (-want +got):\n%s", diff)
	}
}

func TestRegisterRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ doc, want string }{
		"no family":     {`{"containerDefinitions":[{"name":"a","image":"b"}]}`, "Family cannot be null or empty."},
		"no containers": {`{"family":"a"}`, "Container list cannot be empty."},
		"no name":       {`{"family":"a","containerDefinitions":[{"image":"b"}]}`, "Container.name should not be null or empty."},
		"no image":      {`{"family":"a","containerDefinitions":[{"name":"b"}]}`, "Container.image should not be null or empty."},
		"twice":         {`{"family":"a","containerDefinitions":[{"name":"b","image":"c"},{"name":"b","image":"c"}]}`, "must be unique"},
		"no essential":  {`{"family":"a","containerDefinitions":[{"name":"b","image":"c","essential":false}]}`, "essential"},
		"no memory":     {`{"family":"a","containerDefinitions":[{"name":"b","image":"c"}]}`, "At least one of 'memory' or 'memoryReservation' must be specified."},
		"fargate":       {`{"family":"a","requiresCompatibilities":["FARGATE"],"containerDefinitions":[{"name":"b","image":"c"}]}`, "Fargate requires task definition to have 'cpu' defined."},
		"too large":     {`{"family":"a","containerDefinitions":[{"name":"b","image":"c","x":"` + strings.Repeat("x", 65536) + `"}]}`, "the maximum is 65536 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := emulator.New(emulator.Options{}).RegisterTaskDefinition(tt.doc)
			if err == nil || !strings.Contains(err.Error(), "ClientException") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestSameSeedSameWorld runs the same rollout twice and compares what the
// service says.
func TestSameSeedSameWorld(t *testing.T) {
	t.Parallel()
	var runs [2][]string
	for i := range runs {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(emulator.Options{Seed: 7})
			w.service(t, 3, &emulator.CircuitBreaker{Enable: true, Rollback: true})
			w.Behave(crash)
			w.deploy(t)
			wait(t, time.Minute)
			runs[i] = events(w.describe(t))
		})
	}
	if diff := cmp.Diff(runs[0], runs[1]); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
}
