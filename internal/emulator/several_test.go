package emulator_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/internal/emulator"
)

const otherAccount = "210987654321"

// ecrOf is a client of ECR in a region.
func (w *world) ecrOf(region string, provider aws.CredentialsProvider) *ecr.Client {
	return ecr.New(ecr.Options{
		Region: region, Credentials: provider, HTTPClient: &http.Client{Transport: w.RoundTripper()}, Retryer: aws.NopRetryer{},
	})
}

// basic takes a token of GetAuthorizationToken apart.
func basic(t *testing.T, token *string) authn.Authenticator {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(token))
	if err != nil {
		t.Fatal(err)
	}
	user, pass, _ := strings.Cut(string(raw), ":")
	return &authn.Basic{Username: user, Password: pass}
}

func (w *world) loginAt(t *testing.T, client *ecr.Client) authn.Authenticator {
	t.Helper()
	out, err := client.GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	return basic(t, out.AuthorizationData[0].AuthorizationToken)
}

// beginUpload sends the first request of an upload.
func (w *world) beginUpload(t *testing.T, uri string, auth authn.Authenticator) error {
	t.Helper()
	host, name, _ := strings.Cut(uri, "/")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+"/v2/"+name+"/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	login, err := auth.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(login.Username, login.Password)
	resp, err := w.RoundTripper().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	return transport.CheckError(resp, http.StatusAccepted)
}

// TestRegions: a repository is in one region, and a password good for one.
func TestRegions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		here := w.AddRepository(emulator.Repository{Name: "shop"})
		there := w.AddRepository(emulator.Repository{Name: "shop", Region: "cn-north-1"})
		if want := "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/shop"; there != want {
			t.Errorf("got %s, want %s", there, want)
		}
		keys := credentials.NewStaticCredentialsProvider(testKey, testSecret, "")
		china := w.ecrOf("cn-north-1", keys)
		found, err := china.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"shop"}})
		if err != nil {
			t.Fatal(err)
		}
		got := []string{aws.ToString(found.Repositories[0].RepositoryUri), aws.ToString(found.Repositories[0].RepositoryArn)}
		if diff := cmp.Diff(got, []string{there, "arn:aws-cn:ecr:cn-north-1:123456789012:repository/shop"}); diff != "" {
			t.Errorf("got -, want +:\n%s", diff)
		}
		_, err = w.ecrOf("eu-west-1", keys).DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"shop"}})
		wantCode(t, err, "RepositoryNotFoundException", "registry with id '123456789012'")

		img, auth := appImage(t, 1), w.loginAt(t, china)
		wantRegistry(t, w.beginUpload(t, here, auth), http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
		if err = remote.Write(mustParse(t, there+":1"), img, w.remote(t, auth)...); err != nil {
			t.Fatal(err)
		}
		_, err = remote.Image(mustParse(t, here+":1"), w.remote(t, w.login(t))...)
		wantRegistry(t, err, http.StatusNotFound, "MANIFEST_UNKNOWN", "")
		for _, host := range []string{"123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "123456789012.dkr-ecr.us-east-1.on.aws", "123456789012.dkr-ecr-fips.us-east-1.on.aws"} {
			if err := remote.Write(mustParse(t, host+"/shop:1"), img, w.remote(t, w.login(t))...); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
	})
}

