package rehearse_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/rehearse"
	"github.com/towline/towline/internal/step"
)

// TestMain is also what a RUN step starts, and keeps the SDK from the settings
// of whoever runs the tests.
func TestMain(m *testing.M) {
	if code, ok := sandbox.Main(os.Args); ok {
		os.Exit(code) //nolint:forbidigo // it is a RUN's process, not a test
	}
	for _, entry := range os.Environ() { //nolint:forbidigo // to clear it
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	_ = os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	_ = os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	// Rehearsals wait for the clock, not for the processor.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = parallel.Value.Set("16")
	}
	m.Run()
}

// output is written by the step and read after it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// perform rehearses as main does, and gives the exit code and all output.
func perform(t *testing.T, args ...string) (int, string) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out output
	code := rehearse.Run(rehearse.Options{
		Args: args, Demo: os.DirFS("../../testdata/demo"), Setenv: func(map[string]string) {},
		Step: step.Options{Stdout: &out, Executable: executable, Getenv: func(name string) string {
			if name == "PATH" {
				return "/usr/sbin:/usr/bin:/sbin:/bin"
			}
			return ""
		}},
		Run: func(opts step.Options) int {
			s := step.New(opts)
			code := s.End(s.Ship(t.Context()))
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			return code
		},
	})
	return code, out.text.String()
}

// requireRoot skips what builds an image: a build keeps owners.
func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
		t.Fatal("TOWLINE_CI=1 wants builds to be tested, which needs root")
	}
	t.Skip("building keeps owners, which needs root")
}

// repository writes the files of a txtar archive into a folder.
func repository(t *testing.T, files string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(files)).Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func check(t *testing.T, code int, text string, wantCode int, want []string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("got exit code %d, want %d", code, wantCode)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("the output has no %q", w)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

const (
	plays  = "REHEARSAL: GitHub and AWS are played by an emulator on this machine. Nothing is deployed."
	worked = "REHEARSAL: the deployment would have worked."
	failed = "REHEARSAL: the deployment would have failed, as shown above. Nothing was deployed."
)

func TestDemo(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	code, text := perform(t)
	check(t, code, text, 0, []string{plays, worked, "67 out/index.html", "deployment-status", "succeeded"})
}

func TestFolder(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	dir := repository(t, "-- Dockerfile --\nFROM scratch\nCOPY hello.txt /\n-- hello.txt --\nhello\n")
	code, text := perform(t, dir)
	check(t, code, text, 0, []string{
		plays, worked, "[1/1] COPY hello.txt /",
		"111122223333.dkr.ecr.eu-central-1.amazonaws.com/rehearsal:4e5d1f7a90b3@sha256:",
	})
}

func TestWorkflow(t *testing.T) {
	t.Parallel()
	const dockerfile = "-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n"
	// head is a workflow up to the inputs.
	const head = "-- .github/workflows/deploy.yml --\nenv: {STAGE: prod}\njobs:\n  deploy:\n    steps:\n" +
		"      - uses: actions/checkout@v6\n      - uses: towline/towline@v1\n        with:\n"
	tests := map[string]struct {
		with, files string
		code        int
		want        []string
		root        bool
	}{
		"everything by expressions": {
			with: `          aws-region: ${{ vars.REGION }}
          role-to-assume: ${{ secrets.ROLE }}
          repository: shop
          tags: ${{ env.STAGE }}-${{ github.sha }}
          service: ${{ vars.SERVICE }}
          wait-for-minutes: 5
          push: true
          build-args: |
            BUILD=${{ github.run_number }}
`,
			files: dockerfile, root: true,
			want: []string{
				"input service: ${{ vars.SERVICE }} is known to GitHub only; the rehearsal takes \"rehearsal\"", "service rehearsal",
				".amazonaws.com/shop:prod-4e5d1f7a90b3c2d8e6f1a0b9c8d7e6f5a4b3c2d1@sha256:", worked,
			},
		},
		"full names in another account and region": {
			with: `          role-to-assume: arn:aws:iam::222233334444:role/ci/deploy
          tags: 222233334444.dkr.ecr.us-west-2.amazonaws.com/team/shop:v1
          service: arn:aws:ecs:us-west-2:222233334444:service/prod/web
          container-name: site
`,
			files: dockerfile, root: true,
			want: []string{
				"assumed-role/deploy/", "account 222233334444", "us-west-2", "cluster prod", "container site",
				"222233334444.dkr.ecr.us-west-2.amazonaws.com/team/shop:v1@sha256:", worked,
			},
		},
		"keys, and a role by name": {
			with: `          aws-region: eu-west-1
          aws-access-key-id: ${{ secrets.KEY }}
          aws-secret-access-key: ${{ secrets.SECRET }}
          role-to-assume: deploy
          image: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop:v7
          service: web
`,
			want: []string{"assumed-role/deploy/", "shop:v7@sha256:", worked},
		},
		"task definition from a file": {
			with: `          role-to-assume: arn:aws:iam::222233334444:role/deploy
          aws-region: eu-west-1
          image: ghcr.io/acme/shop:v7
          service: web
          task-definition: ecs/web.json
          container-name: site
`,
			files: `-- ecs/web.json --
{"family": "shop", "networkMode": "awsvpc", "cpu": "256", "memory": "512", "requiresCompatibilities": ["FARGATE"],
 "containerDefinitions": [{"name": "site", "image": "x", "essential": true,
  "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/acme/web", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "x"}}}]}
`,
			want: []string{"task-definition/shop:2", `"x" -> "ghcr.io/acme/shop:v7"`, worked},
		},
		"only to another registry": {
			with: `          tags: ghcr.io/acme/shop:v1
          registry-credentials: ghcr.io=bot:${{ secrets.GITHUB_TOKEN }}
`,
			files: dockerfile, root: true,
			want: []string{"ghcr.io is played too", "a password is known to GitHub only; the rehearsal takes no login", "pushed     tag ghcr.io/acme/shop:v1", worked},
		},
		"to Docker Hub":          {with: "          tags: acme/shop:v1\n", files: dockerfile, code: 1, want: []string{"Docker Hub", "Rehearse with a tag of another registry"}},
		"unknown input":          {with: "          servce: web\n", code: 1, want: []string{`input "servce" does not exist`, "docs/inputs.md"}},
		"two accounts":           {with: "          role-to-assume: arn:aws:iam::222233334444:role/x\n          service: arn:aws:ecs:us-west-2:333344445555:service/prod/web\n", code: 1, want: []string{"account 333344445555, another input of account 222233334444"}},
		"China":                  {with: "          role-to-assume: arn:aws-cn:iam::222233334444:role/x\n", code: 1, want: []string{"aws-cn is not played"}},
		"a mistake in an input":  {with: "          push: perhaps\n", code: 1, want: []string{`input "push" is "perhaps"`, failed}},
		"a role's name, no keys": {with: "          role-to-assume: deploy\n          aws-region: eu-west-1\n          image: ghcr.io/acme/shop:v7\n          service: web\n", code: 1, want: []string{"role", failed}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.root {
				requireRoot(t)
			}
			dir := repository(t, head+tt.with+tt.files)
			code, text := perform(t, "--workflow", filepath.Join(dir, ".github", "workflows", "deploy.yml"))
			check(t, code, text, tt.code, append(tt.want, plays))
		})
	}
}

