package step

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

// task is the one-off task of a task definition, as the inputs have it.
func (s *Step) task(e *edition, definition taskdef.Document) (deploy.Task, error) {
	r := s.settings.RunTask
	container, err := s.taskContainer(e, definition)
	return deploy.Task{
		Definition: definition, DefinitionARN: e.definitionARN, Container: container,
		Command: r.Command, Environment: pairs(r.Environment), ContainerOverrides: r.ContainerOverrides,
		CapacityProviderStrategy: r.CapacityProviderStrategy, Volume: r.ManagedEBSVolume, VolumeName: r.ManagedEBSVolumeName,
		Subnets: r.Subnets, SecurityGroups: r.SecurityGroups, AssignPublicIP: r.AssignPublicIP,
		LaunchType: r.LaunchType, PlatformVersion: r.PlatformVersion,
		StartedBy: r.StartedBy, Tags: pairs(r.Tags), Wait: r.WaitForTaskStopped,
	}, err
}

// taskContainer applies the rule of "run-task-container".
func (s *Step) taskContainer(e *edition, definition taskdef.Document) (string, error) {
	var all, essential []string
	for _, c := range definition.Containers() {
		all = append(all, c.Name)
		if c.Essential {
			essential = append(essential, c.Name)
		}
	}
	name := s.settings.RunTask.Container
	switch {
	case name != "" && slices.Contains(all, name):
		return name, nil
	case name == "" && len(e.containers) == 1:
		return e.containers[0], nil
	case name == "" && len(essential) == 1:
		return essential[0], nil
	}
	why := "task definition " + definition.Family() + " has no such container"
	if name == "" {
		why = "task definition " + definition.Family() + " has more than one container whose exit code could decide"
	}
	return "", &problem.Error{
		Op: "choose container", Input: "run-task-container", Value: name, Err: errors.New(why),
		Fix: "Use one that exists: " + strings.Join(all, ", ") + ".",
	}
}

// checkTask finds early what is wrong with the one-off task.
func (s *Step) checkTask(ctx context.Context, e *edition, definition taskdef.Document) error {
	if !s.settings.RunsTask() || e != s.editions[0] {
		return nil
	}
	task, err := s.task(e, definition)
	if err != nil {
		return err
	}
	return e.deployer.CheckTask(ctx, task)
}

// runTask runs the one-off task. Unless it ends well, nothing is deployed.
func (s *Step) runTask(ctx context.Context) error {
	e := s.editions[0]
	task, err := s.task(e, e.definition)
	if err != nil {
		return err
	}
	s.did("task definition %s was registered and a task of it may have been started, the service was not updated", e.definitionARN)
	arn, err := e.deployer.RunTask(ctx, task)
	if arn != "" {
		s.did("task %s was started, the service was not updated", arn)
		s.report.Fact("Task", lastPart(arn))
		if outErr := s.outputTask(arn); outErr != nil && err == nil {
			return outErr
		}
	}
	return err
}

// outputTask tells the task as a JSON list: there may be several some day, and the
// step that this one replaces has a list.
func (s *Step) outputTask(arn string) error {
	list, err := json.Marshal([]string{arn})
	if err != nil {
		return err
	}
	return s.output(map[string]string{inputs.OutputRunTaskARN: string(list)})
}