// TestCrossAccount: another account's repository needs both policies; one's own,
// one of them.
func TestCrossAccount(t *testing.T) {
	t.Parallel()
	const (
		role    = "arn:aws:iam::123456789012:role/ci"
		session = "arn:aws:sts::123456789012:assumed-role/ci/xx"
		pushes  = `"ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage", "ecr:BatchGetImage"`
	)
	allow := func(principal string) string {
		return `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "` + principal + `"}, "Action": [` + pushes + `]}]}`
	}
	tests := map[string]struct {
		account, policy string
		may             []string
		denied          string
	}{
		"no repository policy":       {account: otherAccount, may: []string{"ecr:*"}, denied: "because no resource-based policy allows the ecr:"},
		"its role":                   {account: otherAccount, policy: allow(role), may: []string{"ecr:*"}},
		"its session":                {account: otherAccount, policy: allow(session), may: []string{"ecr:*"}},
		"its account":                {account: otherAccount, policy: allow("123456789012"), may: []string{"ecr:*"}},
		"its root":                   {account: otherAccount, policy: allow("arn:aws:iam::123456789012:root"), may: []string{"ecr:*"}},
		"everybody":                  {account: otherAccount, policy: allow("*"), may: []string{"ecr:*"}},
		"another role":               {account: otherAccount, policy: allow(role + "2"), may: []string{"ecr:*"}, denied: "because no resource-based policy"},
		"no policy of its own":       {account: otherAccount, policy: allow(role), may: []string{"ecr:GetAuthorizationToken"}, denied: "because no identity-based policy"},
		"a denial":                   {account: otherAccount, policy: strings.Replace(allow(role), "Allow", "Deny", 1), may: []string{"ecr:*"}, denied: "with an explicit deny in a resource-based policy"},
		"own, by role":               {policy: allow(role), may: []string{"ecr:GetAuthorizationToken"}},
		"own, left to the role":      {policy: allow("123456789012"), may: []string{"ecr:GetAuthorizationToken"}, denied: "because no identity-based policy"},
		"own, without a policy":      {may: []string{"ecr:*"}},
		"own, denied by the policy":  {policy: strings.Replace(allow("*"), "Allow", "Deny", 1), may: []string{"ecr:*"}, denied: "with an explicit deny in a resource-based policy"},
		"own, nobody has allowed it": {may: []string{"ecr:GetAuthorizationToken"}, denied: "because no identity-based policy"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				uri := w.AddRepository(emulator.Repository{Name: "shop", Account: tt.account})
				if tt.policy != "" {
					if err := w.SetRepositoryPolicy(uri, tt.policy); err != nil {
						t.Fatal(err)
					}
				}
				trust := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}]}`
				if _, err := w.AddRole(emulator.Role{Name: "ci", TrustPolicy: trust, Policy: tt.may}); err != nil {
					t.Fatal(err)
				}
				out, err := w.sts.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(role), RoleSessionName: aws.String("xx")})
				if err != nil {
					t.Fatal(err)
				}
				k := out.Credentials
				auth := w.loginAt(t, w.ecrOf("us-east-1", credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)))
				if tt.denied != "" {
					wantRegistry(t, w.beginUpload(t, uri, auth), http.StatusForbidden, "DENIED", tt.denied)
				} else if err := remote.Write(mustParse(t, uri+":1"), appImage(t, 1), w.remote(t, auth)...); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRepositoryPolicyRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(emulator.Options{})
	uri := w.AddRepository(emulator.Repository{Name: "shop"})
	for name, policy := range map[string]string{
		"no principal": `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ecr:PutImage"}]}`,
		"a resource":   `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:PutImage", "Resource": "*"}]}`,
		"no JSON":      `{`,
	} {
		if err := w.SetRepositoryPolicy(uri, policy); err == nil || !strings.Contains(err.Error(), "Invalid repository policy provided") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := w.SetRepositoryPolicy(uri+"2", "{}"); err == nil {
		t.Error("a repository that is not there got a policy")
	}
}

// TestECRPublic: everybody reads, and whoever logs in with the account's password
// writes below its alias.
func TestECRPublic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{Region: "eu-central-1"})
		uri := w.AddRepository(emulator.Repository{Name: "shop/web", Alias: "acme"})
		if want := "public.ecr.aws/acme/shop/web"; uri != want {
			t.Errorf("got %s, want %s", uri, want)
		}
		client := ecrpublic.New(ecrpublic.Options{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
			HTTPClient: &http.Client{Transport: w.RoundTripper()}, Retryer: aws.NopRetryer{},
		})
		out, err := client.GetAuthorizationToken(t.Context(), &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil {
			t.Fatal(err)
		}
		auth, img := basic(t, out.AuthorizationData.AuthorizationToken), appImage(t, 2)
		wantRegistry(t, remote.Write(mustParse(t, uri+":1"), img, w.remote(t, authn.Anonymous)...), http.StatusForbidden, "DENIED", "ecr-public:InitiateLayerUpload on resource: arn:aws:ecr-public::123456789012:repository/shop/web")
		if err = remote.Write(mustParse(t, uri+":1"), img, w.remote(t, auth)...); err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Image(mustParse(t, uri+":1"), w.remote(t, authn.Anonymous)...)
		if err != nil {
			t.Fatal(err)
		}
		compareLayers(t, pulled, img)
		made, err := client.CreateRepository(t.Context(), &ecrpublic.CreateRepositoryInput{RepositoryName: aws.String("other")})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := aws.ToString(made.Repository.RepositoryUri), "public.ecr.aws/acme/other"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		found, err := client.DescribeRepositories(t.Context(), &ecrpublic.DescribeRepositoriesInput{})
		if err != nil || len(found.Repositories) != 2 || aws.ToString(found.Repositories[1].RepositoryName) != "shop/web" {
			t.Errorf("got %+v, %v", found, err)
		}
		_, err = client.DescribeRepositories(t.Context(), &ecrpublic.DescribeRepositoriesInput{RepositoryNames: []string{"none"}})
		wantCode(t, err, "RepositoryNotFoundException", "The repository with name 'none' does not exist in the registry with id '123456789012'")
		wantRegistry(t, remote.Write(mustParse(t, "public.ecr.aws/other/x:1"), img, w.remote(t, auth)...), http.StatusNotFound, "NAME_UNKNOWN", "")
		_, err = remote.Image(mustParse(t, uri+":1"), w.remote(t, &authn.Basic{Username: "AWS", Password: "x"})...)
		wantRegistry(t, err, http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
	})
}

