package step

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/problem"
)

// codeDeploy is what the inputs say about CodeDeploy, in deploy's words.
func (s *Step) codeDeploy() deploy.CodeDeploy {
	c := s.settings.Deployment.CodeDeploy
	return deploy.CodeDeploy{
		AppSpec: s.appSpec, AppSpecName: s.appSpecName, Application: c.Application, Group: c.Group, Config: c.Config, Description: c.Description, WaitForEnd: c.WaitForEnd,
	}
}

// readAppSpec reads the AppSpec that is given, or that lies in the workspace
// under its usual name: there it may belong to something else, so that it is
// only held against what an AppSpec must be when it is needed.
func (s *Step) readAppSpec() error {
	const fix = "Name a JSON or YAML file in the workspace with one resource of Type AWS::ECS::Service and its Properties.TaskDefinition, and check the repository out before this step (actions/checkout)."
	path := s.settings.Deployment.CodeDeploy.AppSpec
	if path == "" {
		if s.settings.Workspace == "" {
			return nil
		}
		for _, name := range []string{"appspec.yaml", "appspec.yml", "appspec.json"} {
			data, err := os.ReadFile(filepath.Join(s.settings.Workspace, name)) //nolint:gosec // a name of ours in the user's workspace
			if err == nil && deploy.CheckAppSpec(data) == nil {
				s.appSpec, s.appSpecName = data, name
				return nil
			}
		}
		return nil
	}
	data, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		err = unpathed(err)
	} else {
		err = deploy.CheckAppSpec(data)
	}
	if err != nil {
		e := &problem.Error{Op: "read the AppSpec", Input: "codedeploy-appspec", Value: s.relative(path), Err: err, Fix: fix}
		if !errors.Is(err, os.ErrNotExist) {
			e.File = s.relative(path)
		}
		return e
	}
	s.appSpec, s.appSpecName = data, s.relative(path)
	return nil
}
