package enginetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/towline/towline/internal/imagetest"
)

// The main job on two repositories, as on GitHub: built in the runner's container,
// pushed, deployed; the image equals BuildKit's, and what it holds answers.
func TestDeploy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		source string
		with   map[string]string
		args   map[string]string
		// path is asked for in the started image, want is in the answer. Without a
		// path the image runs to its end, and want is in its output.
		path, want string
		// varies says which files no two builds make alike.
		varies func(path string) bool
	}{
		"shop": {
			source: filepath.Join("..", "..", "testdata", "engine", "shop"),
			with:   map[string]string{"build-args": "GREETING=greetings"},
			args:   map[string]string{"GREETING": "greetings"},
			path:   "/", want: "<h1>greetings from the shop</h1>",
		},
		"demo": {
			source: filepath.Join("..", "..", "testdata", "demo"),
			want:   "Hello from Towline",
		},
		"spring-boot": {
			source: filepath.Join("..", "..", "testdata", "spring-boot"),
			path:   "/?name=engine", want: `{"message":"Hello, engine!","user":"app"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := requireEngine(t)
			c := newCloud(t, e)
			workspace := checkout(t, tt.source)
			since := time.Now()
			r := e.run(t, c.job(e, workspace, tt.with))
			if r.Code != 0 {
				t.Fatalf("got exit code %d, want 0", r.Code)
			}
			if !strings.Contains(r.Log, "in place") {
				t.Error("log does not say that the sandbox was in place")
			}
			t.Logf("built, pushed and deployed in %s", r.Took.Round(time.Millisecond))
			img := c.checkDeployed(t, r)
			checkAnswer(t, img, tt.path, tt.want)

			theirs := startBuildkit(t, e).build(t, workspace, tt.args)
			diffs, err := imagetest.Compare(img, theirs, imagetest.CompareOptions{Since: since, AnyContent: tt.varies})
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
		})
	}
}

// checkDeployed holds the step's outputs against what the account has, and gives
// the image that runs now.
func (c *cloud) checkDeployed(t *testing.T, r result) v1.Image {
	t.Helper()
	digest := r.Outputs["digest"]
	host := strings.TrimPrefix(c.url, "http://")
	want := map[string]string{
		"image":             host + "/shop:",
		"digest":            "sha256:",
		"imageid":           "sha256:",
		"tags":              host + "/shop:",
		"deployment-id":     "ecs-svc/",
		"deployment-status": "succeeded",
	}
	for output, prefix := range want {
		if got := r.Outputs[output]; !strings.HasPrefix(got, prefix) {
			t.Errorf("output %s: got %q, want %q at its beginning", output, got, prefix)
		}
	}
	reference := r.Outputs["image"]
	if !strings.HasSuffix(reference, "@"+digest) {
		t.Fatalf("output image: got %q, want digest %q at its end", reference, digest)
	}
	if r.Env != "" {
		t.Errorf("GITHUB_ENV: got %q, want nothing", r.Env)
	}
	var registered struct {
		ContainerDefinitions []struct {
			Name, Image        string
			FieldFromTheFuture struct{ Kept bool }
		}
	}
	calls := c.Called("ecs", "RegisterTaskDefinition")
	if len(calls) != 1 {
		t.Fatalf("got %d RegisterTaskDefinition calls, want 1", len(calls))
	}
	if err := json.Unmarshal(calls[0].Request, &registered); err != nil {
		t.Fatal(err)
	}
	app := registered.ContainerDefinitions[0]
	if app.Image != reference || !app.FieldFromTheFuture.Kept {
		t.Errorf("registered container: got %+v, want image %s and the field that nobody knows yet", app, reference)
	}
	img := c.image(t, reference)
	if id, err := img.ConfigName(); err != nil || id.String() != r.Outputs["imageid"] {
		t.Errorf("output imageid: got %q, want %s (%v)", r.Outputs["imageid"], id, err)
	}
	return img
}

// checkAnswer starts an image under Docker and asks the first port that it exposes
// for a page, or the image for its output.
func checkAnswer(t *testing.T, img v1.Image, path, want string) {
	t.Helper()
	tag, err := name.NewTag("towline-enginetest-" + unique(t) + ":latest")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err = tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) string {
		t.Helper()
		out, runErr := command(t.Context(), "docker", args...)
		if runErr != nil {
			t.Fatal(runErr)
		}
		return strings.TrimSpace(out)
	}
	docker("load", "--quiet", "--input", file)
	if path == "" {
		if got := docker("run", "--rm", tag.String()); !strings.Contains(got, want) {
			t.Errorf("output: got %q, want %q in it", got, want)
		}
		docker("rmi", tag.String())
		return
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	ports := slices.Sorted(maps.Keys(config.Config.ExposedPorts))
	if len(ports) == 0 {
		t.Fatal("image exposes no port")
	}
	// Docker lets everybody have ports below 1024, the kernel and Amazon ECS do not.
	id := docker("run", "--detach", "--sysctl", "net.ipv4.ip_unprivileged_port_start=1024",
		"--publish", "127.0.0.1::"+ports[0], tag.String())
	t.Cleanup(func() {
		// t.Context has ended here.
		logs, _ := exec.Command("docker", "logs", id).CombinedOutput() //nolint:noctx // a clean-up has none
		if t.Failed() {
			t.Logf("the started image's log:\n%s", tail(string(logs), 20))
		}
		_ = exec.Command("docker", "rm", "--force", "--volumes", id).Run() //nolint:noctx // a clean-up has none
		_ = exec.Command("docker", "rmi", "--force", tag.String()).Run()   //nolint:noctx // a clean-up has none
	})
	address, _, _ := strings.Cut(docker("port", id, ports[0]), "\n")
	got, err := get(t.Context(), "http://"+address+path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, want) {
		t.Errorf("GET %s: got %q, want %q in it", path, got, want)
	}
}

// What a RUN can learn and leave behind, in the very container that also holds the
// credentials.
func TestHostileRun(t *testing.T) {
	t.Parallel()
	e := requireEngine(t)
	c := newCloud(t, e)
	workspace := checkout(t, filepath.Join("..", "..", "testdata", "engine", "hostile"))
	r := e.run(t, c.job(e, workspace, map[string]string{"service": "", "cluster": "", "container-name": ""}))
	if r.Code != 0 {
		t.Fatalf("got exit code %d, want 0", r.Code)
	}
	img := c.image(t, r.Outputs["image"])
	files := contents(t, img, "leak/")
	_, token := c.IDTokenRequest(c.url)
	for name, text := range files {
		for _, secret := range []string{runtimeToken, roleName, token, "INPUT_", "GITHUB_", "ACTIONS_", "AWS_"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: a RUN has seen %s:\n%s", name, secret, tail(text, 20))
			}
		}
	}
	if len(files["leak/mem-1"]) > 0 {
		t.Errorf("a RUN has read %d bytes of process 1's memory", len(files["leak/mem-1"]))
	}
	for _, evil := range []string{"192.0.2.66", "evil"} {
		if strings.Contains(files["leak/etc"], evil) {
			t.Errorf("a later RUN sees %s in /etc:\n%s", evil, files["leak/etc"])
		}
	}
	if before, after := files["leak/before"], files["leak/after"]; before != after || before == "" {
		t.Errorf("daemon's file: got %q bytes, then %q: it outlived its RUN, or never ran\n%s", before, after, files["leak/ps"])
	}
	if strings.Contains(r.Env+fmt.Sprint(r.Outputs)+r.Summary, "evil") {
		t.Errorf("a RUN wrote the runner's files: env %q, outputs %q, summary %q", r.Env, r.Outputs, r.Summary)
	}
	event := filepath.Join(filepath.Dir(filepath.Dir(workspace)), "_temp", "_github_workflow", "event.json")
	if text, err := os.ReadFile(event); err != nil || string(text) != "{}\n" {
		t.Errorf("event.json: got %q (%v), want it as it was", text, err)
	}
	checkCommandsStopped(t, r.Log)
}

// checkCommandsStopped reads a log as the runner does: between ::stop-commands::TOKEN
// and ::TOKEN:: nothing is a command.
func checkCommandsStopped(t *testing.T, log string) {
	t.Helper()
	stopped := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		token, stops := strings.CutPrefix(line, "::stop-commands::")
		switch {
		case stopped != "" && line == "::"+stopped+"::":
			stopped = ""
		case stopped == "" && stops:
			stopped = token
		case stopped != "":
		case strings.HasPrefix(line, "::set-output") || strings.HasPrefix(line, "::add-mask::busybox") ||
			strings.HasPrefix(line, "::error::forged") || strings.Contains(line, "##[error]forged"):
			t.Errorf("a RUN's output is a command to the runner: %q", line)
		}
	}
	if stopped != "" {
		t.Error("commands are stopped at the log's end")
	}
}

// contents reads an image's files below a prefix.
func contents(t *testing.T, img v1.Image, prefix string) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, layer := range layers {
		rc, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if err := imagetest.ReadTar(rc, prefix, files); err != nil {
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
