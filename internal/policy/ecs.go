package policy

import (
	"cmp"
	"encoding/json"
	"slices"
)

// tasks allows to register a task definition.
func (b *builder) tasks() {
	if !b.settings.Registers() {
		return
	}
	task := b.task()
	family := b.arn("ecs", "task-definition/"+task.Family+":*")
	b.allow(Statement{Sid: "RegisterTaskDefinition", Actions: []string{"ecs:RegisterTaskDefinition"}, Resources: []string{family}})
	if task.Tagged {
		tag := Statement{
			Sid: "TagTaskDefinition", Actions: []string{"ecs:TagResource"}, Resources: []string{family},
			Conditions: []Condition{{"StringEquals", "ecs:CreateAction", []string{"RegisterTaskDefinition"}}},
		}
		if b.facts.Task == nil && len(b.settings.Task.TaskDefinitionTags) == 0 {
			tag.Sid, tag.Loss = "OptionalTagTaskDefinition", "a task definition with tags cannot be registered"
		}
		b.allow(tag)
	}
	describe := Statement{Sid: "DescribeTaskDefinition", Actions: []string{"ecs:DescribeTaskDefinition"}, Resources: []string{"*"}}
	if !b.settings.Deploys() && b.settings.Task.Registered == "" {
		describe.Sid, describe.Loss = "OptionalDescribeTaskDefinition", "a task definition that is registered already is registered once more"
	}
	b.allow(describe)
	if roles := distinct([]string{task.TaskRole, task.ExecutionRole}); len(roles) > 0 {
		b.allow(Statement{
			Sid: "PassTaskRoles", Actions: []string{"iam:PassRole"}, Resources: roles,
			Conditions: []Condition{{"StringEquals", "iam:PassedToService", []string{"ecs-tasks.amazonaws.com"}}},
		})
	}
	b.volumes()
}

// volumes allows to hand on the roles that ECS makes EBS volumes with.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/infrastructure_IAM_role.html
func (b *builder) volumes() {
	var roles []string
	for _, volume := range [][]byte{b.settings.Deployment.Update.ManagedEBSVolume, b.settings.RunTask.ManagedEBSVolume} {
		var described struct{ RoleArn string }
		if json.Unmarshal(volume, &described) == nil {
			roles = append(roles, described.RoleArn)
		}
	}
	if roles = distinct(roles); len(roles) > 0 {
		b.allow(Statement{
			Sid: "PassVolumeRole", Actions: []string{"iam:PassRole"}, Resources: roles,
			Conditions: []Condition{{"StringEquals", "iam:PassedToService", []string{"ecs.amazonaws.com"}}},
		})
	}
}

// task is what is registered: the base, with what the inputs change.
func (b *builder) task() *Task {
	t := b.settings.Task
	task := b.facts.Task
	if task == nil {
		task = b.unknownTask()
	}
	changed := *task
	changed.Tagged = task.Tagged || len(t.TaskDefinitionTags) > 0
	changed.TaskRole = cmp.Or(t.TaskRoleARN, task.TaskRole)
	changed.ExecutionRole = cmp.Or(t.ExecutionRoleARN, task.ExecutionRole)
	changed.Secrets, changed.LogGroups = slices.Clone(task.Secrets), slices.Clone(task.LogGroups)
	for _, secret := range t.ContainerSecrets {
		changed.names(secret.Value)
	}
	for _, option := range t.LogConfigurationOptions {
		if option.Name == "awslogs-group" {
			changed.LogGroups = append(changed.LogGroups, option.Value)
		}
	}
	changed.Secrets, changed.LogGroups = distinct(changed.Secrets), distinct(changed.LogGroups)
	return &changed
}

// unknownTask stands for a task definition that only ECS knows.
func (b *builder) unknownTask() *Task {
	b.unknown("FAMILY", "the family of the task definition")
	if b.settings.Task.TaskRoleARN == "" {
		b.unknown("TASK_ROLE", "the task definition's task role; leave it out if there is none")
	}
	if b.settings.Task.ExecutionRoleARN == "" {
		b.unknown("EXECUTION_ROLE", "the task definition's execution role; leave it out if there is none")
	}
	task := &Task{
		Family: "FAMILY", Tagged: true, Parameters: true, OnInstances: true,
		Secrets:  []string{b.arn("secretsmanager", "secret:SECRET")},
		TaskRole: b.arn("iam", "role/TASK_ROLE"), ExecutionRole: b.arn("iam", "role/EXECUTION_ROLE"),
	}
	b.unknown("SECRET", "the secret that the containers name, with its six last characters; leave it out if there is none")
	task.LogGroups = []string{"LOG_GROUP"}
	return task
}
