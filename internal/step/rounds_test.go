package step_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// latency is how long each request takes in TestRounds, in the round trips of
// which it counts.
const latency = 50 * time.Millisecond

// TestRounds counts the round trips of credentials and pre-flight together. The
// trace in testdata/rounds.txt shows which requests share one.
func TestRounds(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("building keeps owners, which needs root")
	}
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	writeFile(t, filepath.Join(workspace, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"))
	env := environment(dir, workspace)
	for name, value := range defaults() {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	var trace strings.Builder
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, env, "", everything)
		w.nameEverything(t)
		w.cancelAt = "done       Pre-flight"
		begin := time.Now()
		w.skipCalls = len(w.cloud.Calls())
		w.latency = latency
		w.run(t)
		took := w.cancelledAt.Sub(begin)
		rounds := map[int][]string{}
		for _, call := range w.cloud.Calls()[w.skipCalls:] {
			if !call.Time.After(w.cancelledAt) {
				n := int(call.Time.Sub(begin) / latency)
				rounds[n] = append(rounds[n], call.Service+" "+call.Action)
			}
		}
		for _, n := range slices.Sorted(maps.Keys(rounds)) {
			slices.Sort(rounds[n])
			fmt.Fprintf(&trace, "%d  %s\n", n, strings.Join(rounds[n], "\n   "))
		}
		if most := 6 * latency; took > most {
			t.Errorf("credentials and pre-flight took %s, more than %s", took, most)
		}
		settle(t)
	})
	const golden = "testdata/rounds.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(trace.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(trace.String(), "\n"), strings.Split(string(want), "\n")); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}
