package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// TaskOf reads what a task definition, as JSON, says about permissions.
func TaskOf(definition []byte) (*Task, error) {
	type named struct{ ValueFrom string }
	var doc struct {
		Family, TaskRoleArn, ExecutionRoleArn string

		RequiresCompatibilities []string
		Tags                    []any
		ContainerDefinitions    []struct {
			Name                  string
			Essential             *bool
			Secrets               []named
			RepositoryCredentials struct{ CredentialsParameter string }
			LogConfiguration      struct {
				LogDriver     string
				Options       map[string]string
				SecretOptions []named
			}
		}
	}
	if err := json.Unmarshal(definition, &doc); err != nil {
		return nil, fmt.Errorf("task definition: %w", err)
	}
	task := &Task{
		Families: []string{doc.Family}, TaskRoles: distinct([]string{doc.TaskRoleArn}), ExecutionRoles: distinct([]string{doc.ExecutionRoleArn}), Tagged: len(doc.Tags) > 0, MakesLogGroups: true,
		OnInstances: !slices.Contains(doc.RequiresCompatibilities, "FARGATE") || slices.Contains(doc.RequiresCompatibilities, "EC2"),
	}
	for _, container := range doc.ContainerDefinitions {
		if container.Essential != nil && !*container.Essential {
			task.Sidecars = append(task.Sidecars, container.Name)
		}
		if log := container.LogConfiguration; log.LogDriver == "awslogs" {
			task.LogGroups = append(task.LogGroups, log.Options["awslogs-group"])
			task.MakesLogGroups = task.MakesLogGroups && log.Options["awslogs-create-group"] == "true"
		}
		for _, secret := range append(container.Secrets, container.LogConfiguration.SecretOptions...) {
			task.names(secret.ValueFrom)
		}
		task.names(container.RepositoryCredentials.CredentialsParameter)
	}
	task.LogGroups, task.Secrets = distinct(task.LogGroups), distinct(task.Secrets)
	return task, nil
}

// And is what is known of several task definitions together, which one step
// registers: t and other. Either may be nil.
func (t *Task) And(other *Task) *Task {
	if t == nil || other == nil {
		return cmp.Or(t, other)
	}
	both := func(of func(*Task) []string) []string { return distinct(slices.Concat(of(t), of(other))) }
	return &Task{
		Families:       both(func(t *Task) []string { return t.Families }),
		TaskRoles:      both(func(t *Task) []string { return t.TaskRoles }),
		ExecutionRoles: both(func(t *Task) []string { return t.ExecutionRoles }),
		LogGroups:      both(func(t *Task) []string { return t.LogGroups }),
		Secrets:        both(func(t *Task) []string { return t.Secrets }),
		Sidecars:       both(func(t *Task) []string { return t.Sidecars }),
		Tagged:         t.Tagged || other.Tagged,
		Parameters:     t.Parameters || other.Parameters,
		MakesLogGroups: t.MakesLogGroups && other.MakesLogGroups,
		OnInstances:    t.OnInstances || other.OnInstances,
	}
}

// names takes in what a container gets its value from. Behind the ARN of a secret
// a key, a stage and a version may stand; the six characters at its end may be
// left out. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Secret.html
func (t *Task) names(from string) {
	if parts := strings.Split(from, ":"); len(parts) > 6 && parts[2] == "secretsmanager" {
		secret := strings.Join(parts[:7], ":")
		if !regexp.MustCompile(`-[A-Za-z0-9]{6}$`).MatchString(secret) {
			secret += "-??????"
		}
		t.Secrets = append(t.Secrets, secret)
		return
	}
	t.Parameters = t.Parameters || from != ""
}
