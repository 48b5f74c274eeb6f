package permissions_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/permissions"
)

const workflow = `on:
  push: {branches: [main, "release/**"]}
env: {REGION: eu-central-1}
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: towline/towline@v1
        with:
          role-to-assume: ${{ vars.ROLE }}
          aws-region: ${{ env.REGION }}
          repository: shop
          tags: ${{ github.sha }}-${{ github.run_number }}
          cluster: prod
          service: web
          container-name: app
`

func TestRun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		workflow string
		args     []string
		env      map[string]string
		code     int
		want     []string
		not      []string
	}{
		"workflow": {
			workflow: workflow, args: []string{"--repository", "acme/shop", "--account", "123456789012"},
			want: []string{
				"# Who may assume ROLE", `"repo:acme/shop:ref:refs/heads/main"`, `"repo:acme/shop:ref:refs/heads/release/*"`, `"StringLike"`,
				"arn:aws:ecs:eu-central-1:123456789012:service/prod/web", "#   FAMILY: the family", "#   without OptionalLogs, the last log lines",
			},
			not: []string{"${{", "ACCOUNT"},
		},
		"required": {workflow: workflow, args: []string{"--required"}, want: []string{`"UpdateService"`, "#   ACCOUNT: "}, not: []string{`"Optional`}},
		"environment": {
			workflow: strings.Replace(workflow, "    steps:", "    environment: {name: production}\n    steps:", 1), args: []string{"--repository", "acme/shop"},
			want: []string{`"repo:acme/shop:environment:production"`}, not: []string{"refs/heads"},
		},
		"tag": {workflow: workflow, args: []string{"--tag", "v*"}, want: []string{"OWNER/REPOSITORY:ref:refs/tags/v*"}, not: []string{"refs/heads"}},
		"terraform": {
			workflow: workflow, args: []string{"--format=terraform"},
			want: []string{`resource "aws_iam_role" "role"`, "# Without it, failing tasks are not named."},
		},
		"variables": {
			env:  map[string]string{"INPUT_REPOSITORY": "210987654321.dkr.ecr.us-east-1.amazonaws.com/shop", "INPUT_ROLE-TO-ASSUME": "arn:aws:iam::123456789012:role/deploy"},
			want: []string{"# Policy of the repository shop in account 210987654321, region us-east-1", `"AWS": "arn:aws:iam::123456789012:role/deploy"`},
		},
		"no AWS":       {env: map[string]string{"INPUT_TAGS": "ghcr.io/acme/shop:1"}, want: []string{"no policy is needed"}},
		"wrong inputs": {env: map[string]string{"INPUT_SANDBOX": "cage"}, code: 1, want: []string{`error: read the inputs: input "sandbox"`}},
		"no step":      {workflow: "jobs: {a: {steps: [{uses: actions/checkout@v4}]}}", code: 1, want: []string{"no step uses towline/towline"}},
		"format":       {args: []string{"--format", "yaml"}, code: 2, want: []string{"Usage: towline policy"}},
		"help":         {args: []string{"--help"}, want: []string{"Usage: towline policy"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := tt.args
			if tt.workflow != "" {
				file := filepath.Join(t.TempDir(), "deploy.yml")
				if err := os.WriteFile(file, []byte(tt.workflow), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append([]string{"--workflow", file}, args...)
			}
			var out strings.Builder
			code := permissions.Run(permissions.Options{Args: args, Getenv: func(name string) string { return tt.env[name] }, Stdout: &out})
			if code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in:\n%s", want, out.String())
				}
			}
			for _, not := range tt.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("%q in:\n%s", not, out.String())
				}
			}
		})
	}
}
