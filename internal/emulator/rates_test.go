package emulator_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/towline/towline/internal/emulator"
)

// A hundred reads of services are allowed at once, and twenty more each second.
func TestRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := emulator.New(emulator.Options{Rates: true})
		cloud.AddUser("AKIDEXAMPLE", "secret")
		cloud.AddCluster("prod")
		client := ecs.New(ecs.Options{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
			HTTPClient: &http.Client{Transport: cloud.RoundTripper()}, Retryer: aws.NopRetryer{},
		})
		passes := func() (n int) {
			for range 150 {
				if _, err := client.ListServices(t.Context(), &ecs.ListServicesInput{Cluster: aws.String("prod")}); err == nil {
					n++
				}
			}
			return n
		}
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 100}, {0, 0}, {time.Second, 20}, {500 * time.Millisecond, 10}, {time.Hour, 100}} {
			<-time.After(step.after)
			if got := passes(); got != step.want {
				t.Errorf("after %s more %d calls were let through, want %d", step.after, got, step.want)
			}
		}
		if _, err := client.ListClusters(t.Context(), &ecs.ListClustersInput{}); err != nil {
			t.Errorf("a call of another kind: %v", err)
		}
	})
}
