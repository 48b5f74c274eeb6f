package step

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/taskdef"
)

// registerBeside registers a task definition, unless it is same. Where the
// deployment comes next, what that begins with is read meanwhile.
func (s *Step) registerBeside(ctx context.Context, e *edition, same revision, wanted taskdef.Document) (arn string, changed bool, err error) {
	d := s.settings.Deployment
	if !s.settings.Deploys() || d.Several() || s.settings.RunsTask() {
		return e.deployer.Register(ctx, same.document, wanted, same.arn)
	}
	svc := s.services[0]
	updates := same.arn == "" || same.arn != svc.currentARN || d.Update.ForceNewDeployment
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		svc.deployer.ReadAhead(reading, updates && svc.found.CodeDeploy == nil)
		return nil
	})
	if arn, changed, err = e.deployer.Register(ctx, same.document, wanted, same.arn); err != nil {
		cancel() // there is no deployment
	}
	_ = group.Wait() // the deployment tells what could not be read
	return arn, changed, err
}
