package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/problem"
)

func TestECRHost(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		ecrHost: "eu-central-1",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn":            "cn-north-1",
		"123456789012.dkr.ecr.us-gov-west-1.amazonaws.com":            "us-gov-west-1",
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com":       "us-gov-west-1",
		"123456789012.dkr.ecr-fips.us-east-1.amazonaws.com":           "us-east-1",
		"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu":            "eusc-de-east-1",
		"123456789012.dkr-ecr.us-west-2.on.aws":                       "us-west-2",
		"123456789012.dkr-ecr-fips.us-east-2.on.aws":                  "us-east-2",
		"123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn": "cn-north-1",
		"012345678901.dkr.ecr.us-iso-east-1.c2s.ic.gov":               "us-iso-east-1",
		"012345678901.dkr.ecr.us-isob-east-1.sc2s.sgov.gov":           "us-isob-east-1",
		"012345678901.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk":          "eu-isoe-west-1",
		"012345678901.dkr.ecr.us-isof-south-1.csp.hci.ic.gov":         "us-isof-south-1",

		"":               "",
		"docker.io":      "",
		"public.ecr.aws": "",
		"12345678901.dkr.ecr.eu-central-1.amazonaws.com":          "",
		"1234567890123.dkr.ecr.eu-central-1.amazonaws.com":        "",
		"12345678901a.dkr.ecr.eu-central-1.amazonaws.com":         "",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.io": "",
		"123456789012.dkr.ecr.eu-central-1.evil.amazonaws.com":    "",
		"x.123456789012.dkr.ecr.eu-central-1.amazonaws.com":       "",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com:443":     "",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.comx":        "",
		"123456789012.dkr.ecr.eu_central.amazonaws.com":           "",
		"123456789012.dkr.ecr..amazonaws.com":                     "",
		"123456789012.dkr.ecr.amazonaws.com":                      "",
		"123456789012.dkr.ecrx.eu-central-1.amazonaws.com":        "",
		"123456789012.dkr.ecr.us-west-2.on.aws":                   "",
		"123456789012.dkr-ecr.us-west-2.amazonaws.com":            "",
		"123456789012.dkr": "",
		"123456789012.dkrxecr.eu-central-1.amazonaws.com": "",
	}
	for host, want := range tests {
		account, region, ok := ECRHost(host)
		if region != want || ok != (want != "") || ok != (len(account) == 12) {
			t.Errorf("ECRHost(%q) = %q, %q, %t; want region %q", host, account, region, ok, want)
		}
	}
}

func FuzzECRHost(f *testing.F) {
	f.Add(ecrHost)
	f.Add("123456789012.dkr-ecr-fips.us-east-2.on.aws")
	f.Fuzz(func(t *testing.T, host string) {
		account, region, ok := ECRHost(host)
		if ok && (len(account) != 12 || region == "" || !strings.HasPrefix(host, account+".dkr") || !strings.Contains(host, "."+region+".")) {
			t.Errorf("ECRHost(%q) = %q, %q", host, account, region)
		}
	})
}

func TestLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.password = "first"
		e := &fakeECR{passwords: []string{"first", "second", "third"}}
		var mu sync.Mutex
		var masked []string
		used := false
		f.fault = func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if _, password, ok := req.BasicAuth(); ok {
				used = true
				if !slices.Contains(masked, password) || !slices.Contains(masked, basicOf("AWS", password)) {
					t.Errorf("password %q is used before it is masked", password)
				}
			}
			return nil, nil
		}
		c := New(Options{Transport: f, ECR: e, Mask: func(s string) {
			mu.Lock()
			defer mu.Unlock()
			masked = append(masked, s)
		}})
		img := image(t, 3, "")
		must[*Pushed](t)(c.Push(t.Context(), img, []string{ecrHost + "/app:1"}))
		if diff := cmp.Diff([]string{"eu-central-1"}, e.asked); diff != "" || !used {
			t.Errorf("tokens asked for (-want +got):\n%s", diff)
		}
		// Eleven hours and fifty-five minutes later it is renewed, before its end.
		<-time.After(11*time.Hour + 55*time.Minute)
		f.password = "second"
		must[*Pushed](t)(c.Push(t.Context(), image(t, 3, ""), []string{ecrHost + "/app:2"}))
		if len(e.asked) != 2 {
			t.Errorf("tokens asked for: %v, want two", e.asked)
		}
		// A token that is refused early is renewed too, whatever the request.
		f.password = "third"
		must[*Pushed](t)(c.Push(t.Context(), image(t, 3, ""), []string{ecrHost + "/app:3"}))
		f.password = "nobody knows"
		_, err := c.Push(t.Context(), image(t, 1, ""), []string{ecrHost + "/app:4"})
		if _, ok := errors.AsType[*problem.Error](err); !ok {
			t.Errorf("Push with a wrong password: %v", err)
		}
	})
}

