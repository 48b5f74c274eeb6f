package awsauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

func TestRenewalTakesANewIDTokenEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.Duration = 15 * time.Minute
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := session.Account+" "+session.ARN, "111122223333 "+fake.caller; got != want {
			t.Errorf("identity is %q, want %q", got, want)
		}
		client := sts.NewFromConfig(session.Config)
		start := time.Now()
		for time.Since(start) < 3*time.Hour {
			wait(t, 15*time.Second)
			if _, err := client.GetCallerIdentity(t.Context(), nil); err != nil {
				t.Fatalf("after %s: %v", time.Since(start), err)
			}
		}
		// A session of 15 minutes is used for the 10 before the window.
		if got, want := fake.sessions, 18; got < want || got > want+1 {
			t.Errorf("%d sessions in 3 hours, want %d or one more", got, want)
		}
		if fake.minted != fake.sessions || len(fake.presents) != fake.sessions {
			t.Errorf("%d ID tokens were minted and %d presented for %d sessions", fake.minted, len(fake.presents), fake.sessions)
		}
		if len(fake.notices) > 0 {
			t.Errorf("notices: %q", fake.notices)
		}
	})
}

func TestSecretsAreMaskedBeforeTheyAreUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		if _, err := Open(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		want := []string{fake.presents[0], "ASIA1", secretKey, tokenOfSTS}
		if diff := cmp.Diff(fake.masked, want); diff != "" {
			t.Errorf("masked (-got +want):\n%s", diff)
		}
	})
}

func TestPresentSessionIsUsedWhileItCannotBeRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.Duration = 15 * time.Minute
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		fake.refusals, fake.forever = []refusal{{http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}}, true
		for time.Since(start) < 14*time.Minute {
			wait(t, 10*time.Second)
			if _, err = session.Config.Credentials.Retrieve(t.Context()); err != nil {
				t.Fatalf("after %s: %v", time.Since(start), err)
			}
		}
		wait(t, time.Minute)
		_, err = session.Config.Credentials.Retrieve(t.Context())
		if fault, ok := errors.AsType[*problem.Error](err); !ok || fault.Input != "role-to-assume" {
			t.Errorf("after the session's end the error is %v, want a problem with role-to-assume", err)
		}
		fake.refusals = nil
		if _, err := session.Config.Credentials.Retrieve(t.Context()); err != nil {
			t.Errorf("once the role is given again: %v", err)
		}
		tries := 0
		for _, r := range fake.requests {
			if r.action == "AssumeRoleWithWebIdentity" {
				tries++
			}
		}
		if tries > 40 {
			t.Errorf("%d requests while nothing could be renewed, want at most three each half minute", tries)
		}
		if i := slices.IndexFunc(fake.notices, func(s string) bool { return strings.Contains(s, "is good for another 4m") }); i < 0 {
			t.Errorf("no notice says how long the session lasts: %q", fake.notices)
		}
	})
}

func TestKeysAndRoles(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set     func(*Options)
		caller  string
		want    []string // action, access key, role and duration of each request
		notices []string
	}{
		"keys": {
			set:  func(o *Options) { o.Roles = nil },
			want: []string{"GetCallerIdentity AKIA0  "},
		},
		"keys and a role": {
			set:  func(*Options) {},
			want: []string{"AssumeRole AKIA0 arn:aws:iam::111122223333:role/deploy 3600"},
		},
		"a role's name": {
			set:    func(o *Options) { o.Roles = []string{"ci/deploy"} },
			caller: "arn:aws-cn:iam::444455556666:user/ci",
			want: []string{
				"GetCallerIdentity AKIA0  ",
				"AssumeRole AKIA0 arn:aws-cn:iam::444455556666:role/ci/deploy 3600",
			},
		},
		"long session with lasting keys": {
			set:  func(o *Options) { o.Duration = 12 * time.Hour },
			want: []string{"AssumeRole AKIA0 arn:aws:iam::111122223333:role/deploy 43200"},
		},
		"long session with temporary keys": {
			set:     func(o *Options) { o.Duration, o.SessionToken = 2*time.Hour, "temporary" },
			want:    []string{"AssumeRole AKIA0 arn:aws:iam::111122223333:role/deploy 3600"},
			notices: []string{"role arn:aws:iam::111122223333:role/deploy is assumed with temporary credentials, for which AWS allows one hour: role-duration-seconds 7200 is taken as 3600, and the session renewed"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake, opts := newFake()
				opts.AccessKeyID, opts.SecretAccessKey = "AKIA0", "lasting"
				test.set(&opts)
				if test.caller != "" {
					fake.caller = test.caller
				}
				if _, err := Open(t.Context(), opts); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, r := range fake.requests {
					got = append(got, fmt.Sprintf("%s %s %s %s", r.action, r.key, r.form.Get("RoleArn"), r.form.Get("DurationSeconds")))
				}
				if diff := cmp.Diff(got, test.want); diff != "" {
					t.Errorf("requests (-got +want):\n%s", diff)
				}
				if diff := cmp.Diff(fake.notices, test.notices); diff != "" {
					t.Errorf("notices (-got +want):\n%s", diff)
				}
				if fake.minted > 0 {
					t.Error("an ID token was asked for, though keys are given")
				}
			})
		})
	}
}

