package rehearse_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected results")

// rightWorkflow is one that works in the account that the mistakes are made in.
const rightWorkflow = `jobs:
  deploy:
    steps:
      - uses: towline/towline@v1
        with:
          aws-region: eu-central-1
          role-to-assume: arn:aws:iam::111122223333:role/deploy
          repository: shop
          tags: v2
          cluster: prod
          service: web
          container-name: app
`

const rightDockerfile = "FROM scratch\nCOPY hello.txt /\nCMD [\"/hello\"]\n"

// TestMistakes makes five mistakes as a new user would, and keeps what they read:
// testdata/mistakes has for each the whole log and the job summary. Times and
// names that change are replaced, and what ECS tells in between is left out.
func TestMistakes(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	tests := map[string]struct {
		wrong, right string // what is written for what in the workflow or the Dockerfile
		args         []string
		remedy       string // stands in the log's last lines and in the summary
	}{
		"wrong-role":           {right: "role/deploy", wrong: "role/deplyo", remedy: "role"},
		"wrong-container-name": {right: "container-name: app", wrong: "container-name: ap", remedy: "container-name"},
		"crash-on-start":       {args: []string{"--tasks", "exit=1"}, remedy: "Run the image locally"},
		"health-check-fails":   {args: []string{"--tasks", "unhealthy"}, remedy: "health check"},
		"dockerfile-typo":      {right: "COPY hello.txt", wrong: "COPPY hello.txt", remedy: "COPY"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workflow, dockerfile := rightWorkflow, rightDockerfile
			if test.wrong != "" {
				workflow = strings.Replace(workflow, test.right, test.wrong, 1)
				dockerfile = strings.Replace(dockerfile, test.right, test.wrong, 1)
			}
			dir := repository(t, "-- deploy.yml --\n"+workflow+"-- right.yml --\n"+rightWorkflow+"-- Dockerfile --\n"+dockerfile+"-- hello.txt --\nhello\n")
			file := filepath.Join(t.TempDir(), "summary.md")
			args := append([]string{"--workflow", "deploy.yml", "--against", "right.yml", "--summary", file}, test.args...)
			code, log := perform(t, append(args, dir)...)
			if code != 1 {
				t.Errorf("got exit code %d, want 1", code)
			}
			summary, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(log), "\n")
			for what, text := range map[string]string{"the log's last lines": strings.Join(lines[max(0, len(lines)-30):], "\n"), "the summary": string(summary)} {
				if !strings.Contains(text, test.remedy) {
					t.Errorf("%s has no %q:\n%s", what, test.remedy, text)
				}
			}
			got := txtar.Format(&txtar.Archive{Files: []txtar.File{
				{Name: "log", Data: []byte(settled(log))}, {Name: "summary", Data: []byte(settled(string(summary)))},
			}})
			golden := filepath.Join("testdata", "mistakes", name+".txtar")
			if *update {
				if err = os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(got), "\n"), strings.Split(string(want), "\n")); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

// settled is a text without what differs from one rehearsal to the next.
func settled(text string) string {
	for _, p := range []struct{ pattern, with string }{
		{"(?s)```mermaid\\ngantt.*?```\n\n", ""},
		{`(?m)^(waiting|event|rollback|unpacked|built      #) .*\n`, ""},
		{`(?m)^(failed     task .*|last lines .*the same)\n( {11}[^|\n].*\n)*`, ""},
		{`(?m)^\| New task .*\n\|---.*\n(\| <code>[0-9a-f]{32}</code> \|.*\n)*\n?`, ""},
		{`(?m)^(\| \d+ tasks?), the last:<br><code>[0-9a-f]{32}</code> \|(.*) \| [^|]* \|$`, "| TASKS |$2 | TIME |"},
		{`\b[0-9a-f]{32}\b`, "TASK"},
		{`sha256:[0-9a-f]{12,64}`, "sha256:DIGEST"},
		{`127\.0\.0\.1:\d+`, "HOST"},
		{`ecs-svc/\d+`, "ecs-svc/ID"},
		{`deployments/[0-9a-f]+`, "deployments/ID"},
		{`service-deployment/([^/]+/[^/]+)/[0-9a-f]+`, "service-deployment/$1/ID"},
		{`\b\d+(\.\d+)? (B|kB|MB)\b`, "SIZE"},
		{`\b(\d+m\d\ds|\d+(\.\d+)?m?s)\b`, "TIME"},
		{`\b(SIZE|TIME) +`, "$1 "},
		{`\(request [^)]*\)`, "(request ID)"},
		{`(?m)(after TIME): .*$`, "$1"},
		{`[^ \n]*task-definition-\d+\.json`, "FILE"},
		{`\d of \d tasks`, "N of M tasks"},
	} {
		text = regexp.MustCompile(p.pattern).ReplaceAllString(text, p.with)
	}
	// What comes at once comes in any order.
	lines := strings.Split(text, "\n")
	moves := regexp.MustCompile(`^(pushed|exists|mounted) +(layer|config) `)
	for from := 0; from < len(lines); from++ {
		to := from
		for to < len(lines) && moves.MatchString(lines[to]) {
			to++
		}
		slices.Sort(lines[from:to])
		from = max(from, to-1)
	}
	return strings.Join(lines, "\n")
}