// TestOwnRegistry: the account's registry is where ECR says it is, and ECR's
// password goes nowhere else.
func TestOwnRegistry(t *testing.T) {
	t.Parallel()
	f := newFake()
	var mu sync.Mutex
	var passwords []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, password, ok := req.BasicAuth(); ok {
			mu.Lock()
			passwords = append(passwords, password)
			mu.Unlock()
		} else {
			w.Header().Set("WWW-Authenticate", "Basic")
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "who?")
			return
		}
		f.ServeHTTP(w, req)
	}))
	defer server.Close()
	host := must[*url.URL](t)(url.Parse(server.URL)).Host
	e := &fakeECR{endpoint: server.URL, passwords: []string{"p"}, repos: map[string]Repository{"app": {URI: host + "/app"}}}
	c := New(Options{Transport: server.Client().Transport, ECR: e})
	uri := must[string](t)(c.RepositoryURI(t.Context(), "app"))
	pushed := must[*Pushed](t)(c.Push(t.Context(), image(t, 1, ""), []string{uri + ":1"}))
	got := must[*Image](t)(New(Options{Transport: server.Client().Transport, ECR: e}).Resolve(t.Context(), uri+"@"+pushed.Digest.String(), v1.Platform{}))
	if got.Digest != pushed.Digest || !slices.Contains(passwords, "p") {
		t.Errorf("Resolve: %s, want %s", got.Digest, pushed.Digest)
	}
	if again := must[string](t)(c.RepositoryURI(t.Context(), uri)); again != uri {
		t.Errorf("RepositoryURI(%q) = %q", uri, again)
	}

	other := New(Options{Transport: f, ECR: e})
	f.fault = func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Authorization") != "" {
			t.Errorf("credentials were sent to %s", req.URL.Host)
		}
		return nil, nil
	}
	_, _ = other.Resolve(t.Context(), "quay.io/a/b:1", v1.Platform{})
	_, _ = other.Resolve(t.Context(), "alpine", v1.Platform{})
}

// TestRedirect: a blob comes from another host, which must not see the login.
func TestRedirect(t *testing.T) {
	t.Parallel()
	f := newFake()
	img := image(t, 1, "")
	put(t, f, ecrHost+"/app:1", img)
	f.password = "p"
	plain := &fake{hosts: f.hosts, blobs: f.blobs, tags: f.tags}
	f.fault = func(req *http.Request) (*http.Response, error) {
		switch {
		case req.URL.Host == "bucket.example":
			if req.Header.Get("Authorization") != "" {
				t.Error("ECR's password was sent to the bucket")
			}
			back := req.Clone(req.Context())
			back.URL.Host = ecrHost
			return plain.RoundTrip(back)
		case req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/"):
			return answer(http.StatusTemporaryRedirect, map[string]string{"Location": "https://bucket.example" + req.URL.Path}, ""), nil
		}
		return nil, nil
	}
	c := New(Options{Transport: f, ECR: &fakeECR{passwords: []string{"p"}}, CacheDir: t.TempDir()})
	got := must[*Image](t)(c.Resolve(t.Context(), ecrHost+"/app:1", amd64))
	if err := c.Fetch(t.Context(), must[[]v1.Layer](t)(got.Image.Layers())...); err != nil {
		t.Error(err)
	}
	if n := f.count("GET", "bucket.example"); n != 2 {
		t.Errorf("%d downloads from the bucket, want 2", n)
	}
}

