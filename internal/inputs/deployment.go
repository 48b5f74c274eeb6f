package inputs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/rollout"
)

// Deployment says which service to update, with what, and how long to watch.
type Deployment struct {
	// Cluster and Service are names or ARNs, those of the first of Targets where
	// there are any.
	Cluster, Service string
	// Targets are all services, unless there is one that Cluster and Service
	// describe in whole; see All.
	Targets []Target
	// MaxParallel is how many of them are under way at once, Waves in what steps
	// they are begun, and WaveBake how long to wait in between.
	MaxParallel             int
	Waves                   []rollout.Wave
	WaveBake                time.Duration
	WaitForServiceStability bool
	// WaitFor is 1 minute to 24 hours.
	WaitFor           time.Duration
	RollbackOnFailure bool
	RollbackOnCancel  bool
	// MaxRetries is how often a call to ECS is tried again.
	MaxRetries int
	Update     ServiceUpdate
	Strategy   Strategy
	// WaitAtPause keeps waiting while a hook holds the deployment.
	WaitAtPause bool
	// Continue or Rollback is about the deployment that is there already; at
	// most one is set.
	Continue, Rollback bool
	CodeDeploy         CodeDeploy
}

// ServiceUpdate is what the service is to become besides its task definition.
// What is nil, empty or false is left as it is.
type ServiceUpdate struct {
	DesiredCount         *int
	ForceNewDeployment   bool
	EnableECSManagedTags *bool
	// PropagateTags is SERVICE, TASK_DEFINITION, NONE or empty.
	PropagateTags string
	// ManagedEBSVolume is a JSON object for the volume of that name.
	ManagedEBSVolumeName string
	ManagedEBSVolume     json.RawMessage
}

// Strategy is how ECS is to replace tasks. What is nil or empty is left as the
// service has it.
type Strategy struct {
	// Name is one of the Strategy constants, or empty.
	Name                                  string
	MinimumHealthyPercent, MaximumPercent *int
	BakeMinutes                           *int
	CanaryPercent, LinearPercent          *float64
	CanaryBakeMinutes, LinearBakeMinutes  *int
	// CircuitBreaker is one of the Breaker constants, or empty.
	CircuitBreaker string
	// Alarms are the names of alarms; AlarmsOff turns them off.
	Alarms    []string
	AlarmsOff bool
}

// The values of "deployment-strategy".
const (
	StrategyRolling   = "rolling"
	StrategyRecreate  = "recreate"
	StrategyBlueGreen = "blue-green"
	StrategyLinear    = "linear"
	StrategyCanary    = "canary"
)

// The values of "circuit-breaker".
const (
	BreakerOn       = "on"
	BreakerOff      = "off"
	BreakerRollback = "rollback"
)

// off as the only alarm turns alarms off.
const off = "off"

func (p *parser) deployment(s *Settings) {
	d := &s.Deployment
	d.Cluster = p.single("cluster", "Name one cluster.")
	if v := d.Cluster; v != "" && !matches(`^[A-Za-z0-9_-]{1,255}$`, v) && !matches(arnPrefix+`cluster/[A-Za-z0-9_-]+$`, v) {
		p.failf("cluster", v, "Write the cluster's name or ARN.", "neither the name nor the ARN of a cluster")
	}
	p.services(s)
	d.WaitForServiceStability = p.boolean("wait-for-service-stability", true)
	d.WaitFor = time.Duration(p.number("wait-for-minutes", 1, 1440)) * time.Minute
	d.RollbackOnFailure = p.boolean("rollback-on-failure", true)
	d.RollbackOnCancel = p.oneOf("on-cancel", "leave", "rollback") == "rollback"
	d.WaitAtPause = p.oneOf("on-pause", "end", "wait") == "wait"
	d.MaxRetries = p.number("max-retries", 0, 50)
	d.Continue = p.boolean("continue-deployment", false)
	d.Rollback = p.boolean("rollback-deployment", false)
	if p.text("keep-null-value-keys") != "" {
		s.Notices = append(s.Notices, `Input "keep-null-value-keys" is not needed: Towline takes no empty values out of a task definition. Remove it.`)
	}
	p.serviceUpdate(&d.Update)
	p.strategy(&d.Strategy)
	p.codeDeploy(&d.CodeDeploy)
}

