package policy

import (
	"cmp"
	"strings"
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

// services allows to deploy, and to see what becomes of it.
func (b *builder) services() {
	if !b.settings.Deploys() {
		return
	}
	d := b.settings.Deployment
	cluster, name := cmp.Or(lastPart(d.Cluster), "default"), lastPart(d.Service)
	path := cluster + "/" + name
	service := b.arn("ecs", "service/"+path)
	b.allow(Statement{Sid: "UpdateService", Actions: []string{"ecs:DescribeServices", "ecs:UpdateService"}, Resources: []string{service}})
	inCluster := []Condition{{"ArnEquals", "ecs:cluster", []string{b.arn("ecs", "cluster/"+cluster)}}}
	b.allow(Statement{
		Sid: "OptionalNeighbours", Actions: []string{"ecs:ListServices"}, Resources: []string{"*"}, Conditions: inCluster,
		Loss: "a service that is missing is told without the names of those that are there",
	})
	if !d.WaitForServiceStability {
		return
	}
	deployments := []string{service, b.arn("ecs", "service-deployment/"+path+"/*")}
	b.allow(Statement{
		Sid: "OptionalFollow", Actions: []string{"ecs:ListServiceDeployments", "ecs:DescribeServiceDeployments", "ecs:DescribeServiceRevisions"},
		Resources: append(deployments, b.arn("ecs", "service-revision/"+path+"/*")),
		Loss:      "the deployment is followed by its rollout state instead of its service deployment, and recognised by its time alone",
	})
	if d.RollbackOnFailure {
		b.allow(Statement{
			Sid: "OptionalStop", Actions: []string{"ecs:StopServiceDeployment"}, Resources: deployments,
			Loss: "a deployment that fails is not stopped: the service is updated to its previous task definition instead",
		})
	}
	const failing = "failing tasks are not named"
	b.allow(Statement{Sid: "OptionalListTasks", Actions: []string{"ecs:ListTasks"}, Resources: []string{"*"}, Conditions: inCluster, Loss: failing})
	b.allow(Statement{Sid: "OptionalDescribeTasks", Actions: []string{"ecs:DescribeTasks"}, Resources: []string{b.arn("ecs", "task/"+cluster+"/*")}, Loss: failing})
	b.logs()
}

// logs allows to read what failing containers wrote.
func (b *builder) logs() {
	task := b.task()
	if b.facts.Task == nil {
		b.unknown("LOG_GROUP", "the log group of the containers (awslogs-group)")
	}
	var streams []string
	for _, group := range distinct(task.LogGroups) {
		streams = append(streams, b.arn("logs", "log-group:"+strings.TrimSuffix(group, ":*")+":log-stream:*"))
	}
	if len(streams) > 0 {
		b.allow(Statement{
			Sid: "OptionalLogs", Actions: []string{"logs:GetLogEvents"}, Resources: streams,
			Loss: "the last log lines of failed containers are not shown",
		})
	}
}