// TestPullThrough: the first pull imports, if the caller may, and the second does
// not ask upstream.
func TestPullThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hub := newWorld(emulator.Options{})
		img := appImage(t, 2)
		upstream := hub.AddRepository(emulator.Repository{Name: "nginx", Alias: "library"})
		hubLogin, err := ecrpublic.New(ecrpublic.Options{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
			HTTPClient: &http.Client{Transport: hub.RoundTripper()},
		}).GetAuthorizationToken(context.WithoutCancel(t.Context()), &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil {
			t.Fatal(err)
		}
		if err = remote.Write(mustParse(t, upstream+":1"), img, hub.remote(t, basic(t, hubLogin.AuthorizationData.AuthorizationToken))...); err != nil {
			t.Fatal(err)
		}
		w := newWorld(emulator.Options{})
		w.AddPullThrough(emulator.PullThrough{Prefix: "public", Upstream: "public.ecr.aws", Transport: hub.RoundTripper()})
		ref := "123456789012.dkr.ecr.us-east-1.amazonaws.com/public/library/nginx:1"
		for range 2 {
			pulled, pullErr := remote.Image(mustParse(t, ref), w.remote(t, w.login(t))...)
			if pullErr != nil {
				t.Fatal(pullErr)
			}
			compareLayers(t, pulled, img)
		}
		if got := len(hub.Called("registry", "GET manifest")); got != 1 {
			t.Errorf("upstream was asked for the manifest %d times, want once", got)
		}
		_, err = remote.Image(mustParse(t, strings.Replace(ref, "nginx", "none", 1)), w.remote(t, w.login(t))...)
		wantRegistry(t, err, http.StatusNotFound, "NAME_UNKNOWN", "public/library/none")
	})
}

// TestPullThroughDenied: each right that a first pull needs is asked for by its name.
func TestPullThroughDenied(t *testing.T) {
	t.Parallel()
	for lacking, may := range map[string][]string{
		"ecr:CreateRepository":         {"ecr:Get*", "ecr:Batch*"},
		"ecr:BatchImportUpstreamImage": {"ecr:Get*", "ecr:BatchGetImage", "ecr:CreateRepository"},
	} {
		t.Run(lacking, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(emulator.Options{})
				trust := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}]}`
				arn, err := w.AddRole(emulator.Role{Name: "ci", TrustPolicy: trust, Policy: may})
				if err != nil {
					t.Fatal(err)
				}
				out, err := w.sts.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("xx")})
				if err != nil {
					t.Fatal(err)
				}
				w.AddPullThrough(emulator.PullThrough{Prefix: "hub", Upstream: "hub.example", Transport: w.RoundTripper()})
				k := out.Credentials
				auth := w.loginAt(t, w.ecrOf("us-east-1", credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)))
				_, err = remote.Image(mustParse(t, "123456789012.dkr.ecr.us-east-1.amazonaws.com/hub/x:1"), w.remote(t, auth)...)
				wantRegistry(t, err, http.StatusForbidden, "DENIED", "not authorized to perform: "+lacking)
			})
		})
	}
}