func (p *parser) serviceUpdate(u *ServiceUpdate) {
	u.DesiredCount = p.optional("desired-count", 0, 5000)
	u.ForceNewDeployment = p.boolean("force-new-deployment", false)
	if on := p.boolean("enable-ecs-managed-tags", false); p.given("enable-ecs-managed-tags") {
		u.EnableECSManagedTags = &on
	}
	u.PropagateTags = p.oneOf("propagate-tags", "SERVICE", "TASK_DEFINITION", "NONE")
	u.ManagedEBSVolumeName = p.single("service-managed-ebs-volume-name", "Name one volume of the task definition.")
	volume := p.text("service-managed-ebs-volume")
	switch {
	case volume == "" && u.ManagedEBSVolumeName != "":
		p.failf("service-managed-ebs-volume", "", "Describe the volume in JSON, or remove \"service-managed-ebs-volume-name\".", "empty, but its name is set")
	case volume == "":
	case u.ManagedEBSVolumeName == "":
		p.failf("service-managed-ebs-volume-name", "", "Name the volume of the task definition that \"service-managed-ebs-volume\" describes.", "empty, but the volume is described")
	default:
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(volume), &members); err != nil {
			p.fail("service-managed-ebs-volume", "", "Write a JSON object with ECS's names: {\"roleArn\": \"arn:...\", \"sizeInGiB\": 20}.", err)
		} else if len(members["roleArn"]) == 0 {
			p.failf("service-managed-ebs-volume", "", "Add \"roleArn\", the ARN of the role that ECS makes volumes with.", "no roleArn in it")
		}
		u.ManagedEBSVolume = json.RawMessage(volume)
	}
}

func (p *parser) strategy(s *Strategy) {
	s.Name = p.oneOf("deployment-strategy", StrategyRolling, StrategyRecreate, StrategyBlueGreen, StrategyLinear, StrategyCanary)
	s.MinimumHealthyPercent = p.optional("minimum-healthy-percent", 0, 100)
	s.MaximumPercent = p.optional("maximum-percent", 100, 10000)
	s.BakeMinutes = p.optional("bake-time-minutes", 0, 1440)
	s.CanaryPercent = p.percent("canary-percent", 0.1)
	s.CanaryBakeMinutes = p.optional("canary-bake-minutes", 0, 1440)
	s.LinearPercent = p.percent("linear-step-percent", 3)
	s.LinearBakeMinutes = p.optional("linear-step-bake-minutes", 0, 1440)
	s.CircuitBreaker = p.oneOf("circuit-breaker", BreakerOn, BreakerOff, BreakerRollback)
	for _, entry := range p.list("alarms", true) {
		if !slices.Contains(s.Alarms, entry.text) {
			s.Alarms = append(s.Alarms, entry.text)
		}
	}
	if len(s.Alarms) == 1 && s.Alarms[0] == off {
		s.Alarms, s.AlarmsOff = nil, true
	}
}

// oneOf takes one of some words, or nothing.
func (p *parser) oneOf(name string, words ...string) string {
	v := p.text(name)
	if v != "" && !slices.Contains(words, v) {
		p.failf(name, v, "Write one of "+strings.Join(words, ", ")+".", "none of the values that it may have")
		return p.defs[name].Default
	}
	return v
}

// optional takes a whole number from low to high, or nothing.
func (p *parser) optional(name string, low, high int) *int {
	v := p.text(name)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		p.failf(name, v, fmt.Sprintf("Write a whole number from %d to %d.", low, high), "not between %d and %d", low, high)
		return nil
	}
	return &n
}

// percent takes a multiple of 0.1 from low to 100, or nothing.
func (p *parser) percent(name string, low float64) *float64 {
	v := strings.TrimSpace(strings.TrimSuffix(p.text(name), "%"))
	if v == "" {
		return nil
	}
	n, err := strconv.ParseFloat(v, 64)
	if tenths := n * 10; err != nil || !(n >= low && n <= 100) || math.Abs(tenths-math.Round(tenths)) > 1e-9 {
		p.failf(name, v, fmt.Sprintf("Write a number from %g to 100 with at most one decimal.", low), "not between %g and 100 in steps of 0.1", low)
		return nil
	}
	return &n
}

