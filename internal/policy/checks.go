package policy

import (
	"cmp"
	"slices"
)

// checks allows pre-flight to look at what the task definition names. Each look
// is spared: without it, one notice says what was not looked at.
func (b *builder) checks() {
	if !b.settings.Registers() {
		return
	}
	task := b.task()
	if roles := distinct(slices.Concat(task.TaskRoles, task.ExecutionRoles)); len(roles) > 0 {
		b.allow(Statement{
			Sid: "OptionalCheckRoles", Actions: []string{"iam:GetRole"}, Resources: roles,
			Loss: "a role of the task definition that is missing, or does not trust ECS, is noticed only when the task definition is registered or its tasks start",
		})
		b.allow(Statement{
			Sid: "OptionalCheckPassing", Actions: []string{"iam:SimulatePrincipalPolicy"}, Resources: []string{b.workerARN()},
			Loss: "a missing `iam:PassRole` is noticed only when the task definition is registered",
		})
	}
	if len(task.Secrets) > 0 {
		b.allow(Statement{
			Sid: "OptionalCheckSecrets", Actions: []string{"secretsmanager:DescribeSecret"}, Resources: task.Secrets,
			Loss: "a secret that is missing is noticed only when the tasks start",
		})
	}
	// Neither is held to resources: parameters have none here, and log groups are
	// found by the beginning of their name.
	var lists []string
	if len(task.LogGroups) > 0 && !task.MakesLogGroups {
		lists = append(lists, "logs:DescribeLogGroups")
	}
	if task.Parameters {
		lists = append(lists, "ssm:DescribeParameters")
	}
	if len(lists) > 0 {
		b.allow(Statement{
			Sid: "OptionalCheckLists", Actions: lists, Resources: []string{"*"},
			Loss: "a log group or parameter that is missing is noticed only when the tasks start",
		})
	}
	b.checkInstances(task)
}

// checkInstances allows to hold the image's platform against the instances.
func (b *builder) checkInstances(task *Task) {
	s := b.settings
	if !task.OnInstances || !s.Deploys() || !s.Builds() && !s.Merges() {
		return
	}
	cluster := cmp.Or(lastPart(s.Deployment.Cluster), "default")
	const loss = "an image for another platform than that of the cluster's instances is noticed only when its containers cannot start"
	b.allow(Statement{
		Sid: "OptionalCheckInstances", Actions: []string{"ecs:ListContainerInstances"},
		Resources: []string{b.arn("ecs", "cluster/"+cluster)}, Loss: loss,
	})
	b.allow(Statement{
		Sid: "OptionalCheckInstanceAttributes", Actions: []string{"ecs:DescribeContainerInstances"},
		Resources: []string{b.arn("ecs", "container-instance/"+cluster+"/*")}, Loss: loss,
	})
}
