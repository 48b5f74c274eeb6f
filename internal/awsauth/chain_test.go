package awsauth

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
)

// A chain presents to each role what is its own: the tokens to the first, the
// external id and tags from the second on, the policies to the last.
func TestChain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.Roles = append(opts.Roles, "arn:aws:iam::444455556666:role/path/second", "third")
		opts.ExternalID, opts.Policy, opts.PolicyARNs = "shop", `{"Version":"2012-10-17"}`, []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}
		opts.Tags = []Tag{{Key: "GitHub", Value: "Actions"}, {Key: "team", Value: "shop"}, {Key: "RunId", Value: "1", Optional: true}}
		opts.TransitiveTags = []string{"team", "absent"}
		opts.AllowedAccounts = []string{"444455556666"}
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := session.Account+" "+session.ARN, "444455556666 arn:aws:sts::444455556666:assumed-role/third/towline-1-1"; got != want {
			t.Errorf("identity is %q, want %q", got, want)
		}
		var got []string
		for _, r := range fake.requests {
			r.form.Del("WebIdentityToken")
			r.form.Del("Version")
			line := r.action + " by " + r.key
			for _, name := range slices.Sorted(maps.Keys(r.form)) {
				if name != "Action" {
					line += "\n  " + name + "=" + r.form.Get(name)
				}
			}
			got = append(got, line)
		}
		want := []string{
			"AssumeRoleWithWebIdentity by \n  DurationSeconds=3600\n  RoleArn=arn:aws:iam::111122223333:role/deploy\n  RoleSessionName=towline-1-1",
			"AssumeRole by ASIA1\n  DurationSeconds=3600\n  ExternalId=shop\n  RoleArn=arn:aws:iam::444455556666:role/path/second\n  RoleSessionName=towline-1-1\n" +
				"  Tags.member.1.Key=GitHub\n  Tags.member.1.Value=Actions\n  Tags.member.2.Key=team\n  Tags.member.2.Value=shop\n" +
				"  Tags.member.3.Key=RunId\n  Tags.member.3.Value=1\n  TransitiveTagKeys.member.1=team",
			"AssumeRole by ASIA2\n  DurationSeconds=3600\n  ExternalId=shop\n  Policy={\"Version\":\"2012-10-17\"}\n" +
				"  PolicyArns.member.1.arn=arn:aws:iam::aws:policy/ReadOnlyAccess\n  RoleArn=arn:aws:iam::444455556666:role/third\n  RoleSessionName=towline-1-1\n" +
				"  Tags.member.1.Key=GitHub\n  Tags.member.1.Value=Actions\n  Tags.member.2.Key=RunId\n  Tags.member.2.Value=1",
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("requests (-got +want):\n%s", diff)
		}
	})
}

// What STS found too large is not tried again at each renewal.
func TestOptionalTagsStayAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.AccessKeyID, opts.SecretAccessKey, opts.Duration = "AKIA0", "lasting", 15*time.Minute
		opts.Tags = []Tag{{Key: "GitHub", Value: "Actions"}, {Key: "RunId", Value: "1", Optional: true}}
		opts.TransitiveTags = []string{"RunId"}
		fake.refusals = []refusal{{http.StatusBadRequest, "PackedPolicyTooLarge", "Packed policy consumes 101% of allotted space"}}
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		wait(t, 12*time.Minute)
		if _, err := session.Config.Credentials.Retrieve(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range fake.requests {
			got = append(got, fmt.Sprint(r.form.Get("Tags.member.1.Key"), r.form.Get("Tags.member.2.Key"), r.form.Get("TransitiveTagKeys.member.1")))
		}
		if diff := cmp.Diff(got, []string{"GitHubRunIdRunId", "GitHub", "GitHub"}); diff != "" {
			t.Errorf("tags of the requests (-got +want):\n%s", diff)
		}
		if len(fake.notices) != 1 {
			t.Errorf("notices: got %q, want one", fake.notices)
		}
	})
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ region, host, audience string }{
		"aws":        {"eu-west-1", "sts.eu-west-1.amazonaws.com", "sts.amazonaws.com"},
		"aws-cn":     {"cn-north-1", "sts.cn-north-1.amazonaws.com.cn", "sts.amazonaws.com.cn"},
		"aws-us-gov": {"us-gov-west-1", "sts.us-gov-west-1.amazonaws.com", "sts.amazonaws.com"},
		"aws-iso":    {"us-iso-east-1", "sts.us-iso-east-1.c2s.ic.gov", "sts.amazonaws.com"},
		"aws-iso-b":  {"us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov", "sts.amazonaws.com"},
		"aws-iso-e":  {"eu-isoe-west-1", "sts.eu-isoe-west-1.cloud.adc-e.uk", "sts.amazonaws.com"},
		"aws-iso-f":  {"us-isof-south-1", "sts.us-isof-south-1.csp.hci.ic.gov", "sts.amazonaws.com"},
		"aws-eusc":   {"eusc-de-east-1", "sts.eusc-de-east-1.amazonaws.eu", "sts.amazonaws.com"},
	}
	for partition, test := range tests {
		t.Run(partition, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake, opts := newFake()
				opts.Region, opts.Roles = test.region, []string{"arn:" + partition + ":iam::111122223333:role/deploy", "second"}
				session, err := Open(t.Context(), opts)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := session.ARN, "arn:"+partition+":sts::111122223333:assumed-role/second/towline-1-1"; got != want {
					t.Errorf("ARN: got %s, want %s", got, want)
				}
				if diff := cmp.Diff(fake.hosts(), []string{test.host, test.host}); diff != "" {
					t.Errorf("hosts (-got +want):\n%s", diff)
				}
				if got := string(readClaims(fake.presents[0]).Audience); got != test.audience {
					t.Errorf("audience: got %s, want %s", got, test.audience)
				}
			})
		})
	}
}

