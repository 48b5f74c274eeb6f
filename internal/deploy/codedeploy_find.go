package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// CodeDeploy says how a service is deployed whose deployment controller is
// CODE_DEPLOY. The zero value works: all is found from the service.
type CodeDeploy struct {
	// AppSpec is JSON or YAML; only its task definition is exchanged. Default:
	// that of the group's last successful deployment, else one made from the
	// service's load balancer.
	AppSpec []byte
	// AppSpecName is what the user calls it: its path.
	AppSpecName string
	// Application and Group are names. Default: AppECS-CLUSTER-SERVICE and
	// DgpECS-CLUSTER-SERVICE, else the group that names the service.
	Application, Group string
	// Config is how the traffic moves: CodeDeployDefault.ECSAllAtOnce, ...
	// Default: the group's.
	Config string
	// Description is shown with the deployment; CodeDeploy keeps 512 characters.
	Description string
	// WaitForEnd waits until the old tasks have been ended too. Without it, the
	// deployment has succeeded when all traffic is on the new ones.
	WaitForEnd bool
}

// byCodeDeploy says whether CodeDeploy deploys the service.
func byCodeDeploy(s *ecstypes.Service) bool {
	return s.DeploymentController != nil && s.DeploymentController.Type == ecstypes.DeploymentControllerTypeCodeDeploy
}

// taskSet finds the task set that takes the production traffic, or nil.
func taskSet(s *ecstypes.Service) *ecstypes.TaskSet {
	for i := range s.TaskSets {
		if aws.ToString(s.TaskSets[i].Status) == "PRIMARY" {
			return &s.TaskSets[i]
		}
	}
	return nil
}

const opGroup = "find the service's CodeDeploy deployment group"

// findGroup finds the deployment group of the service: as given, by the names
// that ECS's console gives, by the deployment that made the service's tasks, or
// among all groups.
func (c *Client) findGroup(ctx context.Context, s *ecstypes.Service) (*cdtypes.DeploymentGroupInfo, error) {
	given := c.opts.CodeDeploy
	suffix := "-" + lastPart(aws.ToString(s.ClusterArn)) + "-" + aws.ToString(s.ServiceName)
	application, name := firstOf(given.Application, "AppECS"+suffix), firstOf(given.Group, "DgpECS"+suffix)
	group, err := c.deploymentGroup(ctx, application, name)
	switch {
	case err == nil && serves(group, s):
		return group, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil && given.Group != "":
		return nil, &problem.Error{
			Op: opGroup, Input: "codedeploy-deployment-group", Value: name, Fix: "Name the service's own deployment group, or leave the input empty to have it found.",
			Err: fmt.Errorf("the group is for %s, not for service %s", ofServices(group), c.serviceName()),
		}
	case err != nil && !isDenied(err) && !isAbsent(err), err != nil && given.Application != "" && given.Group != "":
		return nil, c.groupProblem(application, name, err)
	}
	for _, set := range s.TaskSets {
		made, deploymentErr := c.codeDeployment(ctx, aws.ToString(set.ExternalId))
		if deploymentErr != nil || given.Application != "" && given.Application != aws.ToString(made.ApplicationName) {
			continue
		}
		group, groupErr := c.deploymentGroup(ctx, aws.ToString(made.ApplicationName), aws.ToString(made.DeploymentGroupName))
		if groupErr == nil && serves(group, s) {
			return group, nil
		}
	}
	return c.searchGroup(ctx, s, fmt.Sprintf("there is no deployment group %s in the application %s", name, application))
}

// searchGroup looks through all groups for those of the service.
func (c *Client) searchGroup(ctx context.Context, s *ecstypes.Service, why string) (*cdtypes.DeploymentGroupInfo, error) {
	const fix = "Set the inputs codedeploy-application and codedeploy-deployment-group."
	found, err := c.groupsOf(ctx, s)
	names := make([]string, 0, len(found))
	for _, g := range found {
		names = append(names, aws.ToString(g.ApplicationName)+"/"+aws.ToString(g.DeploymentGroupName))
	}
	slices.Sort(names)
	switch {
	case err != nil && isDenied(err):
		return nil, &problem.Error{
			Op: opGroup, Input: "service", Value: c.opts.Service, Err: fmt.Errorf("%s, and others cannot be looked for: %w", why, err), Fix: permission(err) + " Or: " + fix,
		}
	case err != nil:
		return nil, c.apiProblem(opGroup, "service", c.opts.Service, err)
	case len(found) == 0:
		return nil, &problem.Error{
			Op: opGroup, Input: "service", Value: c.opts.Service, Err: errors.New("no deployment group of the account and region names the service"),
			Fix: fmt.Sprintf("Create an application and a deployment group for the service in CodeDeploy (region %s), or change the service's deployment controller to ECS.", c.opts.Config.Region),
		}
	case len(found) > 1:
		return nil, &problem.Error{
			Op: opGroup, Input: "service", Value: c.opts.Service, Err: fmt.Errorf("several deployment groups name the service: %s", strings.Join(names, ", ")), Fix: fix,
		}
	}
	return &found[0], nil
}

