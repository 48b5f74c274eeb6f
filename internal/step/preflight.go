package step

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/taskdef"
)

// preflight reads what later phases depend on, side by side, so that what
// cannot work fails before the build. It finds everything that is wrong at once.
func (s *Step) preflight(ctx context.Context) error {
	if err := s.openRegistry(); err != nil {
		return err
	}
	var group errgroup.Group
	var targets, image, service error
	group.Go(func() error { targets = s.findTargets(ctx); return nil })
	group.Go(func() error { image = s.findImages(ctx); return nil })
	group.Go(func() error { service = s.findService(ctx); return nil })
	_ = group.Wait() // each keeps its own error, so that both are told
	if err := errors.Join(targets, image, service); err != nil {
		return err
	}
	for i, ref := range s.merged {
		s.report.Say("found", "image "+ref, s.product.platforms[i].String())
	}
	if s.deployer == nil {
		return nil
	}
	return s.chooseContainers(ctx)
}

// findService reads the service, what it runs, and the base task definition.
func (s *Step) findService(ctx context.Context) error {
	if !s.settings.Registers() {
		return nil
	}
	s.openDeployer()
	if !s.settings.Deploys() {
		return s.findBase(ctx)
	}
	service, err := s.deployer.Service(ctx)
	if err != nil {
		return err
	}
	s.currentARN = service.TaskDefinitionARN
	answer, err := s.deployer.TaskDefinition(ctx, service.TaskDefinitionARN)
	if err != nil {
		return err
	}
	if s.current, err = taskdef.Described(answer); err != nil {
		return fmt.Errorf("task definition %s: %w", service.TaskDefinitionARN, err)
	}
	s.report.Say("found", "service "+service.Name, "cluster "+service.ClusterName,
		fmt.Sprintf("%d of %d tasks running", service.Running, service.Desired), "task definition "+lastPart(service.TaskDefinitionARN))
	return s.findBase(ctx)
}
