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
// after another until ECS has answered UpdateService. The goal is 8: what is not yet
// done side by side is in docs/performance.md.
const mostRounds = 12

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
			t.Errorf("UpdateService was answered after %d round trips, want 1 to %d:\n%s", updated, mostRounds, trace.String())
		}
		t.Logf("UpdateService was answered after %d round trips", updated)
		settle(t)
	})
}
