package rehearse

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/towline/towline/internal/emulator"
)

// act is one step that is rehearsed.
type act struct {
	// title is empty when there is one act alone.
	title string
	// inputs are known once the acts before it have ended.
	inputs func() (*stepInputs, error)
	// ended takes the step's outputs. Nil where nobody reads them.
	ended func(outputs map[string]string)
}

// theatre performs one step after the other. Its stages stay, so that a step finds
// what the steps before it have pushed and deployed.
type theatre struct {
	opts Options
	// scratch is where the registries keep their blobs, dir the workspace.
	scratch, dir string
	// stages by account and region, registries by the host that they play.
	stages     map[string]*stage
	registries map[string]string
	// bases is the address of the registry of base images, if they are played.
	bases string
	// against are the steps that the stages are set for, if not those performed.
	against []act
	tasks   emulator.Behaviour
	summary string
	stop    []func()
}

func (t *theatre) close() {
	for _, stop := range t.stop {
		stop()
	}
}

func (t *theatre) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.opts.Step.Stdout, format+"\n", args...)
}

// playBases answers for all base images.
func (t *theatre) playBases() error {
	host, stop, err := serveBases(filepath.Join(t.scratch, "bases"))
	if err != nil {
		return err
	}
	t.bases, t.stop = host, append(t.stop, stop)
	return nil
}

// perform runs the main job for each act, up to the first that fails.
func (t *theatre) perform(acts []act) (int, error) {
	for _, a := range acts {
		if a.title != "" {
			t.say("REHEARSAL: %s", a.title)
		}
		code, err := t.performOne(a)
		if err != nil {
			return 0, err
		}
		if code != 0 {
			t.say("REHEARSAL: the deployment would have failed, as shown above. Nothing was deployed.")
			return code, nil
		}
	}
	t.say("REHEARSAL: the deployment would have worked. Nothing was deployed; the emulator and its image are gone.")
	return 0, nil
}

func (t *theatre) performOne(a act) (int, error) {
	in, err := a.inputs()
	if err != nil {
		return 0, err
	}
	account, region, err := in.where()
	if err != nil {
		return 0, err
	}
	on, err := t.stage(account, region)
	if err != nil {
		return 0, err
	}
	if t.against != nil {
		err = t.setAgainst()
	} else {
		err = in.set(on, t.dir, account, region)
	}
	if err != nil {
		return 0, err
	}
	if err = t.playOthers(in); err != nil {
		return 0, err
	}
	outputs := filepath.Join(t.scratch, "outputs")
	if err = os.WriteFile(outputs, nil, 0o600); err != nil {
		return 0, fmt.Errorf("outputs: %w", err)
	}
	vars := environment(on.cloud, in, t.dir, outputs, t.summary, t.opts.Step.Getenv)
	t.opts.Setenv(vars)
	opts := t.opts.Step
	opts.Getenv = func(name string) string { return vars[name] }
	opts.Transport = &played{cloud: on.host, registries: t.registries, bases: t.bases}
	code := t.opts.Run(opts)
	if a.ended != nil {
		written, err := os.ReadFile(outputs) //nolint:gosec // our own file
		if err != nil {
			return 0, fmt.Errorf("outputs: %w", err)
		}
		a.ended(parseOutputs(string(written)))
	}
	return code, nil
}

// stage is that of an account and region.
func (t *theatre) stage(account, region string) (*stage, error) {
	key := account + "-" + region
	if on := t.stages[key]; on != nil {
		return on, nil
	}
	cloud, err := newCloud(account, region, filepath.Join(t.scratch, "registry-"+key))
	if err != nil {
		return nil, err
	}
	cloud.Behave(func(i emulator.TaskInfo) emulator.Behaviour {
		if i.StartedBy != "" { // a one-off task
			return emulator.Behaviour{Exit: &emulator.Exit{}, Logs: []string{"(a rehearsal runs no container)"}}
		}
		if i.Revision == 1 {
			return emulator.Behaviour{} // what ran before is well
		}
		return t.tasks
	})
	host, stop, err := serve(cloud)
	if err != nil {
		return nil, err
	}
	t.stop = append(t.stop, stop)
	t.stages[key] = &stage{cloud: cloud, host: host, there: map[string]bool{}}
	return t.stages[key], nil
}

// playOthers plays the registries besides ECR that the inputs name.
func (t *theatre) playOthers(in *stepInputs) error {
	others, err := in.otherRegistries()
	if err != nil {
		return err
	}
	for _, other := range others {
		if t.registries[other] != "" {
			continue
		}
		t.say("%s is played too: the image is not pushed there, and base images cannot be pulled from there", other)
		address, stop, err := serveRegistry(filepath.Join(t.scratch, fmt.Sprintf("other-%d", len(t.registries))))
		if err != nil {
			return err
		}
		t.registries[other], t.stop = address, append(t.stop, stop)
	}
	return nil
}

// parseOutputs reads what a step has written for the runner: NAME<<DELIMITER, the
// lines of the value, and the delimiter again.
func parseOutputs(written string) map[string]string {
	outputs := map[string]string{}
	var name, delimiter string
	var value []string
	for line := range strings.SplitSeq(written, "\n") {
		switch {
		case delimiter == "":
			name, delimiter, _ = strings.Cut(line, "<<")
			value = nil
		case line == delimiter:
			outputs[name], delimiter = strings.Join(value, "\n"), ""
		default:
			value = append(value, line)
		}
	}
	return outputs
}
