package step

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/towline/towline/internal/problem"
)

// checkFiles finds out early whether the files are there that the inputs name.
func (s *Step) checkFiles() error {
	var errs []error
	if s.settings.Builds() {
		var err error
		s.epoch, err = s.sourceDateEpoch()
		errs = append(errs, s.checkBuildFiles(), err)
	}
	if file := s.settings.Task.TaskDefinition; file != "" {
		errs = append(errs, s.readTaskDefinition(file))
	}
	if s.settings.Deploys() {
		errs = append(errs, s.readAppSpec())
	}
	return errors.Join(errs...)
}

func (s *Step) checkBuildFiles() error {
	const opRead = "read the inputs"
	b := s.settings.Build
	if b.ContextHoldsFile && strings.Contains(b.Context, "://") || strings.HasPrefix(b.Context, "git@") {
		return nil // servers are asked by the build
	}
	if info, err := os.Stat(b.Context); err != nil || info.IsDir() == b.ContextHoldsFile {
		if err == nil {
			err = errors.New("it is not a folder")
			if b.ContextHoldsFile {
				err = errors.New("it is not a file")
			}
		}
		return &problem.Error{
			Op: opRead, Input: "context", Value: s.relative(b.Context), Err: unpathed(err),
			Fix: "Name a folder of the workspace, and check the repository out before this step (actions/checkout).",
		}
	}
	if b.ContextHoldsFile {
		return nil
	}
	if info, err := os.Stat(b.File); err != nil || info.IsDir() {
		if err == nil {
			err = errors.New("it is a folder")
		}
		return &problem.Error{
			Op: opRead, Input: "file", Value: s.relative(b.File), Err: unpathed(err),
			Fix: "Name the Dockerfile by its path from the workspace, and check the repository out before this step (actions/checkout).",
		}
	}
	return nil
}

// relative is a path as the user knows it.
func (s *Step) relative(path string) string {
	workspace := s.settings.Workspace
	if rel, err := filepath.Rel(workspace, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// unpathed takes the path out of an error that is told beside it.
func unpathed(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
