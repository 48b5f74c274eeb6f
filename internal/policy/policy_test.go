package policy_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/policy"
)

var issuerKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// The trust policy lets in the tokens of the job that it is made for, in both
// forms of the subject, and nobody else's.
func TestTrust(t *testing.T) {
	t.Parallel()
	main := emulator.Job{Repository: "acme/shop", Ref: "refs/heads/main"}
	with := func(change func(*emulator.Job)) emulator.Job {
		job := main
		change(&job)
		return job
	}
	numbers := with(func(j *emulator.Job) { j.ImmutableSubject = true })
	release := with(func(j *emulator.Job) { j.Ref = "refs/tags/v1.2" })
	other := with(func(j *emulator.Job) { j.Repository = "acme/shop-fork" })
	feature := with(func(j *emulator.Job) { j.Ref = "refs/heads/main-2" })
	production := with(func(j *emulator.Job) { j.Environment = "production" })
	pull := with(func(j *emulator.Job) { j.Event = "pull_request" })
	everyone := map[string]emulator.Job{
		"main": main, "numbers": numbers, "release": release, "other": other, "feature": feature, "production": production, "pull request": pull,
	}
	tests := map[string]struct {
		source policy.Source
		want   []string
	}{
		"branch":             {policy.Source{Branches: []string{"main"}}, []string{"main"}},
		"branch and numbers": {policy.Source{Branches: []string{"main"}, OwnerID: "7001", RepositoryID: "90210"}, []string{"main", "numbers"}},
		"branches":           {policy.Source{Branches: []string{"main*"}}, []string{"main", "feature"}},
		"tags":               {policy.Source{Tags: []string{"v*"}}, []string{"release"}},
		"environment":        {policy.Source{Environments: []string{"production"}, Branches: []string{"main"}}, []string{"production"}},
		"pull requests":      {policy.Source{PullRequests: true}, []string{"pull request"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.source.Repository = "acme/shop"
			plan := policy.For(settings(t, "repository: shop\naws-region: us-east-1\nrole-to-assume: arn:aws:iam::123456789012:role/deploy"), policy.Facts{Source: tt.source})
			got := map[string]bool{}
			for who, job := range everyone {
				got[who] = admits(t, policy.JSON(plan.Roles[0].Trust), job)
			}
			want := map[string]bool{}
			for who := range everyone {
				want[who] = false
			}
			for _, who := range tt.want {
				want[who] = true
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("who is let in: got -, want +:\n%s", diff)
			}
		})
	}
}

// admits says whether a job's token is taken by a role with the trust policy.
func admits(t *testing.T, trust string, job emulator.Job) bool {
	t.Helper()
	cloud := emulator.New(emulator.Options{Job: job, Key: issuerKey()})
	arn, err := cloud.AddRole(emulator.Role{Name: "deploy", TrustPolicy: trust})
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {arn}, "RoleSessionName": {"test"},
		"WebIdentityToken": {idToken(t, cloud)},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://sts.us-east-1.amazonaws.com/", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := cloud.RoundTripper().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp.StatusCode == http.StatusOK
}

// idToken asks for an ID token as the runner's toolkit does.
func idToken(t *testing.T, cloud *emulator.Cloud) string {
	t.Helper()
	address, bearer := cloud.IDTokenRequest("")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"&audience=sts.amazonaws.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := cloud.RoundTripper().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Value string }
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer.Value
}

// What nobody knows stands in capitals, with a line that says what it is.
func TestUnknown(t *testing.T) {
	t.Parallel()
	plan := policy.For(settings(t, "service: web\naws-region: eu-central-1\nrole-to-assume: deploy\nimage: registry.example.com/shop:1\ncontainer-name: app"), policy.Facts{})
	want := []string{
		"FAMILY: the family of the task definition",
		"TASK_ROLE: the task definition's task role; leave it out if there is none",
		"EXECUTION_ROLE: the task definition's execution role; leave it out if there is none",
		"SECRET: the secret that the containers name, with its six last characters; leave it out if there is none",
		"LOG_GROUP: the log group of the containers (awslogs-group)",
		"OWNER/REPOSITORY: the workflow's repository on GitHub",
		"BRANCH: the branch that is deployed; environment:NAME instead of ref:... where the job has an environment",
		"ACCOUNT: the 12 digits of the AWS account",
	}
	if diff := cmp.Diff(plan.Unknown, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	text := policy.JSON(plan.Roles[0].Trust) + policy.JSON(plan.Roles[0].Permissions)
	for _, line := range plan.Unknown {
		if placeholder, _, _ := strings.Cut(line, ":"); !strings.Contains(text, placeholder) {
			t.Errorf("placeholder %s is explained and stands nowhere", placeholder)
		}
	}
}

// ARNs are those of the region's partition, and keys of a user have no role.
func TestPartitionsAndUsers(t *testing.T) {
	t.Parallel()
	china := policy.For(settings(t, "repository: shop\naws-region: cn-north-1\nrole-to-assume: deploy"), policy.Facts{Account: "210987654321"})
	if got := policy.JSON(china.Roles[0].Trust); !strings.Contains(got, "arn:aws-cn:iam::210987654321:oidc-provider/") || !strings.Contains(got, `"sts.amazonaws.com.cn"`) {
		t.Errorf("got %s, want China's partition and audience", got)
	}
	keys := "repository: shop\naws-region: us-east-1\naws-access-key-id: AKIAIOSFODNN7EXAMPLE\naws-secret-access-key: secret\n"
	user := policy.For(settings(t, keys), policy.Facts{Account: "123456789012"})
	if len(user.Roles) != 1 || user.Roles[0].Trust != nil || !strings.Contains(user.Terraform(), `resource "aws_iam_user_policy" "user"`) {
		t.Errorf("got %+v, want the policy of a user", user.Roles)
	}
	both := policy.For(settings(t, keys+"role-to-assume: arn:aws:iam::123456789012:role/ci/deploy"), policy.Facts{})
	if len(both.Roles) != 2 || !strings.Contains(policy.JSON(both.Roles[0].Permissions), `"Resource": "arn:aws:iam::123456789012:role/ci/deploy"`) {
		t.Errorf("got %+v, want a user who may assume the role, and the role", both.Roles)
	}
	if none := policy.For(settings(t, "tags: ghcr.io/acme/shop:1"), policy.Facts{}); len(none.Roles) != 0 {
		t.Errorf("got %+v, want nothing: no AWS is needed", none)
	}
}
