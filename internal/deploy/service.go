package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// Service is what a deployment needs to know of the service before it begins.
type Service struct {
	ARN, Name               string
	ClusterARN, ClusterName string
	// TaskDefinitionARN is what the service runs or is being moved to.
	TaskDefinitionARN string
	// StableTaskDefinitionARN is what its last completed deployment runs:
	// where a rollback ends. Empty when none has completed.
	StableTaskDefinitionARN string
	// Desired, Running and Pending are numbers of tasks.
	Desired, Running, Pending int
	// CircuitBreaker is true when ECS itself fails a deployment whose tasks
	// fail; RollsBack when it then goes back by itself.
	CircuitBreaker, RollsBack bool
	// UnderWay is the deployment that is not over yet, ecs-svc/N, or empty.
	UnderWay string
	// Strategy is how deployments go, in lower case: rolling, blue/green.
	Strategy string
	// LaunchType is FARGATE, EC2 or EXTERNAL, or empty where CapacityProviders
	// are used.
	LaunchType        string
	CapacityProviders []string
	// CodeDeploy is the group that deploys the service, where CodeDeploy does.
	CodeDeploy *CodeDeployGroup
}

// CodeDeployGroup names a deployment group of CodeDeploy, and the deployment
// configuration that it has.
type CodeDeployGroup struct{ Application, Name, Config string }

// Service reads the service and refuses, as a *problem.Error, what cannot be
// deployed to: one that is missing, inactive or draining, or whose deployments
// are not ECS's own rolling ones.
func (c *Client) Service(ctx context.Context) (*Service, error) {
	s, err := c.usable(ctx)
	if err != nil {
		return nil, err
	}
	config := c.breakerOf(s)
	out := &Service{
		ARN: aws.ToString(s.ServiceArn), Name: aws.ToString(s.ServiceName),
		ClusterARN: aws.ToString(s.ClusterArn), ClusterName: lastPart(aws.ToString(s.ClusterArn)),
		TaskDefinitionARN:       aws.ToString(s.TaskDefinition),
		StableTaskDefinitionARN: stable(s),
		Desired:                 int(s.DesiredCount), Running: int(s.RunningCount), Pending: int(s.PendingCount),
		CircuitBreaker: config.enabled, RollsBack: config.rollback,
		Strategy: "rolling", LaunchType: string(s.LaunchType),
	}
	if c := s.DeploymentConfiguration; c != nil && c.Strategy != "" {
		out.Strategy = strings.ToLower(strings.ReplaceAll(string(c.Strategy), "_", "/"))
	}
	if now := primary(s); now != nil && now.RolloutState == ecstypes.DeploymentRolloutStateInProgress {
		out.UnderWay = aws.ToString(now.Id)
	}
	for _, p := range s.CapacityProviderStrategy {
		out.CapacityProviders = append(out.CapacityProviders, aws.ToString(p.CapacityProvider))
	}
	if len(out.CapacityProviders) > 0 {
		out.LaunchType = ""
	}
	if byCodeDeploy(s) {
		b, err := c.newBlueGreen(ctx, s, "") // finds the deployment group, or says why not
		if err != nil {
			return nil, err
		}
		out.TaskDefinitionARN, out.StableTaskDefinitionARN = b.d.previous, b.d.previous
		out.Strategy = "blue/green by CodeDeploy"
		out.CodeDeploy = &CodeDeployGroup{
			Application: aws.ToString(b.group.ApplicationName), Name: aws.ToString(b.group.DeploymentGroupName), Config: aws.ToString(b.group.DeploymentConfigName),
		}
	}
	return out, nil
}

// usable is Service with ECS's whole answer.
func (c *Client) usable(ctx context.Context) (*ecstypes.Service, error) {
	s, err := c.describe(ctx)
	if err != nil {
		return nil, c.serviceProblem(ctx, err)
	}
	return c.accepted(s)
}

// accepted refuses a service that cannot be deployed to.
func (c *Client) accepted(s *ecstypes.Service) (*ecstypes.Service, error) {
	refuse := func(why, fix string) (*ecstypes.Service, error) {
		return nil, &problem.Error{Op: "deploy to service", Input: "service", Value: c.opts.Service, Err: errors.New(why), Fix: fix}
	}
	switch status := aws.ToString(s.Status); status {
	case "ACTIVE", "":
	case "INACTIVE":
		return refuse("the service is INACTIVE: it has been deleted", "Create the service again, or name another one.")
	default:
		return refuse("the service is "+status+": it is being deleted", "Name another service, or create this one again once it is gone.")
	}
	if s.ResourceManagementType == ecstypes.ResourceManagementTypeEcs {
		return refuse("the service belongs to an Express Mode service, whose parts ECS manages", "Update it as an Express Mode service.")
	}
	if s.DeploymentController != nil {
		switch s.DeploymentController.Type {
		case ecstypes.DeploymentControllerTypeEcs, "":
		case ecstypes.DeploymentControllerTypeCodeDeploy:
			return s, nil
		default:
			return refuse(fmt.Sprintf("its deployment controller is %s, which leaves deployments to another tool", s.DeploymentController.Type),
				"Deploy with the tool that owns the service's task sets, or create the service with the controller ECS.")
		}
	}
	if err := c.tooShort(s); err != nil {
		return nil, err
	}
	return s, nil
}