// The SDK reads the process environment, so this test is not parallel.
func TestSurroundings(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "from-env")
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://own-sts.test")
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.IDToken = nil
		opts.Region, opts.Getenv = "", func(name string) string {
			return map[string]string{"AWS_DEFAULT_REGION": "eu-central-1"}[name]
		}
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := session.Config.Region, "eu-central-1"; got != want {
			t.Errorf("region is %q, want %q", got, want)
		}
		var got []string
		for _, r := range fake.requests {
			got = append(got, r.action+" "+r.key+" "+r.host)
		}
		want := []string{"AssumeRole AKIAENV own-sts.test"}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("requests (-got +want):\n%s", diff)
		}
		want = []string{"AKIAENV", "from-env", "ASIA1", secretKey, tokenOfSTS}
		if diff := cmp.Diff(fake.masked, want); diff != "" {
			t.Errorf("masked (-got +want):\n%s", diff)
		}
	})
}

func TestEndpointForAllServices(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "http://all.test")
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		listClusters(t, session)
		want := []string{"all.test", "all.test"}
		if diff := cmp.Diff(fake.hosts(), want); diff != "" {
			t.Errorf("hosts (-got +want):\n%s", diff)
		}
	})
}

// The variables are gone from the process when the client for ECS is made.
func TestEndpointOfOneServiceOutlivesTheEnvironment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.Getenv = func(name string) string {
			return map[string]string{"AWS_ENDPOINT_URL_ECS": "http://own-ecs.test"}[name]
		}
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		listClusters(t, session)
		want := []string{"sts.eu-west-1.amazonaws.com", "own-ecs.test"}
		if diff := cmp.Diff(fake.hosts(), want); diff != "" {
			t.Errorf("hosts (-got +want):\n%s", diff)
		}
	})
}

// Over sockets, as it is used: the SDK's own transport.
func TestOwnTransport(t *testing.T) {
	fake, opts := newFake()
	server := httptest.NewServer(http.HandlerFunc(fake.serve))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	opts.Transport = nil
	session, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := session.ARN, fake.caller; got != want {
		t.Errorf("ARN is %q, want %q", got, want)
	}
}

func TestManyUsersOfOneSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.Duration = 15 * time.Minute
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		var users sync.WaitGroup
		for range 16 {
			users.Go(func() {
				for range 100 {
					wait(t, time.Minute)
					if _, err := session.Config.Credentials.Retrieve(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		users.Wait()
		// 100 minutes in sessions used for 10, renewed by the first to need it.
		if got := fake.sessions; got < 10 || got > 11 {
			t.Errorf("%d sessions, want 10 or 11", got)
		}
	})
}

// listClusters is a request to ECS. The fake answers nothing.
func listClusters(t *testing.T, session *Session) {
	t.Helper()
	if _, err := ecs.NewFromConfig(session.Config).ListClusters(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		fake.refusals, fake.forever = []refusal{{http.StatusServiceUnavailable, "ServiceUnavailable", "busy"}}, true
		stopped := errors.New("interrupted")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, stopped)
		defer cancel()
		start := time.Now()
		_, err := Open(ctx, opts)
		if !errors.Is(err, stopped) {
			t.Errorf("error is %v, want %v in it", err, stopped)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("ended after %s, want 3s", took)
		}
	})
}

func TestSessionName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ name, want string }{
		"empty":      {"", "towline"},
		"too short":  {"x", "towline-x"},
		"characters": {"acme/shop: main é", "acme-shop-main-"},
		"too long":   {strings.Repeat("a", 100), strings.Repeat("a", 64)},
		"allowed":    {"a_+=,.@-Z9", "a_+=,.@-Z9"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := sessionName(test.name); got != test.want {
				t.Errorf("name is %q, want %q", got, test.want)
			}
		})
	}
}

// wait lets virtual time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Error(context.Cause(t.Context()))
	}
}
