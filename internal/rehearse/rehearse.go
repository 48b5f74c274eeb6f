// Package rehearse runs the main job against the emulator, so that a deployment
// can be seen on any Linux machine: nothing of GitHub or AWS is contacted.
package rehearse

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/scratch"
	"github.com/towline/towline/internal/step"
)

// Options says what to rehearse.
type Options struct {
	// Args are the arguments after "rehearse".
	Args []string
	// Step is what the step would run with; its Getenv and Transport are replaced.
	Step step.Options
	// Demo is the folder to build when Args name none.
	Demo fs.FS
	// Setenv replaces the process's environment, for the AWS SDK reads it.
	Setenv func(vars map[string]string)
	// Run runs the main job and gives its exit code.
	Run func(step.Options) int
}

const usage = `Usage: towline rehearse [--workflow FILE] [--job NAME] [--set NAME=VALUE]... [--offline]
                        [--against FILE] [--tasks HOW] [--summary FILE] [DIR]

Runs Towline's main job on the Dockerfile in DIR against an emulator of GitHub's
OIDC, AWS STS, ECR and ECS on this machine. Without DIR it takes a small demo
that needs no internet.

  --workflow FILE   take the inputs of the Towline steps in this workflow file, one
                    step after the other; DIR is then the repository, by default the
                    one FILE is in
  --job NAME        take the steps of this job of the workflow alone
  --set NAME=VALUE  what the workflow's expressions are to find, such as
                    vars.CLUSTER=production or inputs.service=web
  --offline         pull nothing: all base images are this machine's own shell and a
                    few commands
  --against FILE    the account has what the steps of this workflow file need, and
                    nothing else: a name that is wrong in --workflow is found
  --tasks HOW       what the new tasks do: run, exit=CODE (the program ends as soon as
                    it has started), or unhealthy (its health checks fail)
  --verbose         diagnostics, as GitHub's debug logging (RUNNER_DEBUG=1) shows them
  --summary FILE    write the job summary there, in Markdown
`

// Run rehearses and gives the exit code: that of the main job, or 2 for a mistake in Args.
func Run(opts Options) int {
	out := opts.Step.Stdout
	flags := flag.NewFlagSet("rehearse", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { _, _ = io.WriteString(out, usage) }
	asked := request{set: map[string]string{}}
	flags.StringVar(&asked.workflow, "workflow", "", "")
	flags.StringVar(&asked.job, "job", "", "")
	flags.BoolVar(&asked.offline, "offline", false, "")
	flags.StringVar(&asked.against, "against", "", "")
	flags.StringVar(&asked.summary, "summary", "", "")
	flags.Func("tasks", "", func(how string) (err error) {
		asked.tasks, err = behaviour(how)
		return err
	})
	flags.Func("set", "", func(pair string) error {
		name, value, found := strings.Cut(pair, "=")
		if !found {
			return errors.New("not NAME=VALUE")
		}
		asked.set[name] = value
		return nil
	})
	if err := flags.Parse(opts.Args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 1 {
		_, _ = fmt.Fprintf(out, "more than one folder: %s\n", strings.Join(flags.Args(), ", "))
		flags.Usage()
		return 2
	}
	asked.dir = flags.Arg(0)
	code, err := rehearse(opts, asked)
	if err != nil {
		for _, p := range problem.All("rehearse", err) {
			_, _ = fmt.Fprintf(out, "error: %v\n", p)
		}
		return 1
	}
	return code
}

// request is what the arguments ask for.
type request struct {
	workflow, job, dir string
	// temp is the runner's folder for temporary files.
	temp    string
	set     map[string]string
	offline bool
	// against is the workflow that the stage is set for, or empty for the one that
	// is performed.
	against string
	// tasks is what new tasks do.
	tasks emulator.Behaviour
	// summary is the file for the job summary, or empty.
	summary string
}

func rehearse(opts Options, asked request) (int, error) {
	folder, err := scratch.Make("towline-rehearsal-")
	if err != nil {
		return 0, fmt.Errorf("folder for the rehearsal: %w", err)
	}
	defer folder.Close() //nolint:errcheck // a folder for temporary files
	out := opts.Step.Stdout
	_, _ = fmt.Fprintln(out, "REHEARSAL: GitHub and AWS are played by an emulator on this machine. Nothing is deployed.")

	acts := []act{{inputs: func() (*stepInputs, error) {
		return &stepInputs{values: map[string]string{}, env: map[string]string{}}, nil
	}}}
	asked.temp = folder.Path
	dir := asked.dir
	if asked.workflow != "" {
		if asked.workflow, dir, err = locate(asked.workflow, dir); err != nil {
			return 0, err
		}
		if acts, err = readWorkflow(asked, out); err != nil {
			return 0, err
		}
	}
	demo := dir == ""
	if demo {
		dir = filepath.Join(folder.Path, "demo")
		if err = os.CopyFS(dir, opts.Demo); err != nil {
			return 0, fmt.Errorf("demo: %w", err)
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
		return 0, &problem.Error{Op: "rehearse", Input: "DIR", Value: dir, Err: errors.New("no such folder"), Fix: "Name the folder that holds the Dockerfile, or the repository's root with --workflow."}
	}
	t := &theatre{opts: opts, scratch: folder.Path, dir: dir, stages: map[string]*stage{}, registries: map[string]string{}, tasks: asked.tasks, summary: asked.summary}
	defer t.close()
	if asked.against != "" {
		if t.against, err = readAgainst(asked, out); err != nil {
			return 0, err
		}
	}
	if demo || asked.offline {
		if err := t.playBases(); err != nil {
			return 0, err
		}
	}
	return t.perform(acts)
}

// serve answers on a free port of the loopback address.
func serve(handler http.Handler) (host string, stop func(), err error) {
	var config net.ListenConfig
	listener, err := config.Listen(noContext(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("loopback address: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}

// serveRegistry is a registry that keeps its blobs in dir.
func serveRegistry(dir string) (host string, stop func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("registry: %w", err)
	}
	return serve(registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)), registry.Logger(quiet())))
}

// environment is what the step sees: that of a job of GitHub's. No setting of
// whoever rehearses leads to a real account. outputs is the file for them.
func environment(cloud *emulator.Cloud, in *stepInputs, dir, outputs, summary string, getenv func(string) string) map[string]string {
	vars := map[string]string{}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NO_COLOR", "RUNNER_DEBUG", "http_proxy", "https_proxy", "no_proxy"} {
		if value := getenv(name); value != "" {
			vars[name] = value
		}
	}
	maps.Copy(vars, in.env)
	url, token := cloud.IDTokenRequest("")
	maps.Copy(vars, map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": token,
		"GITHUB_WORKSPACE": dir, "GITHUB_REPOSITORY": "octo-org/rehearsal", "GITHUB_SHA": demoSHA,
		"GITHUB_OUTPUT": outputs, "RUNNER_TEMP": filepath.Dir(outputs), "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "1", "GITHUB_RUN_ATTEMPT": "1",
	})
	if vars["AWS_ACCESS_KEY_ID"] == "" && (in.isTrue("use-existing-credentials") || in.isTrue("role-chaining")) {
		vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"] = "AKIAREHEARSALRUNNER0", "runner"
		cloud.AddUser(vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"])
	}
	if summary != "" {
		vars["GITHUB_STEP_SUMMARY"] = summary
	}
	for name, value := range in.values {
		vars["INPUT_"+strings.ToUpper(name)] = value
	}
	return vars
}