// checkDeployment finds deployment inputs that do not go together.
func (p *parser) checkDeployment(settings Settings) {
	if !p.deploys() {
		names := p.givenAmong(append([]string{"desired-count", "force-new-deployment", "service-managed-ebs-volume", "waves"}, append(strategyInputs(), codeDeployInputs()...)...)...)
		if p.given("cluster") && !settings.RunTask.Run {
			p.failf("service", "", "Set \"service\", or remove \"cluster\".", "empty, but \"cluster\" is set: nothing would be deployed")
		} else if names != "" {
			p.failf("service", "", "Set \"service\", or remove "+names+".", "empty, but there is also %s: nothing would be deployed", names)
		}
		return
	}
	p.checkSeveral(settings.Deployment)
	s := settings.Deployment.Strategy
	if s.Name == StrategyRecreate {
		if names := p.givenAmong("minimum-healthy-percent", "maximum-percent"); names != "" {
			p.failf("deployment-strategy", s.Name, "Remove "+names+", or write rolling.", "recreate is rolling with 0 and 100 percent, but there is also %s", names)
		}
	}
	if s.MinimumHealthyPercent != nil && s.MaximumPercent != nil && *s.MinimumHealthyPercent >= *s.MaximumPercent {
		p.failf("maximum-percent", p.values["maximum-percent"], "Raise \"maximum-percent\", or lower \"minimum-healthy-percent\".",
			"with as much in \"minimum-healthy-percent\" no task can be started or stopped")
	}
	for _, only := range []struct {
		names []string
		of    []string
	}{
		{[]string{"canary-percent", "canary-bake-minutes"}, []string{StrategyCanary}},
		{[]string{"linear-step-percent", "linear-step-bake-minutes"}, []string{StrategyLinear}},
		{[]string{"bake-time-minutes"}, []string{StrategyBlueGreen, StrategyLinear, StrategyCanary}},
	} {
		for _, name := range only.names {
			if p.given(name) && s.Name != "" && !slices.Contains(only.of, s.Name) {
				p.failf(name, p.values[name], "Remove it, or set \"deployment-strategy\" to "+strings.Join(only.of, " or ")+".", "without effect on a %s deployment", s.Name)
			}
		}
	}
	if d := settings.Deployment; d.RollbackOnCancel && !d.WaitForServiceStability {
		p.failf("on-cancel", "rollback", "Set \"wait-for-service-stability\" to true, or remove \"on-cancel\".", "a deployment that is not waited for cannot be rolled back at a cancellation")
	}
}

// checkResume refuses what does not go with continuing or rolling back.
func (p *parser) checkResume(s Settings) {
	input, fix := "continue-deployment", "Do it in a step of its own."
	if s.Deployment.Rollback {
		input = "rollback-deployment"
	}
	if s.Deployment.Continue && s.Deployment.Rollback {
		p.fail(input, "true", "Set one of them.", errors.New("\"continue-deployment\" is true too"))
	}
	if !p.deploys() {
		p.failf("service", "", "Name the service whose deployment is meant.", "empty, but %q is true", input)
	}
	if len(s.Deployment.Targets) > 0 {
		p.failf(input, "true", "Name one service, without a container; for several, do it in a step for each.", "there are several services, or targets")
	}
	others := append([]string{
		"repository", "tags", "push", "merge-digests", "image", "task-definition", "task-definition-arn", "task-definition-family", "container-name", "run-task",
		"desired-count", "force-new-deployment", "propagate-tags", "enable-ecs-managed-tags", "service-managed-ebs-volume",
	}, slices.Concat(strategyInputs(), definitionInputs())...)
	if names := p.givenAmong(append(buildInputs(), others...)...); names != "" {
		p.failf(input, "true", "Remove "+names+". "+fix, "it is about a deployment that is there already, but there is also %s", names)
	}
}

// strategyInputs are those that only mean something to a new deployment.
func strategyInputs() []string {
	return []string{
		"deployment-strategy", "minimum-healthy-percent", "maximum-percent", "bake-time-minutes", "canary-percent", "canary-bake-minutes",
		"linear-step-percent", "linear-step-bake-minutes", "circuit-breaker", "alarms",
	}
}
