package conformance

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/imagetest"
)

var (
	update = flag.Bool("update", false, "TestExpected: rewrite the expected results with BuildKit's")
	accept = flag.String("accept", "", "TestNamespaces, TestInPlace: keep Towline's results as those of \"towline\" or of a sandbox")
	verify = flag.Bool("verify", false, "TestExpected: compare the expected results with BuildKit's")
	only   = flag.String("case", "", "build only the cases whose name matches this expression")
)

func TestMain(m *testing.M) {
	if code, ok := sandbox.Main(os.Args); ok {
		os.Exit(code) //nolint:forbidigo // a main
	}
	if len(os.Args) == 3 && os.Args[1] == workerArg {
		os.Exit(work(os.Args)) //nolint:forbidigo // a main
	}
	m.Run()
}

// caseDir holds the archives.
const caseDir = "../../testdata/conformance"

// environ reads a setting of the tests.
func environ(name string) string {
	return os.Getenv(name) //nolint:forbidigo // The tests are started from a shell: nobody above could hand these over.
}

// unfit skips a test on a machine that cannot run it, which CI's must.
func unfit(t *testing.T, reason string) {
	t.Helper()
	if environ("TOWLINE_CI") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// suite is what all tests here need: bases, and the file server.
type suite struct {
	bases     *bases
	describer *imagetest.Describer
	// dir holds the bases' layout in "bases".
	dir    string
	server string
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	if os.Geteuid() != 0 {
		unfit(t, "images keep owners and devices, which needs root")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the expected results are those of an amd64 machine")
	}
	b, err := makeBases(t.Context())
	if err != nil {
		unfit(t, err.Error())
	}
	s := &suite{bases: b, dir: t.TempDir()}
	if err = b.save(filepath.Join(s.dir, "bases")); err != nil {
		t.Fatal(err)
	}
	s.describe(t, imagetest.Describer{Names: b.contents, Context: contextTime()})
	s.server = "http://" + serve(t, address(t), fileServer(t))
	return s
}

// describe sets how BuildKit's images are described.
func (s *suite) describe(t *testing.T, d imagetest.Describer) {
	t.Helper()
	s.describer = &d
	for _, name := range s.bases.names {
		if err := d.AddBase(name, s.bases.images[name]); err != nil {
			t.Fatal(err)
		}
	}
}

func loadCases(t *testing.T) map[string]*testCase {
	t.Helper()
	return casesIn(t, caseDir)
}

func casesIn(t *testing.T, dir string) map[string]*testCase {
	t.Helper()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	cases := map[string]*testCase{}
	for _, file := range files {
		c, err := loadCase(file)
		if err != nil {
			t.Fatal(err)
		}
		if wanted.MatchString(c.name) {
			cases[c.name] = c
		}
	}
	return cases
}

// Namespaces build every case as BuildKit does.
func TestNamespaces(t *testing.T) {
	s := newSuite(t)
	s.compare(t, sandbox.Namespaces, loadCases(t), s.inNamespaces)
}

// So does one container with the rights of a container action.
func TestInPlace(t *testing.T) {
	requireDocker(t)
	s := newSuite(t)
	s.compare(t, sandbox.InPlace, loadCases(t), s.inContainer)
}

// compare lets a worker build all cases and holds the outcomes against what was expected.
func (s *suite) compare(t *testing.T, box string, cases map[string]*testCase, run func(*testing.T, order)) {
	t.Helper()
	begin := time.Now()
	o := order{Sandbox: box, Server: s.server, Contents: s.bases.contents}
	dir := t.TempDir()
	for name, c := range cases {
		o.Names = append(o.Names, name)
		writeCase(t, filepath.Join(dir, "cases"), c)
	}
	outcomes := s.outcomes(t, dir, o, run)
	t.Logf("%d cases in %s", len(outcomes), time.Since(begin).Round(time.Second))
	for _, name := range o.Names {
		t.Run(name, func(t *testing.T) {
			c, out := cases[name], outcomes[name]
			if out == nil {
				t.Fatal("the worker ended before this case")
			}
			if *accept != "" {
				c.keep(t, wantFile+"."+*accept, out.Text)
				return
			}
			if err := c.check(out, c.refused(box)); err != nil {
				t.Fatal(err)
			}
			want, ok := c.wanted(box)
			if !ok {
				t.Fatalf("no expected result: make it with -run TestExpected -update")
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out.Text, "\n")); diff != "" {
				t.Errorf("BuildKit's -, Towline's +:\n%s", diff)
			}
		})
	}
}

