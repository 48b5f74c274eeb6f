package rehearse_test

import (
	"path/filepath"
	"strings"
	"testing"
)

const busybox = "-- Dockerfile --\nFROM busybox AS build\nRUN echo hello >/hello\nFROM busybox\nCOPY --from=build /hello /\n"

// Several steps are rehearsed one after the other, with what those before have left.
func TestSteps(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	tests := map[string]struct {
		workflow string
		args     []string
		code     int
		want     []string
		not      []string
	}{
		"built once, deployed twice": {
			workflow: `
jobs:
  staging:
    needs: image
    steps:
      - {uses: towline/towline@v1, with: {AS, service: staging, image: "${{ needs.image.outputs.image }}"}}
  production:
    needs: staging
    steps:
      - {uses: towline/towline@v1, with: {service: web, image: "${{ needs.image.outputs.image }}",
          role-to-assume: "arn:aws:iam::222233334444:role/deploy", aws-region: eu-west-1}}
  undo:
    needs: production
    if: failure()
    steps:
      - {uses: towline/towline@v1, with: {AS, service: web, rollback-deployment: true}}
  image:
    outputs: {image: "${{ steps.ship.outputs.image }}"}
    steps:
      - {uses: towline/towline@v1, id: ship, with: {AS, repository: shop}}
`,
			args: []string{"--offline"},
			want: []string{
				"job undo: a step that is for failures is left out",
				"REHEARSAL: job image, step ship\n", "REHEARSAL: job staging\n", "REHEARSAL: job production\n",
				`-> "111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop:4e5d1f7a90b3@sha256:`,
				"account 222233334444", worked,
			},
			not: []string{"known to GitHub only"},
		},
		"a matrix": {
			workflow: `
jobs:
  a:
    strategy: {matrix: {service: [web, api], include: [{service: web, port: 80}]}}
    steps:
      - {uses: towline/towline@v1, with: {AS, repository: "shop/${{ matrix.service }}", service: "${{ matrix.service }}"}}
`,
			args: []string{"--offline"},
			want: []string{"REHEARSAL: job a, port 80, service web\n", "REHEARSAL: job a, service api\n", "amazonaws.com/shop/api:", "service-deployment/default/api/", worked},
		},
		"one job": {
			workflow: "jobs: {a: {steps: [{uses: ./, with: {AS, push: perhaps}}]}, b: {steps: [{uses: ./, with: {AS, repository: shop}}]}}",
			args:     []string{"--offline", "--job", "b"},
			want:     []string{worked},
			not:      []string{"perhaps"},
		},
		"no such job": {
			workflow: "jobs: {a: {steps: [{uses: ./}]}}", args: []string{"--job", "c"}, code: 1,
			want: []string{`input "--job" is "c"`, "Name a job"},
		},
		"the first that fails ends it": {
			workflow: "jobs: {a: {steps: [{uses: ./, with: {AS, push: perhaps}}]}, b: {steps: [{uses: ./, with: {AS, repository: shop}}]}}",
			code:     1, want: []string{"REHEARSAL: job a\n", failed}, not: []string{"REHEARSAL: job b"},
		},
		"what expressions find": {
			workflow: `
on: {workflow_call: {inputs: {service: {type: string, default: web}}}}
jobs:
  a:
    steps:
      - {uses: ./, with: {AS, repository: "${{ vars.REPOSITORY }}", service: "${{ inputs.service }}", cluster: "${{ inputs.cluster || 'prod' }}",
          tags: "${{ needs.none.outputs.tag }}"}}
`,
			args: []string{"--offline", "--set", "vars.REPOSITORY=shop"},
			want: []string{"amazonaws.com/shop:rehearsal", "needs.none.outputs.tag }} is known to GitHub only", "service-deployment/prod/web/", worked},
		},
		"a circle of outputs": {
			workflow: `
jobs:
  a: {needs: b, outputs: {x: "${{ needs.b.outputs.x }}"}, steps: [{uses: ./, with: {AS, repository: shop, tags: "${{ needs.b.outputs.x }}"}}]}
  b: {needs: a, outputs: {x: "${{ needs.a.outputs.x }}"}, steps: [{uses: ./, with: {AS, repository: shop}}]}
`,
			args: []string{"--offline"},
			want: []string{"known to GitHub only", worked},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workflow := strings.ReplaceAll(tt.workflow, "AS,", "role-to-assume: \"arn:aws:iam::111122223333:role/deploy\", aws-region: eu-central-1,")
			dir := repository(t, "-- .github/workflows/w.yml --\n"+workflow+"\n"+busybox)
			code, text := perform(t, append(tt.args, "--workflow", filepath.Join(dir, ".github", "workflows", "w.yml"))...)
			check(t, code, text, tt.code, tt.want)
			for _, not := range tt.not {
				if strings.Contains(text, not) {
					t.Errorf("the output has %q", not)
				}
			}
		})
	}
}

// Offline nothing is asked but registries, and those have no image by its digest.
func TestOffline(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	tests := map[string]struct {
		dockerfile string
		code       int
		want       []string
	}{
		"any registry": {"FROM quay.io/acme/base:v1\nRUN echo hi\n", 0, []string{worked}},
		"a digest":     {"FROM busybox@sha256:" + strings.Repeat("a", 64) + "\n", 1, []string{failed}},
		"a download":   {"FROM scratch\nADD https://example.com/x /\n", 1, []string{"example.com is not asked", failed}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, text := perform(t, "--offline", repository(t, "-- Dockerfile --\n"+tt.dockerfile))
			check(t, code, text, tt.code, tt.want)
		})
	}
}
