// Command inplace is what the tests run as /towline/towline in a container: it
// runs the steps of the input "steps" in place and reports on each as a line of
// JSON.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/build/sandbox"
)

// Step is one run.
type Step struct {
	Sandbox string
	// Root is another root filesystem than the usual one.
	Root    string
	Script  string
	Process sandbox.Process
	Mounts  []sandbox.Mount
	// CancelOn ends the run's context when the process writes this.
	CancelOn string
}

// Report says what a step did.
type Report struct {
	Output, Error, Signal string
	Code                  int
	Name, Warning         string
	Result                sandbox.Result
	// Tree lists the root filesystem afterwards, Top what is in / and Etc what is
	// in /etc; Ours holds all that looks out of place in our own container.
	Tree, Top, Etc, State []string
	Hosts                 string
	Sources               map[string]string
	Processes             []string
}

func main() {
	if code, ok := sandbox.Main(os.Args); ok {
		os.Exit(code)
	}
	entry := sandbox.Enter(os.Args, os.Environ())
	if entry.Exit {
		os.Exit(entry.Code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, entry); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, entry sandbox.Entry) error {
	vars := map[string]string{}
	for _, v := range entry.Environ {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	if vars["INPUT_SECRET"] == "" {
		return errors.New("the environment was lost")
	}
	var steps []Step
	if err := json.Unmarshal([]byte(vars["INPUT_STEPS"]), &steps); err != nil {
		return err
	}
	root, err := makeRoot()
	if err != nil {
		return err
	}
	chosen := map[string]sandbox.Sandbox{}
	for _, step := range steps {
		report := Report{Warning: entry.Warning, Sources: map[string]string{}}
		s, warning, err := chosen[step.Sandbox], "", error(nil)
		if s == nil {
			s, warning, err = sandbox.Choose(ctx, step.Sandbox, sandbox.Options{
				StateDir: "/towline/state", Executable: entry.Executable,
				Guard: strings.Fields(vars["INPUT_GUARD"]), GuardTrees: []string{"/github/workspace"},
			})
			chosen[step.Sandbox] = s
		}
		report.Warning += warning
		if err != nil {
			report.Error = err.Error()
		} else {
			report.Name = s.Name()
			at := root
			if step.Root != "" {
				at = step.Root
			}
			one(ctx, s, at, step, &report)
		}
		look(root, step, &report)
		if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
			return err
		}
	}
	return nil
}

func one(ctx context.Context, s sandbox.Sandbox, root string, step Step, report *Report) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &output{cancelOn: step.CancelOn, cancel: cancel}
	p := step.Process
	p.Args = []string{"/bin/sh", "-c", step.Script}
	p.Stdout, p.Stderr = out, out
	p.Env = append(p.Env, "PATH=/bin")
	var err error
	report.Result, err = s.Run(ctx, root, p, step.Mounts)
	report.Output = out.String()
	var exit *sandbox.ExitError
	if errors.As(err, &exit) {
		report.Code, report.Signal = exit.Code, exit.Signal
	}
	if err != nil {
		report.Error = err.Error()
	}
}

type output struct {
	bytes.Buffer
	cancelOn string
	cancel   func()
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Buffer.Write(b)
	if o.cancelOn != "" && strings.Contains(o.String(), o.cancelOn) {
		o.cancel()
	}
	return n, err
}

// look describes what there is after a step.
func look(root string, step Step, report *Report) {
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		if err != nil {
			report.Tree = append(report.Tree, rel+" "+err.Error())
			return nil //nolint:nilerr // told
		}
		if info, err := entry.Info(); err == nil && !strings.HasPrefix(rel, "bin/") {
			report.Tree = append(report.Tree, fmt.Sprintf("%s %v", rel, info.Mode()))
		}
		return nil
	})
	report.Top, report.Etc, report.State = names("/"), names("/etc"), names("/towline/state")
	hosts, _ := os.ReadFile("/etc/hosts")
	report.Hosts = string(hosts)
	for _, m := range step.Mounts {
		content, err := os.ReadFile(filepath.Join(m.Source, "file"))
		report.Sources[m.Source] = string(content)
		if err != nil {
			report.Sources[m.Source] = err.Error()
		}
	}
	for _, name := range names("/proc") {
		if strings.Trim(name, "0123456789") == "" && name != "1" {
			report.Processes = append(report.Processes, name)
		}
	}
}

func names(dir string) []string {
	var list []string
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

// makeRoot makes the root filesystem, and sources for mounts, on the
// container's upper layer.
func makeRoot() (string, error) {
	root := "/towline/state/root"
	for _, dir := range []string{"bin", "etc/app", "tmp", "root", "home/app", "var/lib/data", "../cache", "../other"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil { //nolint:gosec // a root filesystem
			return "", err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		return "", err
	}
	in, err := os.Open("/towline/busybox")
	if err != nil {
		return "", err
	}
	out, err := os.OpenFile(filepath.Join(root, "bin/busybox"), os.O_CREATE|os.O_WRONLY, 0o755) //nolint:gosec // a program
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, in.Close(), out.Close()); err != nil {
		return "", err
	}
	applets, err := os.ReadFile("/towline/applets")
	if err != nil {
		return "", err
	}
	for name := range strings.FieldsSeq(string(applets)) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return "", err
		}
	}
	for name, content := range map[string]string{
		"etc/passwd":         "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group":          "root:x:0:\napp:x:1000:\nextra:x:2000:app\n",
		"etc/hosts":          "of the image\n",
		"var/lib/data/below": "original\n",
		"../cache/file":      "cached\n",
		"../other/file":      "other\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil { //nolint:gosec // a root filesystem
			return "", err
		}
	}
	return root, nil
}