// errMissing is ECS's word for a service that is not in the cluster.
var errMissing = errors.New("MISSING")

// describe reads the service.
func (c *Client) describe(ctx context.Context) (*ecstypes.Service, error) {
	in := &ecs.DescribeServicesInput{Services: []string{c.opts.Service}}
	if c.cluster != "" {
		in.Cluster = aws.String(c.cluster)
	}
	var out *ecs.DescribeServicesOutput
	var err error
	if c.opts.Shared != nil {
		out, err = c.describeTogether(ctx)
	} else {
		out, err = c.ecs.DescribeServices(ctx, in)
	}
	if err != nil {
		return nil, err
	}
	if len(out.Services) > 0 {
		return &out.Services[0], nil
	}
	if len(out.Failures) > 0 && aws.ToString(out.Failures[0].Reason) != "MISSING" {
		f := out.Failures[0]
		return nil, fmt.Errorf("service %s: %s %s", aws.ToString(f.Arn), aws.ToString(f.Reason), aws.ToString(f.Detail))
	}
	return nil, fmt.Errorf("service %s in cluster %s is %w", c.serviceName(), c.clusterName(), errMissing)
}

// serviceProblem explains why the service could not be read.
func (c *Client) serviceProblem(ctx context.Context, err error) error {
	var noCluster *ecstypes.ClusterNotFoundException
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("read service %s: %w", c.serviceName(), context.Cause(ctx))
	case errors.Is(err, errMissing):
		return &problem.Error{Op: "read service", Input: "service", Value: c.opts.Service, Err: err, Fix: c.neighbours(ctx)}
	case errors.As(err, &noCluster):
		return &problem.Error{
			Op: "read service", Input: "cluster", Value: c.clusterName(), Err: err,
			Fix: fmt.Sprintf("Check the name of the cluster, the account and the region (%s).", c.opts.Config.Region),
		}
	default:
		return c.apiProblem("read service", "service", c.opts.Service, err)
	}
}

// neighbours names the services that do exist in the cluster, the likely ones
// first; where that may not be read, it says what to check.
func (c *Client) neighbours(ctx context.Context) string {
	const most = 20
	check := fmt.Sprintf("Check the inputs service and cluster, the account and the region (%s)", c.opts.Config.Region)
	in := &ecs.ListServicesInput{MaxResults: aws.Int32(100)}
	if c.cluster != "" {
		in.Cluster = aws.String(c.cluster)
	}
	out, err := c.ecs.ListServices(ctx, in)
	if err != nil {
		return check + "."
	}
	if len(out.ServiceArns) == 0 {
		return fmt.Sprintf("%s: cluster %s has no service.", check, c.clusterName())
	}
	names := make([]string, 0, len(out.ServiceArns))
	for _, arn := range out.ServiceArns {
		names = append(names, lastPart(arn))
	}
	wanted := strings.ToLower(c.serviceName())
	slices.SortFunc(names, func(a, b string) int {
		if d := shared(wanted, strings.ToLower(b)) - shared(wanted, strings.ToLower(a)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	more := ""
	if len(names) > most || aws.ToString(out.NextToken) != "" {
		names, more = names[:min(most, len(names))], ", ..."
	}
	return fmt.Sprintf("%s: cluster %s has %s%s.", check, c.clusterName(), strings.Join(names, ", "), more)
}

// shared counts the letters that two names have in common at their start.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// breaker is what the service's configuration will say of failing deployments.
type breaker struct{ enabled, rollback bool }

func (c *Client) breakerOf(s *ecstypes.Service) breaker {
	var b breaker
	if s == nil {
		return b
	}
	plan := c.planned(s)
	if circuit := plan.DeploymentCircuitBreaker; circuit != nil {
		b.enabled = circuit.Enable
		b.rollback = circuit.Enable && circuit.Rollback
	}
	if alarms := plan.Alarms; alarms != nil && alarms.Enable && alarms.Rollback {
		b.rollback = true
	}
	return b
}

// primary is the service's newest deployment: the one it is being moved to.
func primary(s *ecstypes.Service) *ecstypes.Deployment {
	for i := range s.Deployments {
		if aws.ToString(s.Deployments[i].Status) == "PRIMARY" {
			return &s.Deployments[i]
		}
	}
	return nil
}

// named finds a deployment of the service by its ID.
func named(s *ecstypes.Service, id string) *ecstypes.Deployment {
	for i := range s.Deployments {
		if aws.ToString(s.Deployments[i].Id) == id {
			return &s.Deployments[i]
		}
	}
	return nil
}

// stable is the task definition that the service last ran well, or empty.
func stable(s *ecstypes.Service) string {
	if p := primary(s); p != nil && p.RolloutState == "" && len(s.Deployments) == 1 {
		return aws.ToString(p.TaskDefinition) // behind a Classic Load Balancer ECS gives no rollout state
	}
	for _, status := range []string{"PRIMARY", "ACTIVE"} {
		for _, d := range s.Deployments {
			if aws.ToString(d.Status) == status && d.RolloutState == ecstypes.DeploymentRolloutStateCompleted {
				return aws.ToString(d.TaskDefinition)
			}
		}
	}
	return ""
}
