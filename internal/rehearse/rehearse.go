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

const usage = `Usage: towline rehearse [--workflow FILE] [DIR]

Runs Towline's main job on the Dockerfile in DIR against an emulator of GitHub's
OIDC, AWS STS, ECR and ECS on this machine. Without DIR it takes a small demo
that needs no internet.

  --workflow FILE  take the inputs of the Towline step in this workflow file;
                   DIR is then the repository, by default the one FILE is in
`

// Run rehearses and gives the exit code: that of the main job, or 2 for a mistake in Args.
func Run(opts Options) int {
	out := opts.Step.Stdout
	flags := flag.NewFlagSet("rehearse", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { _, _ = io.WriteString(out, usage) }
	workflow := flags.String("workflow", "", "")
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
	code, err := rehearse(opts, *workflow, flags.Arg(0))
	if err != nil {
		for _, p := range problem.All("rehearse", err) {
			_, _ = fmt.Fprintf(out, "error: %v\n", p)
		}
		return 1
	}
	return code
}

func rehearse(opts Options, workflow, dir string) (int, error) {
	folder, err := scratch.Make("towline-rehearsal-")
	if err != nil {
		return 0, fmt.Errorf("folder for the rehearsal: %w", err)
	}
	defer folder.Close() //nolint:errcheck // a folder for temporary files
	scratch := folder.Path
	out := opts.Step.Stdout
	_, _ = fmt.Fprintln(out, "REHEARSAL: GitHub and AWS are played by an emulator on this machine. Nothing is deployed.")

	in := &stepInputs{values: map[string]string{}, env: map[string]string{}}
	if workflow != "" {
		if workflow, dir, err = locate(workflow, dir); err != nil {
			return 0, err
		}
		if in, err = readWorkflow(workflow, out); err != nil {
			return 0, err
		}
	}
	demo := dir == ""
	if demo {
		dir = filepath.Join(scratch, "demo")
		if err = os.CopyFS(dir, opts.Demo); err != nil {
			return 0, fmt.Errorf("demo: %w", err)
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return 0, &problem.Error{Op: "rehearse", Input: "DIR", Value: dir, Err: errors.New("no such folder"), Fix: "Name the folder that holds the Dockerfile, or the repository's root with --workflow."}
	}
	if demo {
		mirror, closeBases, err := serveBases(filepath.Join(scratch, "bases"))
		if err != nil {
			return 0, err
		}
		defer closeBases()
		in.setDefault("registry-mirrors", "docker.io="+mirror)
	}
	return perform(opts, in, scratch, dir)
}

// perform sets the stage and runs the main job on it.
func perform(opts Options, in *stepInputs, scratch, dir string) (int, error) {
	out := opts.Step.Stdout
	cloud, err := newStage(in, scratch, dir)
	if err != nil {
		return 0, err
	}
	others, err := in.otherRegistries()
	if err != nil {
		return 0, err
	}
	host, closeCloud, err := serve(cloud)
	if err != nil {
		return 0, err
	}
	defer closeCloud()
	transport := &played{cloud: host, registries: map[string]string{}}
	for i, other := range others {
		_, _ = fmt.Fprintf(out, "%s is played too: the image is not pushed there, and base images cannot be pulled from there\n", other)
		address, closeOther, err := serveRegistry(filepath.Join(scratch, fmt.Sprintf("other-%d", i)))
		if err != nil {
			return 0, err
		}
		defer closeOther()
		transport.registries[other] = address
	}
	vars := environment(cloud, in, dir, opts.Step.Getenv)
	opts.Setenv(vars)
	opts.Step.Getenv = func(name string) string { return vars[name] }
	opts.Step.Transport = transport
	code := opts.Run(opts.Step)
	end := "REHEARSAL: the deployment would have worked. Nothing was deployed; the emulator and its image are gone."
	if code != 0 {
		end = "REHEARSAL: the deployment would have failed, as shown above. Nothing was deployed."
	}
	_, _ = fmt.Fprintln(out, end)
	return code, nil
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

// serveBases is a registry for the demo's base image.
func serveBases(dir string) (host string, stop func(), err error) {
	host, stop, err = serveRegistry(dir)
	if err != nil {
		return "", nil, err
	}
	if err := pushBase(host + "/library/rehearsal-base:latest"); err != nil {
		stop()
		return "", nil, err
	}
	return host, stop, nil
}

// environment is what the step sees: that of a job of GitHub's. No setting of
// whoever rehearses leads to a real account.
func environment(cloud *emulator.Cloud, in *stepInputs, dir string, getenv func(string) string) map[string]string {
	vars := map[string]string{}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
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
		"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "1", "GITHUB_RUN_ATTEMPT": "1",
	})
	for name, value := range in.values {
		vars["INPUT_"+strings.ToUpper(name)] = value
	}
	return vars
}
