package step

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/preflight"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

// revision is a task definition that is registered already.
type revision struct {
	document taskdef.Document
	arn      string
}

// readTaskDefinition reads the file that the task definition begins with.
func (s *Step) readTaskDefinition(file string) error {
	data, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return &problem.Error{
			Op: "read task definition", Input: "task-definition", Value: s.relative(file), Err: unpathed(err),
			Fix: "Give the path of a JSON or YAML file, relative to the workspace, or leave it empty to take what the service runs now.",
		}
	}
	parse := taskdef.Parse
	if ext := strings.ToLower(filepath.Ext(file)); ext == ".yaml" || ext == ".yml" {
		parse = taskdef.ParseYAML
	}
	if s.given, err = parse(data); err != nil {
		if known, ok := errors.AsType[*problem.Error](err); ok {
			known.File, known.Value = s.relative(file), s.relative(file)
			return err
		}
		return &problem.Error{Op: "read task definition", Input: "task-definition", Value: s.relative(file), Err: err, File: s.relative(file), Fix: "Correct the file."}
	}
	return nil
}

// findBase reads what the task definition begins with, and finds the revisions
// that need not be registered again if nothing is different from them.
func (s *Step) findBase(ctx context.Context, e *edition) error {
	t := s.settings.Task
	e.known = e.currents()
	switch {
	case t.Registered != "":
		answer, err := e.home.taskDefinition(ctx, e.deployer, t.Registered)
		if err != nil {
			return registeredInput(t.Registered, err)
		}
		return s.takeBase(e, answer)
	case t.TaskDefinition != "":
		e.base = s.given
		if slices.ContainsFunc(e.known, func(known revision) bool { return known.document.Family() == e.base.Family() }) {
			return nil
		}
		answer, err := e.deployer.LatestTaskDefinition(ctx, e.base.Family())
		if u := preflight.UnreadOf(ctx, "ecs:DescribeTaskDefinition", "what is registered of "+e.base.Family(), err); err != nil && u.Why == "" {
			s.unread(u)
			return nil
		}
		if err != nil || answer == nil {
			return err
		}
		latest, _, err := described(answer)
		e.known = append(e.known, latest)
		return err
	default:
		if len(e.known) > 0 {
			e.base = e.known[0].document
		}
		return nil
	}
}

// takeBase begins with a registered revision.
func (s *Step) takeBase(e *edition, answer []byte) error {
	base, active, err := described(answer)
	if err != nil {
		return err
	}
	e.base = base.document
	e.begins = base.arn
	if active { // an inactive one can be begun with, but not deployed
		e.known = append(e.known, base)
	}
	return nil
}

// described reads DescribeTaskDefinition's answer.
func described(answer []byte) (found revision, active bool, err error) {
	var got struct {
		TaskDefinition struct{ TaskDefinitionArn, Status string }
	}
	if err = json.Unmarshal(answer, &got); err != nil {
		return revision{}, false, fmt.Errorf("task definition: %w", err)
	}
	document, err := taskdef.Described(answer)
	if err != nil {
		return revision{}, false, fmt.Errorf("task definition %s: %w", got.TaskDefinition.TaskDefinitionArn, err)
	}
	return revision{document, got.TaskDefinition.TaskDefinitionArn}, got.TaskDefinition.Status != "INACTIVE", nil
}

// registeredInput names the input that an error is about.
func registeredInput(value string, err error) error {
	known, ok := errors.AsType[*problem.Error](err)
	if !ok || known.Input != "task-definition" {
		return err
	}
	family, number, _ := strings.Cut(value, ":")
	switch {
	case strings.HasPrefix(value, "arn:"):
		known.Input = "task-definition-arn"
	case number != "":
		known.Input, known.Value = "task-definition-revision", family+":"+number
	default:
		known.Input = "task-definition-family"
	}
	return err
}

// pick applies the rule of "container-name". Containers that have an image of
// their own do not get another.
func (s *Step) pick(e *edition, repository string) ([]string, error) {
	t := s.settings.Task
	if of := e.named(); len(of) > 0 {
		for _, name := range of {
			if _, err := e.base.Pick(name, ""); err != nil {
				return nil, err
			}
		}
		return of, nil
	}
	var rest, named []string
	for _, c := range e.base.Containers() {
		if slices.ContainsFunc(t.Images, func(image inputs.Pair) bool { return image.Name == c.Name }) {
			named = append(named, c.Name)
		} else {
			rest = append(rest, c.Name)
		}
	}
	switch makes := repository != ""; {
	case len(t.ContainerNames) > 0:
		for _, name := range t.ContainerNames {
			if _, err := e.base.Pick(name, ""); err != nil {
				return nil, err
			}
		}
		return t.ContainerNames, nil
	case makes && len(named) > 0 && len(rest) == 1:
		return rest, nil
	case !makes && len(named) == 1:
		return named, nil
	}
	container, err := e.base.Pick("", repository)
	return []string{container}, err
}

// placeholder is an image as long as the one that is still to be built.
func (s *Step) placeholder() string {
	if targets := slices.Concat(s.refs, s.repositories); len(targets) > 0 {
		return taskdef.ImageReference(targets[0], "", "sha256:"+strings.Repeat("0", 64))
	}
	return s.settings.Task.Image
}

// wanted is the base with everything that the inputs ask for. image is the one
// that was built or given, or empty.
func (s *Step) wanted(e *edition, image string) (taskdef.Document, error) {
	return s.edited(e, image, s.pinned)
}

