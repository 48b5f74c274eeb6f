package registry

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/emulator"
)

// TestHostsOnTheWire pushes to and pulls from each kind of host that ECR has, and
// looks at who was asked: a host stays as it was written, and the API is that of
// its region, in the form that the session wants.
func TestHostsOnTheWire(t *testing.T) {
	t.Parallel()
	const account = "123456789012.dkr"
	tests := map[string]struct {
		host, region string
		session      config.EnvConfig
		api, bucket  string
	}{
		"standard":       {host: account + ".ecr.us-east-1.amazonaws.com", region: "us-east-1", api: "api.ecr.us-east-1.amazonaws.com", bucket: "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"},
		"other region":   {host: account + ".ecr.eu-west-3.amazonaws.com", region: "eu-west-3", api: "api.ecr.eu-west-3.amazonaws.com", bucket: "prod-eu-west-3-starport-layer-bucket.s3.eu-west-3.amazonaws.com"},
		"FIPS":           {host: account + ".ecr-fips.us-east-1.amazonaws.com", region: "us-east-1", api: "api.ecr.us-east-1.amazonaws.com", bucket: "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"},
		"dual-stack":     {host: account + "-ecr.us-east-1.on.aws", region: "us-east-1", api: "api.ecr.us-east-1.amazonaws.com", bucket: "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"},
		"both":           {host: account + "-ecr-fips.us-east-1.on.aws", region: "us-east-1", api: "api.ecr.us-east-1.amazonaws.com", bucket: "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"},
		"FIPS API":       {host: account + ".ecr-fips.us-east-1.amazonaws.com", region: "us-east-1", session: config.EnvConfig{UseFIPSEndpoint: aws.FIPSEndpointStateEnabled}, api: "api.ecr-fips.us-east-1.amazonaws.com", bucket: "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"},
		"dual-stack API": {host: account + "-ecr.us-east-1.on.aws", region: "us-east-1", session: config.EnvConfig{UseDualStackEndpoint: aws.DualStackEndpointStateEnabled}, api: "ecr.us-east-1.api.aws", bucket: "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				a.AddRepository(emulator.Repository{Name: "app", Region: test.region})
				var mu sync.Mutex
				asked := map[string]bool{}
				transport := roundTrip(func(req *http.Request) (*http.Response, error) {
					mu.Lock()
					asked[req.URL.Host] = true
					mu.Unlock()
					return a.RoundTripper().RoundTrip(req)
				})
				connect := func() *Client {
					return New(Options{Transport: transport, CacheDir: t.TempDir(), ECR: NewECR(aws.Config{
						Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
						HTTPClient: &http.Client{Transport: transport}, ConfigSources: []any{test.session},
					})})
				}
				uri := test.host + "/app"
				client := connect()
				if target := client.Targets(t.Context(), []string{uri})[0]; target.Err != nil || target.URI != uri || target.Settings == nil {
					t.Fatalf("Targets: %+v", target)
				}
				if err := client.Probe(t.Context(), uri); err != nil {
					t.Fatal(err)
				}
				must[*Pushed](t)(client.Push(t.Context(), image(t, 1, ""), []string{uri + ":1"}))
				got := must[*Image](t)(connect().Resolve(t.Context(), uri+":1", amd64))
				if err := validate.Image(got.Image); err != nil {
					t.Error(err)
				}
				want := []string{test.api, test.bucket, test.host}
				slices.Sort(want)
				if diff := cmp.Diff(slices.Sorted(maps.Keys(asked)), want); diff != "" {
					t.Errorf("hosts that were asked (-got +want):\n%s", diff)
				}
			})
		})
	}
}

// TestOnePasswordForARegion: registries of several accounts in a region share a
// password, and those of another region have their own.
func TestOnePasswordForARegion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		refs := []string{
			a.AddRepository(emulator.Repository{Name: "app"}) + ":1",
			a.AddRepository(emulator.Repository{Name: "app", Account: "210987654321"}) + ":1",
			a.AddRepository(emulator.Repository{Name: "app", Region: "eu-west-1"}) + ":1",
		}
		const policy = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "ecr:*"}]}`
		if err := a.SetRepositoryPolicy("210987654321.dkr.ecr.us-east-1.amazonaws.com/app", policy); err != nil {
			t.Fatal(err)
		}
		must[*Pushed](t)(a.client.Push(t.Context(), image(t, 2, ""), refs))
		if n := len(a.Called("ecr", "GetAuthorizationToken")); n != 2 {
			t.Errorf("%d passwords were asked for, want one for each region", n)
		}
	})
}
