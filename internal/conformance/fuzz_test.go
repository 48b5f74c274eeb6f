package conformance

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/imagetest"
)

var (
	fuzzFor  = flag.Duration("fuzz-for", 0, "TestDifferential: how long to make up Dockerfiles")
	fuzzSeed = flag.Uint64("fuzz-seed", 1, "TestDifferential: the seed of the first Dockerfile")
	fuzzOf   = flag.String("fuzz-of", "", "TestDifferential: a folder of kept Dockerfiles to build again, in place of new ones")
	fuzzKeep = flag.String("fuzz-keep", "", "TestDifferential: a folder for the Dockerfiles on which the builders differ")
)

// batch is how many Dockerfiles go to a worker at once.
const batch = 24

// TestDifferential makes Dockerfiles up and compares what BuildKit and Towline, in
// namespaces and in place, make of them:
//
//	go test ./internal/conformance -run TestDifferential -timeout 0 -fuzz-for 1h
//
// With -fuzz-of it builds those again that an earlier run kept.
func TestDifferential(t *testing.T) {
	if *fuzzFor == 0 && *fuzzOf == "" {
		t.Skip("runs for as long as -fuzz-for says")
	}
	requireDocker(t)
	s := newSuite(t)
	s.describe(t, imagetest.Describer{Names: s.bases.contents, Context: contextTime(), NoAttributes: true})
	o := startOracle(t, s)
	end := time.Now().Add(*fuzzFor)
	built, failing, different := 0, 0, 0
	for seed := *fuzzSeed; time.Now().Before(end) || *fuzzOf != "" && built == 0; seed += batch {
		cases := madeUp(t, seed)
		if *fuzzOf != "" {
			cases = casesIn(t, *fuzzOf)
		}
		dir := t.TempDir()
		for _, c := range cases {
			writeCase(t, filepath.Join(dir, "namespaces", "cases"), c)
			writeCase(t, filepath.Join(dir, "in-place", "cases"), c)
		}
		todo := order{Server: s.server, Contents: s.bases.contents, NoAttributes: true, Names: slices.Sorted(maps.Keys(cases))}
		wanted := o.buildAll(t, dir, cases)
		todo.Sandbox = sandbox.Namespaces
		inNamespaces := s.outcomes(t, filepath.Join(dir, "namespaces"), todo, s.inNamespaces)
		todo.Sandbox = sandbox.InPlace
		inPlace := s.outcomes(t, filepath.Join(dir, "in-place"), todo, s.inContainer)
		for _, name := range todo.Names {
			built++
			if wanted[name].Error != "" {
				failing++
			}
			a := disagree(t, cases[name], "namespaces", inNamespaces[name], wanted[name])
			b := disagree(t, cases[name], "in place", inPlace[name], wanted[name])
			if a || b {
				different++
				keepMadeUp(t, cases[name])
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d Dockerfiles, of which BuildKit refuses %d; the builders differ on %d", built, failing, different)
	}
}

func madeUp(t *testing.T, seed uint64) map[string]*testCase {
	t.Helper()
	cases := map[string]*testCase{}
	for i := range uint64(batch) {
		name := fmt.Sprintf("fuzz-%d", seed+i)
		c, err := newCase(name, makeUp(seed+i))
		if err != nil {
			t.Fatal(err)
		}
		cases[name] = c
	}
	return cases
}

func (o *oracle) buildAll(t *testing.T, dir string, cases map[string]*testCase) map[string]*outcome {
	t.Helper()
	wanted := make(map[string]*outcome, len(cases))
	for name := range cases {
		wanted[name] = &outcome{}
	}
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for name, c := range cases {
		group.Go(func() error {
			*wanted[name] = *o.build(t.Context(), c, filepath.Join(dir, "oracle", name))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return wanted
}

// disagree reports a difference.
func disagree(t *testing.T, c *testCase, where string, got, want *outcome) bool {
	t.Helper()
	switch {
	case got == nil:
		t.Errorf("%s, %s: the worker ended before it", c.name, where)
	case got.Text != want.Text:
		dockerfile, _ := c.file("Dockerfile")
		t.Errorf("%s, %s:\n%s\nBuildKit's -, Towline's +:\n%s\n%s\n%s", c.name, where, dockerfile,
			cmp.Diff(strings.Split(want.Text, "\n"), strings.Split(got.Text, "\n")), lastLine(want.Error), lastLine(got.Error))
	default:
		return false
	}
	return true
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}

func keepMadeUp(t *testing.T, c *testCase) {
	t.Helper()
	if *fuzzKeep == "" {
		return
	}
	if err := writeFile(filepath.Join(*fuzzKeep, c.name+".txtar"), txtar.Format(c.archive)); err != nil {
		t.Fatal(err)
	}
}
