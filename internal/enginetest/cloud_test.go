package enginetest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
)

// cloud is an emulated account at an address that containers reach, with a role
// that this repository's jobs may assume, a repository, and a service that runs.
type cloud struct {
	*emulator.Cloud
	url  string
	role string
}

const (
	// oldImage is what the service runs before.
	oldImage = "example.invalid/shop:old"
	// roleName stands in an input, which no RUN may see.
	roleName = "input-that-no-run-may-see"
)

func newCloud(t *testing.T, e *engine) *cloud {
	t.Helper()
	c := &cloud{}
	host, stop, err := serve(e.gateway, func(host string) http.Handler {
		c.Cloud = emulator.New(emulator.Options{RegistryHost: host, Dir: t.TempDir(), Pace: 100 * time.Millisecond})
		return c.Cloud
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c.url = "http://" + host
	if c.role, err = c.AddRole(emulator.Role{Name: roleName, TrustPolicy: c.TrustGitHub("repo:acme/shop:*")}); err != nil {
		t.Fatal(err)
	}
	c.AddUser(userKey, userSecret)
	c.AddRepository(emulator.Repository{Name: "shop"})
	_, err = c.AddService(emulator.Service{
		Cluster: "prod", Name: "web", DesiredCount: 2,
		TaskDefinition: fmt.Sprintf(`{"family": "web", "networkMode": "awsvpc", "containerDefinitions": [
			{"name": "app", "image": %q, "essential": true, "memory": 512, "fieldFromTheFuture": {"kept": true}},
			{"name": "sidecar", "image": "example.invalid/sidecar:1", "essential": false, "memory": 64}]}`, oldImage),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const userKey, userSecret = "AKIAENGINETEST000000", "secret-of-the-engine-tests"

// job is the step that builds a workspace and deploys it to the service; with
// changes inputs, where an empty value takes one away.
func (c *cloud) job(e *engine, workspace string, with map[string]string) job {
	inputs := map[string]string{
		"aws-region": "us-east-1", "role-to-assume": c.role, "repository": "shop",
		"registry-mirrors": "docker.io=" + e.mirror, "cluster": "prod", "service": "web", "container-name": "app",
	}
	maps.Copy(inputs, with)
	url, token := c.IDTokenRequest(c.url)
	return job{Workspace: workspace, With: inputs, Env: map[string]string{
		"AWS_ENDPOINT_URL":             c.url,
		"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": token,
	}}
}

// image gives a pushed image by its reference.
func (c *cloud) image(t *testing.T, reference string) v1.Image {
	t.Helper()
	client := ecr.New(ecr.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(c.url),
		Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
	})
	out, err := client.GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	login, err := base64.StdEncoding.DecodeString(aws.ToString(out.AuthorizationData[0].AuthorizationToken))
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(login), ":")
	// Both a tag and a digest are more than a reference may hold here.
	if name, digest, ok := strings.Cut(reference, "@"); ok {
		colon := strings.LastIndex(name, ":")
		if colon > strings.LastIndex(name, "/") {
			name = name[:colon]
		}
		reference = name + "@" + digest
	}
	return pull(t, reference, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
}
