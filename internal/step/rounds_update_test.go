package step_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// mostRounds is how many round trips a deployment that builds nothing may take one
// after another until ECS has answered UpdateService.
const mostRounds = 8

// whatWaits says why each round comes after the one before it.
const whatWaits = `Each round waits for the one before it:
1  the job's ID token
2  the role, for the token
3  the service and ECR's login, for the role's credentials
4  what the service runs, for the service; the image's manifest, for the login
5  what the task definition names, for that; the image's config, for the manifest
6  where the config is stored, for the answer that redirects there
7  the registration, for all that was looked at; the service and its deployments once more, beside it
8  the update, for the revision
What there is now:
`

// TestRoundsToUpdate counts the round trips from the start to UpdateService's answer,
// of a step that deploys an image which is there. Time is virtual: what Towline itself
// takes is none here.
func TestRoundsToUpdate(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the step's folder keeps owners, which needs root")
	}
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	writeFile(t, filepath.Join(workspace, "README.md"), []byte("an image is there already\n"))
	env := environment(dir, workspace)
	for name, value := range defaults() {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	env["INPUT_REPOSITORY"], env["INPUT_TAGS"] = "", ""
	env["INPUT_IMAGE"] = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v9"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, env, "taken v9", everything)
		w.nameEverything(t)
		w.cancelAt = "started    deployment"
		begin := time.Now()
		w.skipCalls = len(w.cloud.Calls())
		w.latency = latency
		w.run(t)
		var trace strings.Builder
		updated := 0
		for _, call := range w.cloud.Calls()[w.skipCalls:] {
			n := int(call.Time.Sub(begin) / latency)
			fmt.Fprintf(&trace, "%d  %s %s\n", n, call.Service, call.Action)
			if call.Action == "UpdateService" {
				updated = n
			}
		}
		if updated == 0 || updated > mostRounds {
			t.Errorf("UpdateService was answered after %d round trips, want 1 to %d. %s%s", updated, mostRounds, whatWaits, trace.String())
		}
		t.Logf("UpdateService was answered after %d round trips:\n%s", updated, trace.String())
		settle(t)
	})
}
