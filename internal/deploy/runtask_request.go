package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

// maxOverrides is how many characters overrides may have.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html
const maxOverrides = 8192

// runTaskRequest is the body of RunTask. Parts that the user writes as JSON go
// through as they are.
type runTaskRequest struct {
	Cluster                  string          `json:"cluster,omitempty"`
	TaskDefinition           string          `json:"taskDefinition"`
	Count                    int             `json:"count"`
	ClientToken              string          `json:"clientToken,omitempty"`
	StartedBy                string          `json:"startedBy,omitempty"`
	LaunchType               string          `json:"launchType,omitempty"`
	CapacityProviderStrategy json.RawMessage `json:"capacityProviderStrategy,omitempty"`
	PlatformVersion          string          `json:"platformVersion,omitempty"`
	NetworkConfiguration     *runNetwork     `json:"networkConfiguration,omitempty"`
	Overrides                *runOverrides   `json:"overrides,omitempty"`
	Tags                     []runTag        `json:"tags,omitempty"`
	VolumeConfigurations     []runVolume     `json:"volumeConfigurations,omitempty"`
}

type runNetwork struct {
	AwsvpcConfiguration struct {
		Subnets        []string `json:"subnets"`
		SecurityGroups []string `json:"securityGroups,omitempty"`
		AssignPublicIP string   `json:"assignPublicIp,omitempty"`
	} `json:"awsvpcConfiguration"`
}

type runOverrides struct {
	ContainerOverrides []map[string]json.RawMessage `json:"containerOverrides"`
}

type runTag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type runVolume struct {
	Name             string          `json:"name"`
	ManagedEBSVolume json.RawMessage `json:"managedEBSVolume"`
}

// taskRequest makes the body of RunTask from the task and the service.
func (c *Client) taskRequest(ctx context.Context, t Task, token string) ([]byte, error) {
	service := &ecstypes.Service{}
	if c.opts.Service != "" {
		var err error
		if service, err = c.describe(ctx); err != nil {
			return nil, c.serviceProblem(ctx, err)
		}
	}
	request := runTaskRequest{
		Cluster: c.cluster, TaskDefinition: t.DefinitionARN, Count: 1, ClientToken: token, StartedBy: t.StartedBy,
	}
	var err error
	if err = request.place(t, service, c.opts.Service != ""); err != nil {
		return nil, err
	}
	if request.Overrides, err = t.overrides(); err != nil {
		return nil, err
	}
	for _, tag := range t.Tags {
		request.Tags = append(request.Tags, runTag{tag.Name, tag.Value})
	}
	if t.VolumeName != "" {
		request.VolumeConfigurations = []runVolume{{t.VolumeName, t.Volume}}
	}
	body, err := json.Marshal(request) //nolint:gosec // the token is no secret: it tells repeated calls apart
	if err != nil {
		return nil, fmt.Errorf("request of RunTask: %w", err)
	}
	return body, nil
}

// place says on what and in which network the task runs.
func (r *runTaskRequest) place(t Task, s *ecstypes.Service, inherits bool) error {
	network, strategy, launch, platform := placeOf(s)
	switch {
	case t.CapacityProviderStrategy != nil:
		r.CapacityProviderStrategy = t.CapacityProviderStrategy
	case t.LaunchType != "":
		r.LaunchType = t.LaunchType
	case len(strategy) > 0:
		var items []map[string]any
		for _, item := range strategy {
			items = append(items, map[string]any{"capacityProvider": aws.ToString(item.CapacityProvider), "weight": item.Weight, "base": item.Base})
		}
		encoded, err := json.Marshal(items)
		if err != nil {
			return fmt.Errorf("capacity providers: %w", err)
		}
		r.CapacityProviderStrategy = encoded
	case inherits:
		r.LaunchType = string(launch)
	default:
		r.LaunchType = string(ecstypes.LaunchTypeFargate)
	}
	if r.LaunchType == string(ecstypes.LaunchTypeFargate) || strings.Contains(string(r.CapacityProviderStrategy), `"FARGATE`) {
		r.PlatformVersion = platform
	}
	r.PlatformVersion = firstOf(t.PlatformVersion, r.PlatformVersion)
	if t.Definition.NetworkMode() != "awsvpc" && len(t.Subnets) == 0 {
		return nil
	}
	r.NetworkConfiguration = &runNetwork{}
	vpc := &r.NetworkConfiguration.AwsvpcConfiguration
	vpc.Subnets, vpc.SecurityGroups, vpc.AssignPublicIP = t.Subnets, t.SecurityGroups, t.AssignPublicIP
	if network != nil {
		if len(vpc.Subnets) == 0 {
			vpc.Subnets = network.Subnets
		}
		if len(vpc.SecurityGroups) == 0 {
			vpc.SecurityGroups = network.SecurityGroups
		}
		vpc.AssignPublicIP = firstOf(vpc.AssignPublicIP, string(network.AssignPublicIp))
	}
	if len(vpc.Subnets) == 0 {
		return &problem.Error{
			Op: "run task of " + t.Definition.Family(), Input: "run-task-subnets",
			Err: errors.New("the task definition has the network mode awsvpc, and there is no service to take subnets from"),
			Fix: `Set "run-task-subnets", and perhaps "run-task-security-groups".`,
		}
	}
	return nil
}

