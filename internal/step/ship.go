package step

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/taskdef"
)

// build builds the image.
func (s *Step) build(ctx context.Context) error {
	if err := s.openRegistry(); err != nil {
		return err
	}
	dir, err := s.folder()
	if err != nil {
		return err
	}
	box, err := s.sandbox(ctx, dir)
	if err != nil {
		return err
	}
	b := s.settings.Build
	s.built, err = build.Build(ctx, build.Options{
		Context: b.Context, File: b.File, Display: s.relative(b.File),
		Target: b.Target, BuildArgs: b.BuildArgs, Labels: b.Labels, Secrets: b.Secrets,
		Platforms: []v1.Platform{s.platform()}, Machine: machine(),
		Images: images{s.registry}, Sandbox: box, Dir: filepath.Join(dir, "build"), Progress: s.report.Build,
	})
	if err != nil {
		return err
	}
	s.image = s.built.Images[0]
	return s.describeImage()
}

// describeImage tells the digests of what was built.
func (s *Step) describeImage() error {
	digest, err := s.image.Digest()
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	config, err := s.image.ConfigName()
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	layers, err := s.image.Layers()
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	s.report.Say("built", "image "+digest.String(), fmt.Sprintf("%d layers", len(layers)))
	s.report.Fact("Digest", digest.String())
	return s.output(map[string]string{
		inputs.OutputDigest: digest.String(), inputs.OutputImageID: config.String(), inputs.OutputTags: strings.Join(s.refs, "\n"),
	})
}

func (s *Step) sandbox(ctx context.Context, dir string) (sandbox.Sandbox, error) {
	box, warning, err := sandbox.Choose(ctx, s.settings.Build.Sandbox, sandbox.Options{
		StateDir: dir, Executable: s.opts.Executable,
		Guard: s.runner.Guarded(), GuardTrees: []string{s.settings.Workspace},
	})
	if err != nil {
		return nil, err
	}
	s.report.Build(progress.SandboxChosen{Name: box.Name(), Warning: warning})
	return box, nil
}

// platform is what to build for; Parse has checked it.
func (s *Step) platform() v1.Platform {
	if p, err := v1.ParsePlatform(s.settings.Build.Platform); err == nil && p != nil {
		return *p
	}
	return machine()
}

func machine() v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	return p
}

// push puts the image under its tags.
func (s *Step) push(ctx context.Context) error {
	pushed, err := s.registry.Push(ctx, s.image, s.refs)
	if err != nil {
		return err
	}
	first := pushed.Tags[0]
	s.deployable = taskdef.ImageReference(first.Ref, "", pushed.Digest.String())
	s.did("image %s was pushed, the service was not updated", s.deployable)
	s.report.Fact("Image", s.deployable)
	refs := make([]string, len(pushed.Tags))
	for i, tag := range pushed.Tags {
		refs[i] = tag.Ref
	}
	return s.output(map[string]string{inputs.OutputImage: s.deployable, inputs.OutputTags: strings.Join(refs, "\n")})
}

// render puts the image into the task definition and registers it, unless the
// service runs the same already.
func (s *Step) render(ctx context.Context) error {
	wanted := s.base
	if s.container != "" {
		image := cmp.Or(s.deployable, s.settings.Task.Image)
		var err error
		if wanted, err = s.base.WithImages(map[string]string{s.container: image}); err != nil {
			return err
		}
	}
	for _, change := range s.current.Diff(wanted) {
		s.report.Say("change", change.Path, change.Before+" -> "+change.After)
	}
	arn, changed, err := s.deployer.Register(ctx, s.current, wanted, s.currentARN)
	if err != nil {
		return err
	}
	s.definitionARN = arn
	if changed {
		s.did("task definition %s was registered, the service was not updated", arn)
	}
	s.report.Fact("Task definition", arn)
	return s.output(map[string]string{
		inputs.OutputTaskDefinitionARN: arn, inputs.OutputPreviousTaskDefinitionARN: s.currentARN,
	})
}

// deploy updates the service and follows the deployment to its end.
func (s *Step) deploy(ctx context.Context) error {
	s.did("the update of the service was asked for; look at its deployments")
	outcome, err := s.deployer.Deploy(ctx, s.definitionARN)
	s.report.Fact("Deployment", strings.TrimSpace(string(outcome.Status)+" "+outcome.DeploymentID))
	if outcome.Reason != "" {
		s.report.Fact("Reason", outcome.Reason)
	}
	if outcome.ConsoleURL != "" {
		s.report.Fact("Console", outcome.ConsoleURL)
	}
	if outcome.Status == deploy.StatusUnchanged {
		s.report.Say("unchanged", "service "+s.settings.Deployment.Service, outcome.Reason)
	}
	if outErr := s.output(map[string]string{
		inputs.OutputDeploymentID: outcome.DeploymentID, inputs.OutputDeploymentARN: outcome.DeploymentARN,
		inputs.OutputDeploymentStatus: string(outcome.Status), inputs.OutputDeploymentReason: outcome.Reason,
		inputs.OutputConsoleURL: outcome.ConsoleURL,
	}); outErr != nil && err == nil {
		return outErr
	}
	return err
}

// output sets outputs; values that are empty are left out.
func (s *Step) output(values map[string]string) error {
	for _, output := range inputs.Outputs() {
		if value := values[output.Name]; value != "" {
			if err := s.runner.SetOutput(output.Name, value); err != nil {
				return fmt.Errorf("output %s: %w", output.Name, err)
			}
		}
	}
	return nil
}
