package step

import (
	"context"
	"strings"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
)

// openDeployer makes the client for a service. It contacts nobody.
func (s *Step) openDeployer(svc *service) *deploy.Client {
	d := s.settings.Deployment
	return deploy.New(deploy.Options{
		Config: svc.home.session.Config, Cluster: svc.target.Cluster, Service: svc.target.Service, Attempts: d.MaxRetries + 1,
		Wait: d.WaitForServiceStability, WaitLimit: d.WaitFor, WaitAtPause: d.WaitAtPause,
		RollbackOnFailure: d.RollbackOnFailure, RollbackOnCancel: d.RollbackOnCancel,
		Update: serviceUpdate(d.Update, d.Strategy), CodeDeploy: s.codeDeploy(), Events: s.events(svc), Shared: svc.home.shared,
	})
}

// serviceUpdate is what the inputs say of the service, in deploy's words.
func serviceUpdate(u inputs.ServiceUpdate, s inputs.Strategy) deploy.Update {
	return deploy.Update{
		DesiredCount: u.DesiredCount, ForceNewDeployment: u.ForceNewDeployment, EnableECSManagedTags: u.EnableECSManagedTags,
		PropagateTags: u.PropagateTags, ManagedEBSVolumeName: u.ManagedEBSVolumeName, ManagedEBSVolume: u.ManagedEBSVolume,
		Strategy: deploy.Strategy{
			Name: s.Name, MinimumHealthyPercent: s.MinimumHealthyPercent, MaximumPercent: s.MaximumPercent,
			BakeMinutes: s.BakeMinutes, CanaryBakeMinutes: s.CanaryBakeMinutes, LinearBakeMinutes: s.LinearBakeMinutes,
			CanaryPercent: s.CanaryPercent, LinearPercent: s.LinearPercent, CircuitBreaker: s.CircuitBreaker,
			Alarms: s.Alarms, AlarmsOff: s.AlarmsOff,
		},
	}
}

// deploy updates the service and follows the deployment to its end.
func (s *Step) deploy(ctx context.Context) error {
	if s.settings.Deployment.Several() {
		return s.deploySeveral(ctx)
	}
	s.did("the update of the service was asked for; look at its deployments")
	svc := s.services[0]
	outcome, err := svc.deployer.Deploy(ctx, svc.edition.definitionARN)
	return s.deployed(outcome, err)
}

// resume continues or rolls back the deployment that an earlier run started.
func (s *Step) resume(ctx context.Context) error {
	if err := s.openServices(ctx); err != nil {
		return err
	}
	s.did("a decision about the service's deployment may have been sent; look at its deployments")
	outcome, err := s.services[0].deployer.Resume(ctx, s.settings.Deployment.Rollback)
	return s.deployed(outcome, err)
}

// deployed reports how a deployment ended.
func (s *Step) deployed(outcome deploy.Outcome, err error) error {
	if text := strings.TrimSpace(string(outcome.Status) + " " + outcome.DeploymentID); text != "" {
		s.report.Fact("Deployment", text)
	}
	if outcome.Reason != "" {
		s.report.Fact("Reason", outcome.Reason)
	}
	if outcome.ConsoleURL != "" {
		s.report.Fact("Console", outcome.ConsoleURL)
	}
	switch outcome.Status {
	case deploy.StatusUnchanged:
		s.report.Say("unchanged", "service "+lastPart(s.settings.Deployment.Service), outcome.Reason)
	case deploy.StatusPaused:
		s.report.Notice("Deployment " + outcome.DeploymentID + " of service " + lastPart(s.settings.Deployment.Service) + " is " + outcome.Reason +
			`. A step with "continue-deployment: true" lets it go on, one with "rollback-deployment: true" takes it back.`)
	default:
	}
	if outErr := s.output(map[string]string{
		inputs.OutputDeploymentID: outcome.DeploymentID, inputs.OutputDeploymentARN: outcome.DeploymentARN,
		inputs.OutputDeploymentStatus: string(outcome.Status), inputs.OutputDeploymentReason: outcome.Reason,
		inputs.OutputCodeDeployDeploymentID: outcome.CodeDeployID, inputs.OutputConsoleURL: outcome.ConsoleURL,
	}); outErr != nil && err == nil {
		return outErr
	}
	return err
}
