package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/towline/towline/internal/buildkitd"
)

// job is one build.
type job struct {
	// context is the folder with the Dockerfile, repository is HOST/NAME for the image
	// and its cache, tag the image's.
	context, repository, tag string
	args                     map[string]string
	// warm says that there is a cache to begin with.
	warm bool
}

func (j job) cache() string { return j.repository + ":cache" }

// builder builds on a machine that has nothing yet, and pushes.
type builder interface {
	name() string
	build(ctx context.Context, j job) (usage, error)
}

// buildKit is BuildKit's own daemon, a new one for each build. Its start is not counted.
type buildKit struct{ bin, mirror, registry string }

func (b *buildKit) name() string { return "BuildKit" }

func (b *buildKit) build(ctx context.Context, j job) (u usage, err error) {
	daemon, err := buildkitd.Start(ctx, buildkitd.Options{Bin: b.bin, Registry: b.mirror, Target: b.registry})
	if err != nil {
		return u, err
	}
	defer func() {
		log, stopErr := daemon.Stop()
		if err = errors.Join(err, stopErr); err != nil {
			err = fmt.Errorf("%w\n%s", err, tail(log, 10))
		}
	}()
	args := []string{
		"build", "--progress=plain", "--frontend=dockerfile.v0", "--opt=cmdline=dockerfile.v0",
		"--local=context=" + j.context, "--local=dockerfile=" + j.context,
		"--output=type=image,push=true,registry.insecure=true,name=" + j.repository + ":" + j.tag,
		"--export-cache=type=registry,mode=max,image-manifest=true,oci-mediatypes=true,registry.insecure=true,ref=" + j.cache(),
	}
	if j.warm {
		args = append(args, "--import-cache=type=registry,registry.insecure=true,ref="+j.cache())
	}
	for _, key := range slices.Sorted(maps.Keys(j.args)) {
		args = append(args, "--opt=build-arg:"+key+"="+j.args[key])
	}
	if err = forgetPeak(daemon.PID()); err != nil {
		return u, err
	}
	before, err := readProcess(daemon.PID())
	if err != nil {
		return u, err
	}
	cmd := daemon.Command(ctx, args...)
	var client process
	u.wall, client, err = runCommand(cmd, func() int { return cmd.Process.Pid })
	if err != nil {
		return u, err
	}
	after, err := readProcess(daemon.PID())
	u.cpu = after.cpu - before.cpu + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	u.peak = after.peak + client.peak
	return u, err
}

// towline is the program on the host, with namespaces.
type towline struct{ binary, mirror, dir string }

func (t *towline) name() string { return "namespaces" }

func (t *towline) build(ctx context.Context, j job) (u usage, err error) {
	dir, err := os.MkdirTemp(t.dir, "host-")
	if err != nil {
		return u, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.CommandContext(ctx, t.binary) //nolint:gosec // built by us
	env, err := environment(dir, dir, j.context, inputs(j, t.mirror, "namespaces"))
	if err != nil {
		return u, err
	}
	cmd.Env = slices.Concat(env, []string{"HOME=" + dir, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + dir})
	cmd.Dir = j.context
	var p process
	u.wall, p, err = runCommand(cmd, func() int { return cmd.Process.Pid })
	if err != nil {
		return u, err
	}
	u.cpu, u.peak = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), p.peak
	return u, nil
}

// inPlace is the action's image under Docker, started as GitHub's runner starts it.
type inPlace struct {
	image, mirror, dir string
	// empty is an image whose program does nothing; what docker run takes for it is
	// not counted.
	empty string
}

func (p *inPlace) name() string { return "in place" }