// edited is wanted with images that are named by the digests in pinned.
func (s *Step) edited(e *edition, image string, pinned map[string]string) (taskdef.Document, error) {
	t := s.settings.Task
	images := map[string]string{}
	for _, container := range e.containers {
		if image != "" {
			images[container] = image
		}
	}
	for _, each := range t.Images {
		images[each.Name] = cmp.Or(pinned[each.Value], each.Value)
	}
	return e.base.With(taskdef.Edits{
		Images: images, Containers: e.containers,
		Environment: pairs(t.Environment), RemoveEnvironment: t.RemoveEnvironment,
		Secrets: pairs(t.ContainerSecrets), RemoveSecrets: t.RemoveSecrets,
		EnvFiles: t.EnvFiles, LogDriver: t.LogConfigurationLogDriver, LogOptions: pairs(t.LogConfigurationOptions),
		DockerLabels: pairs(t.DockerLabels), Command: t.Command,
		TaskRole: t.TaskRoleARN, ExecutionRole: t.ExecutionRoleARN, Tags: pairs(t.TaskDefinitionTags),
	})
}

// pairs are lines of an input in the words of a task definition.
func pairs(lines []inputs.Pair) []taskdef.Pair {
	var all []taskdef.Pair
	for _, line := range lines {
		all = append(all, taskdef.Pair(line))
	}
	return all
}

// render makes the task definitions and registers them, unless they are there
// already.
func (s *Step) render(ctx context.Context) error {
	s.keepCache(ctx)
	var registered []string
	for _, e := range s.editions {
		changed, err := s.register(ctx, e)
		if changed {
			registered = append(registered, e.definitionARN)
			s.did("task definition %s was registered, the service was not updated", strings.Join(registered, ", "))
		}
		if err != nil {
			return err
		}
	}
	var files, arns, previous []string
	for _, e := range s.editions {
		files, arns = append(files, e.file), append(arns, e.definitionARN)
	}
	for _, svc := range s.services {
		previous = append(previous, svc.currentARN)
	}
	if s.deployable == "" && s.settings.Task.Image != "" {
		s.report.Fact("Image", s.settings.Task.Image)
	}
	s.report.Fact("Task definition", strings.Join(arns, ", "))
	return s.output(map[string]string{
		inputs.OutputTaskDefinition: lines(files), inputs.OutputTaskDefinitionARN: lines(arns), inputs.OutputPreviousTaskDefinitionARN: lines(previous),
	})
}

// lines is an output for several: what there is, one a line.
func lines(all []string) string {
	return strings.Join(slices.DeleteFunc(all, func(one string) bool { return one == "" }), "\n")
}

// register makes one task definition, and says whether it was registered now.
func (s *Step) register(ctx context.Context, e *edition) (changed bool, err error) {
	wanted, err := s.wanted(e, cmp.Or(s.deployable, s.settings.Task.Image))
	if err != nil {
		return false, err
	}
	var same revision
	if len(e.known) > 0 {
		for _, change := range e.known[0].document.Diff(wanted) {
			s.report.Change(change.Path, change.Before, change.After)
		}
	}
	for _, known := range slices.Backward(e.known) { // what was named before what is there
		if wanted.Equal(known.document) {
			same = known
			break
		}
	}
	if e.file, err = s.writeDefinition(wanted); err != nil {
		return false, err
	}
	arn, changed, err := s.registerBeside(ctx, e, same, wanted)
	if err != nil {
		return false, err
	}
	e.definition, e.definitionARN = wanted, arn
	for _, check := range wanted.HealthChecks() {
		s.report.HealthCheck(check.Container, check.Interval)
	}
	return changed, nil
}

// keepRevisions deregisters older revisions once all is well. That it cannot is
// no reason to call a deployment failed.
func (s *Step) keepRevisions(ctx context.Context) error {
	for _, e := range s.editions {
		spare := []string{e.definitionARN}
		for _, svc := range e.services {
			spare = append(spare, svc.currentARN)
		}
		if err := e.deployer.KeepRevisions(ctx, e.definition.Family(), s.settings.Task.KeepRevisions, spare...); err != nil {
			s.report.Warning("older revisions of " + e.definition.Family() + " stay registered: " + err.Error())
		}
	}
	return nil
}

// writeDefinition writes the task definition for later steps and gives its path
// as they see it; empty where the runner has no folder for that.
func (s *Step) writeDefinition(d taskdef.Document) (string, error) {
	dir := s.opts.Getenv("RUNNER_TEMP")
	if dir == "" {
		return "", nil
	}
	fail := func(err error) (string, error) {
		return "", &problem.Error{
			Op: "write task definition", Err: fmt.Errorf("folder %s (RUNNER_TEMP): %w", dir, unpathed(err)),
			Fix: "Give the runner's temporary folder free space, and let this step write there.",
		}
	}
	var text bytes.Buffer
	if err := json.Indent(&text, d.JSON(), "", "  "); err != nil {
		return fail(err)
	}
	text.WriteByte('\n')
	// nektos/act names a folder that only its job's container has.
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // later steps of other users read from it
		return fail(err)
	}
	file, err := os.CreateTemp(dir, "task-definition-*.json")
	if err != nil {
		return fail(err)
	}
	_, err = file.Write(text.Bytes())
	// Later steps may run as another user.
	if err = errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return fail(err)
	}
	return s.hostPath(file.Name()), nil
}

// hostPath is a path below RUNNER_TEMP as steps outside of this container see
// it. The runner tells a container where the repository's folder is on the host
// (RUNNER_WORKSPACE, whose neighbour _temp is), but not where its own mounts are.
func (s *Step) hostPath(file string) string {
	const mount = "/github/runner_temp/"
	workspace := s.opts.Getenv("RUNNER_WORKSPACE")
	name, mounted := strings.CutPrefix(file, mount)
	if !mounted || workspace == "" || strings.HasPrefix(workspace, "/github/") {
		return file
	}
	return path.Join(path.Dir(workspace), "_temp", name)
}
