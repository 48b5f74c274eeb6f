package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/problem"
)

// Update is what the service is to become besides its task definition. What is
// nil, empty or false is not sent, so that ECS leaves it as it is.
type Update struct {
	DesiredCount *int
	// ForceNewDeployment deploys even what the service runs already.
	ForceNewDeployment   bool
	EnableECSManagedTags *bool
	// PropagateTags is SERVICE, TASK_DEFINITION or NONE.
	PropagateTags string
	// ManagedEBSVolume is a JSON object with ECS's names, for the volume
	// ManagedEBSVolumeName of the task definition.
	ManagedEBSVolumeName string
	ManagedEBSVolume     json.RawMessage
	Strategy             Strategy
}

// Strategy is how ECS is to replace tasks.
type Strategy struct {
	// Name is rolling, recreate, blue-green, linear or canary.
	Name                                              string
	MinimumHealthyPercent, MaximumPercent             *int
	BakeMinutes, CanaryBakeMinutes, LinearBakeMinutes *int
	CanaryPercent, LinearPercent                      *float64
	// CircuitBreaker is on, off or rollback.
	CircuitBreaker string
	// Alarms are names of CloudWatch alarms; AlarmsOff turns alarms off.
	Alarms    []string
	AlarmsOff bool
}

// asks says whether anything but the task definition is to be changed.
func (u Update) asks() bool {
	s := u.Strategy
	given := u.DesiredCount != nil || u.EnableECSManagedTags != nil || u.PropagateTags != "" || len(u.ManagedEBSVolume) > 0
	return given || s.Name != "" || s.CircuitBreaker != "" || len(s.Alarms) > 0 || s.AlarmsOff || s.CanaryPercent != nil || s.LinearPercent != nil ||
		anySet(s.MinimumHealthyPercent, s.MaximumPercent, s.BakeMinutes, s.CanaryBakeMinutes, s.LinearBakeMinutes)
}

func anySet(numbers ...*int) bool {
	for _, n := range numbers {
		if n != nil {
			return true
		}
	}
	return false
}

// updateInput is what UpdateService is to carry.
func (c *Client) updateInput(before *ecstypes.Service, arn string) (*ecs.UpdateServiceInput, error) {
	u := c.opts.Update
	in := &ecs.UpdateServiceInput{
		Service: aws.String(c.opts.Service), TaskDefinition: aws.String(arn), ForceNewDeployment: u.ForceNewDeployment,
		EnableECSManagedTags: u.EnableECSManagedTags, PropagateTags: ecstypes.PropagateTags(u.PropagateTags),
		DesiredCount: number(u.DesiredCount), DeploymentConfiguration: u.Strategy.over(before.DeploymentConfiguration, c.opts.RollbackOnFailure),
	}
	if c.cluster != "" {
		in.Cluster = aws.String(c.cluster)
	}
	if len(u.ManagedEBSVolume) > 0 {
		volume := ecstypes.ServiceVolumeConfiguration{Name: aws.String(u.ManagedEBSVolumeName), ManagedEBSVolume: &ecstypes.ServiceManagedEBSVolumeConfiguration{}}
		decoder := json.NewDecoder(bytes.NewReader(u.ManagedEBSVolume))
		decoder.DisallowUnknownFields() // what is not understood would be lost
		if err := decoder.Decode(volume.ManagedEBSVolume); err != nil {
			return nil, &problem.Error{
				Op: "update service " + c.serviceName(), Input: "service-managed-ebs-volume", Err: err,
				Fix: "Use the names of ECS's ServiceManagedEBSVolumeConfiguration: roleArn, sizeInGiB, volumeType, encrypted, iops, kmsKeyId, snapshotId, filesystemType, throughput, tagSpecifications.",
			}
		}
		in.VolumeConfigurations = []ecstypes.ServiceVolumeConfiguration{volume}
	}
	return in, nil
}

// over is the part of a deployment configuration that s changes, or nil. ECS
// keeps members that are not sent; within a member it keeps nothing, so those
// begin as they are now.
func (s Strategy) over(now *ecstypes.DeploymentConfiguration, rollback bool) *ecstypes.DeploymentConfiguration {
	if now == nil {
		now = &ecstypes.DeploymentConfiguration{}
	}
	out := &ecstypes.DeploymentConfiguration{
		MinimumHealthyPercent: number(s.MinimumHealthyPercent), MaximumPercent: number(s.MaximumPercent), BakeTimeInMinutes: number(s.BakeMinutes),
	}
	switch s.Name {
	case "rolling":
		out.Strategy = ecstypes.DeploymentStrategyRolling
	case "recreate":
		out.Strategy = ecstypes.DeploymentStrategyRolling
		out.MinimumHealthyPercent, out.MaximumPercent = aws.Int32(0), aws.Int32(100)
	case "blue-green":
		out.Strategy = ecstypes.DeploymentStrategyBlueGreen
		if out.BakeTimeInMinutes == nil { // this strategy must have one
			out.BakeTimeInMinutes = aws.Int32(aws.ToInt32(now.BakeTimeInMinutes))
		}
	case "linear":
		out.Strategy = ecstypes.DeploymentStrategyLinear
	case "canary":
		out.Strategy = ecstypes.DeploymentStrategyCanary
	}
	if s.CanaryPercent != nil || s.CanaryBakeMinutes != nil {
		out.CanaryConfiguration = &ecstypes.CanaryConfiguration{CanaryPercent: s.CanaryPercent, CanaryBakeTimeInMinutes: number(s.CanaryBakeMinutes)}
		if was := now.CanaryConfiguration; was != nil {
			out.CanaryConfiguration.CanaryPercent = either(s.CanaryPercent, was.CanaryPercent)
			out.CanaryConfiguration.CanaryBakeTimeInMinutes = either(number(s.CanaryBakeMinutes), was.CanaryBakeTimeInMinutes)
		}
	}
	if s.LinearPercent != nil || s.LinearBakeMinutes != nil {
		out.LinearConfiguration = &ecstypes.LinearConfiguration{StepPercent: s.LinearPercent, StepBakeTimeInMinutes: number(s.LinearBakeMinutes)}
		if was := now.LinearConfiguration; was != nil {
			out.LinearConfiguration.StepPercent = either(s.LinearPercent, was.StepPercent)
			out.LinearConfiguration.StepBakeTimeInMinutes = either(number(s.LinearBakeMinutes), was.StepBakeTimeInMinutes)
		}
	}
	out.DeploymentCircuitBreaker, out.Alarms = s.breaker(now), s.alarms(now, rollback)
	if !anySet(s.MinimumHealthyPercent, s.MaximumPercent, s.BakeMinutes) && s.Name == "" && out.CanaryConfiguration == nil &&
		out.LinearConfiguration == nil && out.DeploymentCircuitBreaker == nil && out.Alarms == nil {
		return nil
	}
	return out
}

