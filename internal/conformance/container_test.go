package conformance

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// requireDocker skips a test where there is no engine.
func requireDocker(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "docker", "version").CombinedOutput(); err != nil {
		unfit(t, "needs a Docker engine: "+string(out))
	}
}

// address is this machine's, as containers reach it; without an engine, its own.
func address(t *testing.T) string {
	t.Helper()
	bridge, err := net.InterfaceByName("docker0")
	if err != nil {
		return "127.0.0.1"
	}
	addresses, err := bridge.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && ip.To4() != nil {
			return ip.String()
		}
	}
	return "127.0.0.1"
}

// inContainer gives the order to a container that has the rights of a container
// action and holds nothing but the worker.
func (s *suite) inContainer(t *testing.T, o order) {
	t.Helper()
	image := s.image(t)
	work := filepath.Dir(o.Cases)
	o.Cases, o.Results, o.Bases, o.Work, o.Jobs = "/github/workspace/cases", "/github/workspace/results", "/towline/bases", "/towline/work", 1
	writeOrder(t, work, o)
	out, err := exec.CommandContext(t.Context(), "docker", "run", "--rm", "--workdir", "/github/workspace",
		"-v", work+":/github/workspace", "-v", filepath.Join(s.dir, "bases")+":/towline/bases:ro",
		image, workerArg, "/github/workspace/order.json").CombinedOutput()
	if err != nil {
		t.Errorf("worker: %v\n%s", err, out)
	}
}

// image gives the worker's image, FROM scratch with one folder.
func (s *suite) image(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(s.dir, "image")
	name := "towline-conformance:" + filepath.Base(filepath.Dir(s.dir))
	name = strings.ToLower(name)
	if _, err := os.Stat(dir); err == nil {
		return name
	}
	if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY towline /towline/towline\nENTRYPOINT [\"/towline/towline\"]\n")); err != nil {
		t.Fatal(err)
	}
	compile := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", filepath.Join(dir, "towline"), ".")
	compile.Env = append(compile.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	engine := exec.CommandContext(t.Context(), "docker", "build", "--quiet", "--tag", name, dir)
	engine.Env = append(engine.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := engine.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", name).Run() }) //nolint:noctx // the test's context has ended
	return name
}