func writeCase(t *testing.T, dir string, c *testCase) {
	t.Helper()
	if err := writeFile(filepath.Join(dir, c.name+".txtar"), txtar.Format(c.archive)); err != nil {
		t.Fatal(err)
	}
}

// outcomes lets a worker obey an order for the cases in dir/cases.
func (s *suite) outcomes(t *testing.T, dir string, o order, run func(*testing.T, order)) map[string]*outcome {
	t.Helper()
	o.Cases, o.Bases, o.Results, o.Work = filepath.Join(dir, "cases"), filepath.Join(s.dir, "bases"), filepath.Join(dir, "results"), filepath.Join(dir, "work")
	for _, sub := range []string{o.Cases, o.Results, o.Work} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, o)
	outcomes := map[string]*outcome{}
	for _, name := range o.Names {
		if out, err := loadOutcome(filepath.Join(o.Results, name+".json")); err == nil {
			outcomes[name] = out
		}
	}
	return outcomes
}

func (s *suite) inNamespaces(t *testing.T, o order) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Jobs = runtime.NumCPU()
	out, err := exec.CommandContext(t.Context(), exe, workerArg, writeOrder(t, filepath.Dir(o.Cases), o)).CombinedOutput()
	if err != nil {
		t.Errorf("worker: %v\n%s", err, out)
	}
}

func writeOrder(t *testing.T, dir string, o order) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "order.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// BuildKit's results are those that are kept. Write them with -update, and review
// the difference.
func TestExpected(t *testing.T) { //nolint:tparallel // before others take the machine
	if !*update && !*verify {
		t.Skip("asks BuildKit, for some minutes, for what the cases hold already; runs with -update or -verify")
	}
	cases := loadCases(t)
	s := newSuite(t)
	o := startOracle(t, s)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := o.build(t.Context(), c, t.TempDir())
			if err := c.check(out, c.one("buildkit-refuses", "")); err != nil {
				t.Fatal(err)
			}
			want, _ := c.file(wantFile)
			if *update {
				c.keep(t, wantFile, out.Text)
				return
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out.Text, "\n")); diff != "" {
				t.Errorf("kept -, BuildKit's +:\n%s", diff)
			}
		})
	}
}

// keep writes a file of the case's archive.
func (c *testCase) keep(t *testing.T, name, text string) {
	t.Helper()
	kept := false
	for i, f := range c.archive.Files {
		if f.Name == name {
			c.archive.Files[i].Data, kept = []byte(text), true
		}
	}
	if !kept {
		c.archive.Files = append(c.archive.Files, txtar.File{Name: name, Data: []byte(text)})
	}
	if err := os.WriteFile(filepath.Join(caseDir, c.name+".txtar"), txtar.Format(c.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Whoever reads the docs finds every difference that the suite accepts.
func TestDifferencesAreListed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/dockerfile-support.md")
	if err != nil {
		t.Fatal(err)
	}
	_, listed, _ := strings.Cut(string(text), "\n## Known differences\n")
	cases := loadCases(t)
	for name, c := range cases {
		if c.differs() != strings.Contains(listed, "`"+name+"`") {
			t.Errorf("%s: differs from BuildKit: %v, which docs/dockerfile-support.md does not say", name, c.differs())
		}
	}
	for _, match := range regexp.MustCompile("(?m)^\\| `([a-z][a-z0-9-]+)`").FindAllStringSubmatch(listed, -1) {
		if cases[match[1]] == nil && *only == "" {
			t.Errorf("docs/dockerfile-support.md names %s, which is no case", match[1])
		}
	}
}