func (s Strategy) breaker(now *ecstypes.DeploymentConfiguration) *ecstypes.DeploymentCircuitBreaker {
	if s.CircuitBreaker == "" {
		return nil
	}
	out := ecstypes.DeploymentCircuitBreaker{}
	if now.DeploymentCircuitBreaker != nil {
		out = *now.DeploymentCircuitBreaker // its threshold
	}
	out.Enable, out.Rollback = s.CircuitBreaker != "off", s.CircuitBreaker == "rollback"
	return &out
}

func (s Strategy) alarms(now *ecstypes.DeploymentConfiguration, rollback bool) *ecstypes.DeploymentAlarms {
	switch {
	case s.AlarmsOff:
		out := &ecstypes.DeploymentAlarms{AlarmNames: []string{}}
		if now.Alarms != nil {
			out.AlarmNames = append(out.AlarmNames, now.Alarms.AlarmNames...)
		}
		return out
	case len(s.Alarms) > 0:
		return &ecstypes.DeploymentAlarms{AlarmNames: s.Alarms, Enable: true, Rollback: rollback}
	default:
		return nil
	}
}

func either[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func number(n *int) *int32 {
	if n == nil {
		return nil
	}
	return aws.Int32(int32(*n))
}

// planned is the configuration that the next deployment will have.
func (c *Client) planned(s *ecstypes.Service) ecstypes.DeploymentConfiguration {
	var plan ecstypes.DeploymentConfiguration
	if s.DeploymentConfiguration != nil {
		plan = *s.DeploymentConfiguration
	}
	over := c.opts.Update.Strategy.over(s.DeploymentConfiguration, c.opts.RollbackOnFailure)
	if over == nil {
		return plan
	}
	plan.BakeTimeInMinutes = either(over.BakeTimeInMinutes, plan.BakeTimeInMinutes)
	plan.CanaryConfiguration = either(over.CanaryConfiguration, plan.CanaryConfiguration)
	plan.LinearConfiguration = either(over.LinearConfiguration, plan.LinearConfiguration)
	plan.DeploymentCircuitBreaker = either(over.DeploymentCircuitBreaker, plan.DeploymentCircuitBreaker)
	plan.Alarms = either(over.Alarms, plan.Alarms)
	if over.Strategy != "" {
		plan.Strategy = over.Strategy
	}
	return plan
}

// bakes is how long a deployment lasts at least because of its pauses between
// steps of traffic.
func bakes(plan ecstypes.DeploymentConfiguration) time.Duration {
	const canaryBake, linearStep, linearBake = 10, 10, 6 // ECS's defaults
	minutes := int(aws.ToInt32(plan.BakeTimeInMinutes))
	switch plan.Strategy {
	case ecstypes.DeploymentStrategyBlueGreen:
	case ecstypes.DeploymentStrategyCanary:
		pause := canaryBake
		if plan.CanaryConfiguration != nil && plan.CanaryConfiguration.CanaryBakeTimeInMinutes != nil {
			pause = int(*plan.CanaryConfiguration.CanaryBakeTimeInMinutes)
		}
		minutes += pause
	case ecstypes.DeploymentStrategyLinear:
		step, pause := float64(linearStep), linearBake
		if l := plan.LinearConfiguration; l != nil {
			if l.StepPercent != nil && *l.StepPercent > 0 {
				step = *l.StepPercent
			}
			if l.StepBakeTimeInMinutes != nil {
				pause = int(*l.StepBakeTimeInMinutes)
			}
		}
		minutes += (int(math.Ceil(100/step)) - 1) * pause
	default:
		return 0
	}
	return time.Duration(minutes) * time.Minute
}

// tooShort refuses a wait that must end before the deployment can.
func (c *Client) tooShort(s *ecstypes.Service) error {
	need := bakes(c.planned(s))
	if !c.opts.Wait || need < c.opts.WaitLimit {
		return nil
	}
	return &problem.Error{
		Op: "deploy to service " + c.serviceName(), Input: "wait-for-minutes", Value: fmt.Sprint(c.opts.WaitLimit.Minutes()),
		Err: fmt.Errorf("the deployment's bake times alone take %s", span(need)),
		Fix: fmt.Sprintf("Set wait-for-minutes to more than %.0f, shorten the bake times, or do not wait (wait-for-service-stability: false).", need.Minutes()),
	}
}
