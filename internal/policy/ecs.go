package policy

import (
	"encoding/json"
	"slices"
)

// tasks allows to register a task definition.
func (b *builder) tasks() {
	if !b.settings.Registers() {
		return
	}
	task := b.task()
	families := b.families(task)
	b.allow(Statement{Sid: "RegisterTaskDefinition", Actions: []string{"ecs:RegisterTaskDefinition"}, Resources: families})
	if task.Tagged {
		tag := Statement{
			Sid: "TagTaskDefinition", Actions: []string{"ecs:TagResource"}, Resources: families,
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
	if roles := distinct(slices.Concat(task.TaskRoles, task.ExecutionRoles)); len(roles) > 0 {
		b.allow(Statement{
			Sid: "PassTaskRoles", Actions: []string{"iam:PassRole"}, Resources: roles,
			Conditions: []Condition{{"StringEquals", "iam:PassedToService", []string{"ecs-tasks.amazonaws.com"}}},
		})
	}
	b.volumes()
}

// families are the revisions of task's families.
func (b *builder) families(task *Task) []string {
	var all []string
	for _, family := range task.Families {
		all = append(all, b.arn("ecs", "task-definition/"+family+":*"))
	}
	return all
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
	if t.TaskRoleARN != "" {
		changed.TaskRoles = []string{t.TaskRoleARN}
	}
	if t.ExecutionRoleARN != "" {
		changed.ExecutionRoles = []string{t.ExecutionRoleARN}
	}
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
		Families: []string{"FAMILY"}, Tagged: true, Parameters: true, OnInstances: true,
		Secrets:   []string{b.arn("secretsmanager", "secret:SECRET")},
		TaskRoles: []string{b.arn("iam", "role/TASK_ROLE")}, ExecutionRoles: []string{b.arn("iam", "role/EXECUTION_ROLE")},
	}
	b.unknown("SECRET", "the secret that the containers name, with its six last characters; leave it out if there is none")
	task.LogGroups = []string{"LOG_GROUP"}
	return task
}