// A workflow's path may be from the repository, which may be given.
func TestWorkflowInFolder(t *testing.T) {
	t.Parallel()
	dir := repository(t, "-- .github/workflows/deploy.yml --\njobs: {a: {steps: [{uses: ./, with: {push: perhaps}}]}}\n")
	code, text := perform(t, "--workflow", ".github/workflows/deploy.yml", dir)
	check(t, code, text, 1, []string{plays, `input "push" is "perhaps"`, failed})
}

func TestWorkflowThatIsNone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file string
		want []string
	}{
		"not YAML": {"jobs: [", []string{"read workflow", "Correct the file."}},
		"no step":  {"jobs: {a: {steps: [{run: make}]}}", []string{"no step uses towline/towline"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(repository(t, "-- w.yml --\n"+tt.file+"\n"), "w.yml")
			code, text := perform(t, "--workflow", file)
			check(t, code, text, 1, tt.want)
		})
	}
	code, text := perform(t, "--workflow", filepath.Join(t.TempDir(), "none.yml"))
	check(t, code, text, 1, []string{"no such file or directory. Name a workflow file"})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		code int
		want string
	}{
		"help":         {[]string{"-h"}, 0, "Usage: towline rehearse"},
		"unknown flag": {[]string{"--frobnicate"}, 2, "-frobnicate"},
		"two folders":  {[]string{"a", "b"}, 2, "more than one folder: a, b"},
		"no folder":    {[]string{"/no/such/folder"}, 1, "no such folder"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, text := perform(t, tt.args...)
			check(t, code, text, tt.code, []string{tt.want})
		})
	}
}