func (p *inPlace) build(ctx context.Context, j job) (u usage, err error) {
	dir, err := os.MkdirTemp(p.dir, "runner-")
	if err != nil {
		return u, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	idle, err := p.run(ctx, dir, p.empty, j)
	if err != nil {
		return u, err
	}
	u, err = p.run(ctx, dir, p.image, j)
	u.idle = idle.wall
	return u, err
}

func (p *inPlace) run(ctx context.Context, dir, image string, j job) (u usage, err error) {
	env, err := environment(dir, "/github/runner_temp", "/github/workspace", inputs(j, p.mirror, "in-place"))
	if err != nil {
		return u, err
	}
	cidfile := filepath.Join(dir, "cid")
	_ = os.Remove(cidfile)
	args := []string{"run", "--rm", "--cidfile", cidfile, "--label", "towline-bench", "--workdir", "/github/workspace"}
	for _, each := range env {
		name, _, _ := strings.Cut(each, "=")
		args = append(args, "-e", name)
	}
	args = append(args, "-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
		"-v", "/var/run/docker.sock:/var/run/docker.sock",
		"-v", dir+":/github/runner_temp",
		"-v", filepath.Join(dir, "home")+":/github/home",
		"-v", filepath.Join(dir, "workflow")+":/github/workflow",
		"-v", filepath.Join(dir, "commands")+":/github/file_commands",
		"-v", j.context+":/github/workspace", image)
	cmd := exec.CommandContext(ctx, "docker", args...) //nolint:gosec // the arguments are above
	cmd.Env = append(cmd.Environ(), env...)
	var last process
	u.wall, last, err = runCommand(cmd, func() int { return containerProcess(cidfile) })
	u.cpu, u.peak = last.cpu, last.peak
	return u, err
}

// inputs are the action's for a job.
func inputs(j job, mirror, sandbox string) map[string]string {
	with := map[string]string{
		"tags": j.repository + ":" + j.tag, "registry-mirrors": "docker.io=" + mirror, "sandbox": sandbox,
		"cache-to": "type=registry,mode=max,ref=" + j.cache(), "context": ".",
	}
	if j.warm {
		with["cache-from"] = "type=registry,ref=" + j.cache()
	}
	var lines strings.Builder
	for _, key := range slices.Sorted(maps.Keys(j.args)) {
		fmt.Fprintf(&lines, "%s=%s\n", key, j.args[key])
	}
	with["build-args"] = lines.String()
	return with
}

// environment is what the runner hands to the action, with its folders made in dir,
// which the action finds as temp.
func environment(dir, temp, workspace string, with map[string]string) ([]string, error) {
	env := map[string]string{
		"GITHUB_WORKSPACE": workspace, "RUNNER_TEMP": temp,
		"GITHUB_REPOSITORY": "acme/shop", "GITHUB_SHA": "8f3ad1c0b6a94b7f0c3d5e9a1f2b4c6d8e0f1a2b",
		"GITHUB_REF": "refs/heads/main", "GITHUB_RUN_ID": "4711", "GITHUB_RUN_ATTEMPT": "1",
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_API_URL": "https://api.github.com",
		"GITHUB_EVENT_NAME": "push", "GITHUB_ACTOR": "octocat",
	}
	commands := filepath.Join(temp, "commands")
	if strings.HasPrefix(temp, "/github/") {
		commands, env["HOME"] = "/github/file_commands", "/github/home"
	}
	for variable, file := range map[string]string{
		"GITHUB_OUTPUT": "output", "GITHUB_ENV": "env", "GITHUB_PATH": "path", "GITHUB_STATE": "state", "GITHUB_STEP_SUMMARY": "summary",
	} {
		env[variable] = filepath.Join(commands, file)
		if err := writeText(filepath.Join(dir, "commands", file), ""); err != nil {
			return nil, err
		}
	}
	for _, sub := range []string{"home", "workflow"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil { //nolint:gosec // containers look into it
			return nil, err
		}
	}
	for input, value := range with {
		env["INPUT_"+strings.ToUpper(input)] = value
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list, nil
}

// compile makes the binary as the action's Dockerfile does.
func compile(ctx context.Context, root, dest string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dest, ".") //nolint:gosec // the arguments are above
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, text)
	}
	return nil
}

// install copies a program.
func install(program, dest string) error {
	from, err := os.Open(program) //nolint:gosec // named by who runs us
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	return errors.Join(writeFrom(dest, from), os.Chmod(dest, 0o755)) //nolint:gosec // a program
}

// image builds an image that holds one program, and gives its ID.
func image(ctx context.Context, program, dockerfile string) (string, error) {
	text, err := os.ReadFile(dockerfile) //nolint:gosec // of this repository
	if err != nil {
		return "", err
	}
	if err := writeText(filepath.Join(filepath.Dir(program), "Dockerfile"), string(text)); err != nil {
		return "", err
	}
	return output(ctx, "", "docker", "build", "--quiet", "--label", "towline-bench", filepath.Dir(program))
}

// emptyProgram builds an image whose program ends at once.
func emptyProgram(ctx context.Context, root, dir string) (string, error) {
	source := filepath.Join(dir, "source", "main.go")
	if err := writeText(source, "package main\n\nfunc main() {}\n"); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "image", "towline")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, source) //nolint:gosec // the arguments are above
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return image(ctx, program, filepath.Join(root, "testdata", "engine", "Dockerfile"))
}

// tail gives the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