// A token file is read at each renewal, and a link in the workspace does not
// lead out of it.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "outside"), filepath.Join(workspace, "link")); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		put := func(name string) {
			token, err := fake.mint(map[string]any{"sub": "me"})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("workspace/token")
		put("outside")
		opts.TokenFile, opts.Workspace, opts.Duration = "token", workspace, 15*time.Minute
		session, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		wait(t, 12*time.Minute)
		put("workspace/token")
		if _, err := session.Config.Credentials.Retrieve(t.Context()); err != nil {
			t.Error(err)
		}
		if fake.sessions != 2 || len(fake.notices) > 0 {
			t.Errorf("got %d sessions, want 2; notices %q", fake.sessions, fake.notices)
		}
		opts.TokenFile = filepath.Join(dir, "outside")
		if _, err := Open(t.Context(), opts); err != nil && !strings.Contains(err.Error(), "Expired") {
			t.Error(err)
		}
		opts.TokenFile = "link"
		if _, err := Open(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "web-identity-token-file") {
			t.Errorf("got %v, want the link to be refused", err)
		}
	})
}

// Sessions last as long by AWS's clock, whatever this machine's says.
func TestSessionsEndByTheClockOfAWS(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake, opts := newFake()
				fake.ahead, opts.Duration = ahead, 15*time.Minute
				session, err := Open(t.Context(), opts)
				if err != nil {
					t.Fatal(err)
				}
				client := sts.NewFromConfig(session.Config)
				for range 60 {
					wait(t, time.Minute)
					if _, err = client.GetCallerIdentity(t.Context(), nil); err != nil {
						t.Fatal(err)
					}
				}
				if fake.sessions < 6 || fake.sessions > 8 {
					t.Errorf("got %d sessions in an hour, want about 7", fake.sessions)
				}
				now, err := session.Credentials(t.Context())
				if left := time.Until(now.Expires); err != nil || left < 5*time.Minute || left > 15*time.Minute {
					t.Errorf("the session ends in %s, %v", left, err)
				}
			})
		})
	}
}

// A session that others go on from: their roles are assumed with its
// credentials, in regions of their own, and it stays as it is.
func TestAssume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, opts := newFake()
		opts.Tags = []Tag{{Key: "team", Value: "shop"}}
		first, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		begun := len(fake.requests)
		opts.Region, opts.Roles = "us-east-1", nil
		elsewhere, err := first.Assume(t.Context(), opts)
		if err != nil || elsewhere.Config.Region != "us-east-1" || elsewhere.ARN != first.ARN || len(fake.requests) != begun {
			t.Errorf("another region: %+v with %d requests, error %v", elsewhere, len(fake.requests)-begun, err)
		}
		opts.Roles = []string{"arn:aws:iam::444455556666:role/second", "third"}
		other, err := first.Assume(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := other.Account+" "+other.ARN+" "+other.Config.Region, "444455556666 arn:aws:sts::444455556666:assumed-role/third/towline-1-1 us-east-1"; got != want {
			t.Errorf("identity is %q, want %q", got, want)
		}
		if requests := fake.requests[begun:]; len(requests) != 2 || requests[0].action != "AssumeRole" || requests[0].key != "ASIA1" || requests[1].key != "ASIA2" {
			t.Errorf("requests %+v", requests)
		}
		if first.Config.Region == "us-east-1" {
			t.Error("the first session has moved")
		}
		opts.AllowedAccounts = []string{"111122223333"}
		if _, err := first.Assume(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "444455556666") {
			t.Errorf("an account that is not allowed: error %v", err)
		}
	})
}
