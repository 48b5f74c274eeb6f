package enginetest

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/imagetest"
)

// world is a folder of testdata/worlds with a Dockerfile as people of that world
// write it.
type world struct {
	// settings are variables of the machine's own Go that become build arguments.
	settings []string
	// path is asked for in the started image, want is in the answer.
	path, want string
}

// Dockerfiles of different worlds are built in the runner's container from
// Debian-made bases, pushed, started, asked, and held against BuildKit's images.
// Spring Boot's is in TestDeploy.
func TestWorlds(t *testing.T) {
	t.Parallel()
	tests := map[string]world{
		"node":   {path: "/items/7", want: `{"id":"7","user":"node","env":"production"}`},
		"python": {path: "/", want: `{"prefix":"/venv","user":"appuser"}`},
		"go":     {path: "/quotes/zeno", want: "zeno, from user 10001", settings: []string{"GOFLAGS", "GOPROXY", "GOSUMDB"}},
		"debian": {path: "/", want: "<h1>Port 80 without root</h1>"},
		"static": {path: "/any/page", want: `<script type="module" crossorigin src="/assets/index-`},
	}
	e := requireEngine(t)
	bk := startBuildkit(t, e)
	if err := e.bases().Worlds(t.Context(), bk.daemon); err != nil {
		t.Fatal(err)
	}
	for name, w := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.check(t, bk, name)
		})
	}
}

func (w world) check(t *testing.T, bk *buildkit, name string) {
	t.Helper()
	c := newCloud(t, bk.engine)
	workspace := checkout(t, filepath.Join("..", "..", "testdata", "worlds", name))
	args := map[string]string{}
	var lines strings.Builder
	for _, variable := range w.settings {
		value, err := command(t.Context(), "go", "env", variable)
		if err != nil {
			t.Fatal(err)
		}
		args[variable] = strings.TrimSpace(value)
		lines.WriteString(variable + "=" + value)
	}
	since := time.Now()
	r := bk.engine.run(t, c.job(bk.engine, workspace, map[string]string{
		"service": "", "cluster": "", "container-name": "", "build-args": lines.String(),
	}))
	if r.Code != 0 {
		t.Fatalf("got exit code %d, want 0", r.Code)
	}
	if !strings.Contains(r.Log, "in place") {
		t.Error("log does not say that the sandbox was in place")
	}
	img := c.image(t, r.Outputs["image"])
	checkAnswer(t, img, w.path, w.want)

	from := time.Now()
	theirs := bk.build(t, workspace, args)
	t.Logf("built and pushed in %s, BuildKit took %s", r.Took.Round(time.Millisecond), time.Since(from).Round(time.Millisecond))
	diffs, err := imagetest.Compare(img, theirs, imagetest.CompareOptions{Since: since, AnyContent: varies})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range diffs {
		if i == 40 {
			t.Errorf("and %d more differences", len(diffs)-i)
			break
		}
		t.Errorf("against BuildKit: %.300s", d)
	}
}

// varies says which files no two builds make alike, whoever builds. All but their
// size and content is compared.
func varies(file string) bool {
	known := []string{
		// Python's bytecode holds its source's modification time.
		"*.pyc",
		// What dpkg, apt and update-alternatives did, with times.
		"var/log/*.log", "var/log/apt/*.log",
	}
	return slices.ContainsFunc(known, func(pattern string) bool {
		name := file
		if !strings.Contains(pattern, "/") {
			name = path.Base(file)
		}
		matched, err := path.Match(pattern, name)
		return err == nil && matched
	})
}