func TestGivenCredentials(t *testing.T) {
	t.Parallel()
	f := newFake()
	asked := map[string]string{}
	f.fault = func(req *http.Request) (*http.Response, error) {
		user, password, ok := req.BasicAuth()
		if !ok {
			return answer(http.StatusUnauthorized, map[string]string{"WWW-Authenticate": "Basic"}, ""), nil
		}
		asked[req.URL.Host] = user + ":" + password
		return nil, nil
	}
	var masked []string
	c := New(Options{
		Transport: f, ECR: &fakeECR{passwords: []string{"p"}}, Mask: func(s string) { masked = append(masked, s) },
		Credentials: map[string]authn.AuthConfig{
			"docker.io": {Username: "me", Password: "hub"}, "ghcr.io": {Username: "you", Password: "gh"}, ecrHost: {Username: "AWS", Password: "given"},
		},
	})
	for _, ref := range []string{"alpine", "ghcr.io/a/b", ecrHost + "/app"} {
		_, _ = c.Resolve(t.Context(), ref, amd64)
	}
	if diff := cmp.Diff(map[string]string{hub: "me:hub", "ghcr.io": "you:gh", ecrHost: "AWS:given"}, asked); diff != "" {
		t.Errorf("logins (-want +got):\n%s", diff)
	}
	for _, secret := range []string{"hub", "gh", "given", basicOf("me", "hub"), basicOf("you", "gh")} {
		if !slices.Contains(masked, secret) {
			t.Errorf("%q is not masked", secret)
		}
	}
}

func TestRepositoryURI(t *testing.T) {
	t.Parallel()
	denied := codedError("AccessDeniedException")
	tests := map[string]struct {
		ecr        *fakeECR
		repository string
		want       string
		fails      []string
	}{
		"bare":             {ecr: &fakeECR{repos: map[string]Repository{"team/app": {URI: ecrHost + "/team/app"}}}, repository: "team/app", want: ecrHost + "/team/app"},
		"full":             {ecr: &fakeECR{repos: map[string]Repository{"app": {URI: ecrHost + "/app"}}}, repository: ecrHost + "/app", want: ecrHost + "/app"},
		"another registry": {ecr: &fakeECR{passwords: []string{"p"}}, repository: "ghcr.io/me/app", want: "ghcr.io/me/app"},
		"full, denied":     {ecr: &fakeECR{repoErr: denied}, repository: ecrHost + "/app", want: ecrHost + "/app"},
		"missing":          {ecr: &fakeECR{}, repository: "app", fails: []string{`input "repository" is "app"`, "aws ecr create-repository --repository-name app --region eu-central-1"}},
		"full, missing":    {ecr: &fakeECR{}, repository: strings.Replace(ecrHost, "eu-central-1", "us-east-2", 1) + "/app", fails: []string{"--repository-name app --region us-east-2"}},
		"denied":           {ecr: &fakeECR{repoErr: denied}, repository: "app", fails: []string{"ecr:DescribeRepositories"}},
		"broken":           {ecr: &fakeECR{repoErr: errors.New("boom")}, repository: "app", fails: []string{"boom"}},
		"no AWS":           {repository: "app", fails: []string{"needs AWS credentials"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := Options{Transport: newFake()}
			if test.ecr != nil {
				opts.ECR = test.ecr
			}
			got, err := New(opts).RepositoryURI(t.Context(), test.repository)
			var p *problem.Error
			if got != test.want || errors.As(err, &p) != (test.fails != nil) {
				t.Fatalf("RepositoryURI = %q, %v; want %q", got, err, test.want)
			}
			for _, want := range test.fails {
				if !strings.Contains(err.Error(), want) || p.Input != "repository" {
					t.Errorf("RepositoryURI: error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestTokenRefused(t *testing.T) {
	t.Parallel()
	f := newFake()
	c := New(Options{Transport: f, ECR: &fakeECR{err: codedError("AccessDeniedException")}})
	_, err := c.Push(t.Context(), image(t, 1, ""), []string{ecrHost + "/app:1"})
	if err == nil || !strings.Contains(err.Error(), "Allow ecr:GetAuthorizationToken") {
		t.Errorf("Push without a token: %v", err)
	}
	// Who may not log in to ECR can still pull from elsewhere.
	put(t, f, "quay.io/a/b:1", image(t, 1, ""))
	if _, err := c.Resolve(t.Context(), "quay.io/a/b:1", amd64); err != nil {
		t.Errorf("Resolve elsewhere: %v", err)
	}
}