// groupsOf lists the deployment groups that name the service.
func (c *Client) groupsOf(ctx context.Context, s *ecstypes.Service) ([]cdtypes.DeploymentGroupInfo, error) {
	applications := []string{c.opts.CodeDeploy.Application}
	if applications[0] == "" {
		applications = nil
		pages := cdsdk.NewListApplicationsPaginator(c.codedeploy, &cdsdk.ListApplicationsInput{})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			applications = append(applications, page.Applications...)
		}
	}
	const batch = 100
	var found []cdtypes.DeploymentGroupInfo
	for _, application := range applications {
		var names []string
		pages := cdsdk.NewListDeploymentGroupsPaginator(c.codedeploy, &cdsdk.ListDeploymentGroupsInput{ApplicationName: aws.String(application)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			names = append(names, page.DeploymentGroups...)
		}
		for some := range slices.Chunk(names, batch) {
			out, err := c.codedeploy.BatchGetDeploymentGroups(ctx, &cdsdk.BatchGetDeploymentGroupsInput{ApplicationName: aws.String(application), DeploymentGroupNames: some})
			if err != nil {
				return nil, err
			}
			found = append(found, slices.DeleteFunc(out.DeploymentGroupsInfo, func(g cdtypes.DeploymentGroupInfo) bool {
				return !serves(&g, s) || c.opts.CodeDeploy.Group != "" && c.opts.CodeDeploy.Group != aws.ToString(g.DeploymentGroupName)
			})...)
		}
	}
	return found, nil
}

// serves says whether the group deploys to the service.
func serves(g *cdtypes.DeploymentGroupInfo, s *ecstypes.Service) bool {
	return slices.ContainsFunc(g.EcsServices, func(one cdtypes.ECSService) bool {
		return lastPart(aws.ToString(one.ServiceName)) == aws.ToString(s.ServiceName) && lastPart(aws.ToString(one.ClusterName)) == lastPart(aws.ToString(s.ClusterArn))
	})
}

func ofServices(g *cdtypes.DeploymentGroupInfo) string {
	names := make([]string, 0, len(g.EcsServices))
	for _, one := range g.EcsServices {
		names = append(names, aws.ToString(one.ClusterName)+"/"+aws.ToString(one.ServiceName))
	}
	return firstOf(strings.Join(names, ", "), "no ECS service")
}

func (c *Client) deploymentGroup(ctx context.Context, application, name string) (*cdtypes.DeploymentGroupInfo, error) {
	out, err := c.codedeploy.GetDeploymentGroup(ctx, &cdsdk.GetDeploymentGroupInput{ApplicationName: aws.String(application), DeploymentGroupName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return out.DeploymentGroupInfo, nil
}

// codeDeployment reads one deployment.
func (c *Client) codeDeployment(ctx context.Context, id string) (*cdtypes.DeploymentInfo, error) {
	if id == "" {
		return nil, errors.New("no deployment")
	}
	out, err := c.codedeploy.GetDeployment(ctx, &cdsdk.GetDeploymentInput{DeploymentId: aws.String(id)})
	if err != nil {
		return nil, err
	}
	return out.DeploymentInfo, nil
}

// isAbsent says whether CodeDeploy has no such application or group.
func isAbsent(err error) bool {
	var (
		application *cdtypes.ApplicationDoesNotExistException
		group       *cdtypes.DeploymentGroupDoesNotExistException
	)
	return errors.As(err, &application) || errors.As(err, &group)
}

func (c *Client) groupProblem(application, name string, err error) error {
	if !isAbsent(err) {
		e := c.apiProblem(opGroup, "codedeploy-deployment-group", name, err)
		if known, ok := errors.AsType[*problem.Error](e); ok && known.Fix == "" {
			known.Fix = fmt.Sprintf("Check that CodeDeploy is there in the region (%s).", c.opts.Config.Region)
		}
		return e
	}
	e := &problem.Error{
		Op: opGroup, Input: "codedeploy-deployment-group", Value: name, Err: err,
		Fix: fmt.Sprintf("Check the names and the region (%s), or leave both inputs empty to have the group found.", c.opts.Config.Region),
	}
	if _, noApplication := errors.AsType[*cdtypes.ApplicationDoesNotExistException](err); noApplication {
		e.Input, e.Value = "codedeploy-application", application
	}
	return e
}
