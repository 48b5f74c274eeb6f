package inputs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// RunTask says how a task is run once, before the service is updated.
type RunTask struct {
	Run bool
	// Container is the one whose exit code decides; empty: the one that gets the image.
	Container string
	// Command and Environment are for that container.
	Command     []string
	Environment []Pair
	// ContainerOverrides, CapacityProviderStrategy and ManagedEBSVolume are JSON as
	// the API takes it, or nil.
	ContainerOverrides, CapacityProviderStrategy, ManagedEBSVolume []byte
	ManagedEBSVolumeName                                           string
	// What is empty below is the service's.
	Subnets, SecurityGroups                     []string
	AssignPublicIP, LaunchType, PlatformVersion string
	// StartedBy is never empty.
	StartedBy string
	Tags      []Pair
	// WaitForTaskStopped waits for the end, and makes a failure the step's.
	WaitForTaskStopped bool
}

func (p *parser) runTask(r *RunTask) {
	r.Run = p.boolean("run-task", false)
	r.Container = p.single("run-task-container", "Name one container.")
	if v := r.Container; v != "" && !matches(containerPattern, v) {
		p.failf("run-task-container", v, "Write the name of a container, as the task definition has it.", "not the name of a container")
	}
	r.Command = p.command("run-task-command")
	r.Environment = p.settings("run-task-environment-variables", "NAME=value")
	r.ContainerOverrides = p.json("run-task-container-overrides", '[', `[{"name": "CONTAINER", "command": ["WORD"]}]`)
	p.overrides(r)
	r.Subnets = p.ids("run-task-subnets", "subnet")
	r.SecurityGroups = p.ids("run-task-security-groups", "sg")
	r.AssignPublicIP = p.choice("run-task-assign-public-IP", "ENABLED", "DISABLED")
	r.LaunchType = p.choice("run-task-launch-type", "FARGATE", "EC2", "EXTERNAL", "MANAGED_INSTANCES")
	r.CapacityProviderStrategy = p.json("run-task-capacity-provider-strategy", '[', `[{"capacityProvider": "FARGATE_SPOT", "weight": 1}]`)
	if r.LaunchType != "" && r.CapacityProviderStrategy != nil {
		p.failf("run-task-launch-type", r.LaunchType, `Remove one of "run-task-launch-type" and "run-task-capacity-provider-strategy".`, "a task has a launch type or capacity providers, not both")
	}
	r.PlatformVersion = p.single("run-task-platform-version", "Write one version.")
	if v := r.PlatformVersion; v != "" && !matches(`^(LATEST|[0-9]+(\.[0-9]+)*)$`, v) {
		p.failf("run-task-platform-version", v, "Write LATEST, or a version such as 1.4.0.", "not a platform version")
	}
	r.StartedBy = p.startedBy()
	r.Tags = p.tagList("run-task-tags")
	r.ManagedEBSVolumeName = p.single("run-task-managed-ebs-volume-name", "Name one volume.")
	r.ManagedEBSVolume = p.json("run-task-managed-ebs-volume", '{', `{"roleArn": "ARN", "sizeInGiB": 20}`)
	switch {
	case r.ManagedEBSVolumeName == "" && r.ManagedEBSVolume != nil:
		p.failf("run-task-managed-ebs-volume-name", "", "Name the volume of the task definition.", "empty, but \"run-task-managed-ebs-volume\" is set")
	case r.ManagedEBSVolumeName != "" && r.ManagedEBSVolume == nil:
		p.failf("run-task-managed-ebs-volume", "", "Write the volume's settings.", "empty, but \"run-task-managed-ebs-volume-name\" is set")
	}
	r.WaitForTaskStopped = p.boolean("wait-for-task-stopped", true)
}

// startedBy is what the task is marked with: by default, this run.
func (p *parser) startedBy() string {
	v := p.single("run-task-started-by", "Write one text.")
	if v == "" {
		return p.defaultSession()
	}
	if !matches(`^[A-Za-z0-9_/.:-]{1,128}$`, v) {
		p.failf("run-task-started-by", v, "Shorten it, or leave it empty.", "not up to 128 of A-Z a-z 0-9 - _ / . :")
	}
	return v
}

// overrides finds what is overridden twice.
func (p *parser) overrides(r *RunTask) {
	var containers []struct {
		Name        string
		Command     []string
		Environment []struct{ Name string }
	}
	if r.ContainerOverrides == nil {
		return
	}
	const fix = `Write the API's form: [{"name": "CONTAINER", "command": ["WORD"], "environment": [{"name": "NAME", "value": "VALUE"}]}].`
	if err := json.Unmarshal(r.ContainerOverrides, &containers); err != nil {
		p.fail("run-task-container-overrides", "", fix, err)
		return
	}
	for i, container := range containers {
		switch {
		case container.Name == "":
			p.failf("run-task-container-overrides", "", fix, "entry %d has no name", i+1)
		case container.Command != nil && r.Command != nil && (r.Container == "" || r.Container == container.Name):
			p.failf("run-task-command", "", `Remove it, or the command in "run-task-container-overrides".`, "the overrides have a command for container %q too", container.Name)
		}
	}
}

// ids reads a list of IDs that begin with kind.
func (p *parser) ids(input, kind string) []string {
	all := p.texts(input)
	for _, id := range all {
		if !matches(`^`+kind+`-[0-9a-zA-Z-]+$`, id) {
			p.failf(input, id, "Write IDs such as "+kind+"-0123456789abcdef0, one a line or with commas.", "not such an ID")
		}
	}
	return all
}

// choice is one of the words, in upper case, or empty.
func (p *parser) choice(input string, known ...string) string {
	v := strings.ToUpper(p.single(input, "Write one word."))
	if v != "" && !slices.Contains(known, v) {
		p.failf(input, v, "Write one of "+strings.Join(known, ", ")+".", "there is no such choice")
	}
	return v
}

// json is an input's JSON, which begins with a bracket of that kind; an empty
// list or object is nil.
func (p *parser) json(input string, bracket byte, example string) []byte {
	text := []byte(p.text(input))
	if len(text) == 0 {
		return nil
	}
	fix := "Write JSON such as " + example + "."
	var value json.RawMessage
	err := json.Unmarshal(text, &value)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		err = fmt.Errorf("character %d: %w", syntax.Offset, err)
	}
	switch {
	case err != nil:
		p.fail(input, "", fix, err)
		return nil
	case text[0] != bracket:
		p.failf(input, "", fix, "not JSON of that form")
		return nil
	}
	if len(bytes.TrimSpace(text[1:len(text)-1])) == 0 {
		return nil
	}
	return text
}
