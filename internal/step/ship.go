package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
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
	opts := s.buildOptions(dir, box)
	s.useCaches(ctx, &opts)
	s.useMounts(&opts)
	ready, end := s.uploads(ctx)
	opts.Ready = ready
	s.built, err = build.Build(ctx, opts)
	end(err != nil)
	if err != nil {
		return s.explainBuild(err)
	}
	return s.finishBuild()
}

// explainBuild adds to a mistake in the Dockerfile what a build, which knows no
// inputs, cannot know.
func (s *Step) explainBuild(err error) error {
	known, ok := errors.AsType[*problem.Error](err)
	switch {
	case !ok || known.Fix != "":
	case strings.Contains(known.Error(), "target stage"):
		known.Input, known.Value = "target", s.settings.Build.Target
		known.Fix = "Name a stage of the Dockerfile (FROM ... AS NAME), or leave it empty for the last one."
	case errors.Is(known.Err, fs.ErrNotExist) && known.Line > 0:
		known.Fix = fmt.Sprintf("Check the path: it is looked for in the build context, %q, unless --from says otherwise, and .dockerignore can leave it out.",
			s.relative(s.settings.Build.ContextName()))
	}
	return err
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

func machine() v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	return p
}

// output sets outputs; values that are empty are left out.
func (s *Step) output(values map[string]string) error {
	for _, output := range inputs.Outputs() {
		if value := values[output.Name]; value != "" {
			if err := s.report.Output(output.Name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// lastPart is the short form of an ARN.
func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
