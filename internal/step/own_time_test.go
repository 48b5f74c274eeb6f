package step_test

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/step"
)

// BenchmarkDeploy is what Towline itself takes from its inputs to UpdateService's
// answer, of an image that is there: requests are answered at once. The emulator's
// own work, most of which is checking signatures, is in it.
func BenchmarkDeploy(b *testing.B) {
	dir := b.TempDir()
	workspace := filepath.Join(dir, "workspace")
	if err := os.MkdirAll(workspace, 0o750); err != nil {
		b.Fatal(err)
	}
	env := environment(dir, workspace)
	for name, value := range defaults() {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	env["INPUT_REPOSITORY"], env["INPUT_TAGS"], env["INPUT_WAIT-FOR-SERVICE-STABILITY"] = "", "", "false"
	job := emulator.Job{Repository: env["GITHUB_REPOSITORY"], SHA: env["GITHUB_SHA"]}
	cloud := emulator.New(emulator.Options{Region: "eu-central-1", Job: job, Key: issuerKey()})
	env["ACTIONS_ID_TOKEN_REQUEST_URL"], env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = cloud.IDTokenRequest("")
	cloud.AddLogGroup("/prod/web")
	if _, err := cloud.AddRole(emulator.Role{Name: "deploy", TrustPolicy: cloud.TrustGitHub(job.Subject())}); err != nil {
		b.Fatal(err)
	}
	if _, err := cloud.AddService(emulator.Service{Cluster: "prod", Name: "web", TaskDefinition: runs, DesiredCount: 2}); err != nil {
		b.Fatal(err)
	}
	commit := 0
	for b.Loop() {
		vars := maps.Clone(env)
		commit++
		vars["INPUT_IMAGE"] = fmt.Sprintf("registry.example.com/shop:v%d", commit)
		s := step.New(step.Options{Getenv: func(name string) string { return vars[name] }, Stdout: io.Discard, Transport: cloud.RoundTripper(), Executable: os.Args[0]})
		if code := s.End(s.Ship(b.Context())); code != 0 {
			b.Fatalf("exit code %d, want 0", code)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if got := len(cloud.Called("ecs", "UpdateService")); got != commit {
		b.Errorf("the service was updated %d times, want %d", got, commit)
	}
}
