package step_test

import (
	"bytes"
	"net/url"
	"testing"
	"time"

	"github.com/towline/towline/internal/emulator"
)

// TestThreeHours deploys for more than three hours with sessions of 15 minutes:
// each is renewed in time, with a new ID token, all along a chain of roles.
func TestThreeHours(t *testing.T) {
	t.Parallel()
	const ci = "arn:aws:iam::999999999999:role/ci"
	tests := map[string]struct {
		roles, world string
		hops         []string
	}{
		"one role": {
			roles: "arn:aws:iam::123456789012:role/deploy", world: "",
			hops: []string{"AssumeRoleWithWebIdentity arn:aws:iam::123456789012:role/deploy"},
		},
		"a chain of three": {
			roles: ci + "\narn:aws:iam::123456789012:role/middle\ndeploy",
			world: `role {"Name": "ci", "Account": "999999999999", "Subject": "repo:acme/shop:*"}
				role {"Name": "middle", "AWS": "` + ci + `", "Tags": true}
				deploy-role {"AWS": "arn:aws:iam::123456789012:role/middle", "Tags": true}`,
			hops: []string{
				"AssumeRoleWithWebIdentity " + ci,
				"AssumeRole arn:aws:iam::123456789012:role/middle",
				"AssumeRole arn:aws:iam::123456789012:role/deploy",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, map[string]string{
				"repository": "", "tags": "", "image": "registry.example.com/shop:v2",
				"role-to-assume": test.roles, "role-duration-seconds": "900", "wait-for-minutes": "600",
			})
			bubble(t, func(t *testing.T) {
				t.Helper()
				w := newWorld(t, env, "pace 50m\n"+test.world, "")
				start := time.Now()
				if code := w.run(t); code != 0 {
					t.Fatalf("got exit code %d, want 0:\n%s", code, w.log.String())
				}
				if took := time.Since(start); took < 3*time.Hour {
					t.Fatalf("the deployment took %s, want more than three hours", took)
				}
				checkRenewals(t, w.cloud.Calls(), test.hops, time.Since(start))
				if text := w.log.String(); bytes.Contains([]byte(text), []byte("note ")) {
					t.Errorf("the user is told of renewals:\n%s", text)
				}
				settle(t)
			})
		})
	}
}

// checkRenewals wants as many sessions of each role as their time needs, and no
// refusal of an old one.
func checkRenewals(t *testing.T, calls []emulator.Call, hops []string, took time.Duration) {
	t.Helper()
	sessions := map[string]int{}
	tokens := map[string]bool{}
	for _, call := range calls {
		if call.ErrorCode != "" {
			t.Errorf("%s %s: %s", call.Service, call.Action, call.ErrorCode)
		}
		form, err := url.ParseQuery(string(call.Request))
		if call.Service != "sts" || err != nil {
			continue
		}
		sessions[call.Action+" "+form.Get("RoleArn")]++
		if token := form.Get("WebIdentityToken"); token != "" && tokens[token] {
			t.Error("an ID token was presented twice")
		} else if token != "" {
			tokens[token] = true
		}
	}
	// A session is used for the ten minutes before the last five.
	want := int(took / (10 * time.Minute))
	for _, hop := range hops {
		if got := sessions[hop]; got < want-1 || got > want+2 {
			t.Errorf("%s: got %d sessions in %s, want about %d", hop, got, took, want)
		}
		delete(sessions, hop)
	}
	if len(sessions) > 0 {
		t.Errorf("further calls of STS: %v", sessions)
	}
}