// placeOf is where a service's tasks run. Behind CodeDeploy its task set knows.
func placeOf(s *ecstypes.Service) (*ecstypes.AwsVpcConfiguration, []ecstypes.CapacityProviderStrategyItem, ecstypes.LaunchType, string) {
	network, strategy, launch, platform := s.NetworkConfiguration, s.CapacityProviderStrategy, s.LaunchType, aws.ToString(s.PlatformVersion)
	for _, set := range s.TaskSets {
		if aws.ToString(set.Status) != "PRIMARY" {
			continue
		}
		if network == nil {
			network = set.NetworkConfiguration
		}
		if len(strategy) == 0 && launch == "" {
			strategy, launch = set.CapacityProviderStrategy, set.LaunchType
		}
		platform = firstOf(platform, aws.ToString(set.PlatformVersion))
	}
	if network == nil {
		return nil, strategy, launch, platform
	}
	return network.AwsvpcConfiguration, strategy, launch, platform
}

// overrides puts the command and the environment for the task's container to
// what the user wrote as JSON.
func (t Task) overrides() (*runOverrides, error) {
	fail := func(fix, format string, args ...any) (*runOverrides, error) {
		return nil, &problem.Error{Op: "run task of " + t.Definition.Family(), Input: "run-task-container-overrides", Err: fmt.Errorf(format, args...), Fix: fix}
	}
	var o runOverrides
	if t.ContainerOverrides != nil {
		if err := json.Unmarshal(t.ContainerOverrides, &o.ContainerOverrides); err != nil {
			return fail("Write a JSON list of objects with a name.", "%w", err)
		}
	}
	if len(t.Command) > 0 || len(t.Environment) > 0 {
		if err := o.container(t); err != nil {
			return fail("Write environment as a list of name and value.", "container %s: %w", t.Container, err)
		}
	}
	if len(o.ContainerOverrides) == 0 {
		return nil, nil
	}
	var known []string
	for _, c := range t.Definition.Containers() {
		known = append(known, c.Name)
	}
	for _, each := range o.ContainerOverrides {
		var name string
		if err := json.Unmarshal(each["name"], &name); err != nil || !slices.Contains(known, name) {
			return fail("Use a container that exists: "+strings.Join(known, ", ")+".", "task definition %s has no container %q", t.Definition.Family(), name)
		}
	}
	encoded, err := json.Marshal(o)
	if err != nil {
		return fail("", "%w", err)
	}
	if len(encoded) > maxOverrides {
		return fail("Shorten the command or the environment, or set them in the task definition.", "the overrides have %d characters, ECS takes at most %d", len(encoded), maxOverrides)
	}
	return &o, nil
}

// container sets the command and the environment of the task's container.
func (o *runOverrides) container(t Task) error {
	name, err := json.Marshal(t.Container)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(o.ContainerOverrides, func(each map[string]json.RawMessage) bool { return string(each["name"]) == string(name) })
	if at < 0 {
		at = len(o.ContainerOverrides)
		o.ContainerOverrides = append(o.ContainerOverrides, map[string]json.RawMessage{"name": name})
	}
	mine := o.ContainerOverrides[at]
	if len(t.Command) > 0 {
		if mine["command"], err = json.Marshal(t.Command); err != nil {
			return err
		}
	}
	if len(t.Environment) == 0 {
		return nil
	}
	var variables []map[string]string
	if mine["environment"] != nil {
		if err = json.Unmarshal(mine["environment"], &variables); err != nil {
			return err
		}
	}
	variables = slices.DeleteFunc(variables, func(v map[string]string) bool {
		return slices.ContainsFunc(t.Environment, func(set taskdef.Pair) bool { return set.Name == v["name"] })
	})
	for _, set := range t.Environment {
		variables = append(variables, map[string]string{"name": set.Name, "value": set.Value})
	}
	mine["environment"], err = json.Marshal(variables)
	return err
}
