package policy

import (
	"cmp"
	"strings"
)

// lossOfTasks is what is missing where tasks may not be looked at, lossOfAnswer
// where an answer of AWS is lost and what became of the request cannot be asked.
const (
	lossOfTasks  = "failing tasks are not named"
	lossOfAnswer = "if the answer is lost on the way, it is not known whether the task was started, and the step fails"
)

// cluster is the cluster's name.
func (b *builder) cluster() string { return cmp.Or(lastPart(b.settings.Deployment.Cluster), "default") }

// servicePath is CLUSTER/SERVICE.
func (b *builder) servicePath() string {
	return b.cluster() + "/" + lastPart(b.settings.Deployment.Service)
}

// inCluster holds a list to the cluster.
func (b *builder) inCluster() []Condition {
	return []Condition{{"ArnEquals", "ecs:cluster", []string{b.arn("ecs", "cluster/"+b.cluster())}}}
}

// services allows to deploy, or to decide about a deployment, and to see what
// becomes of it.
func (b *builder) services() {
	s := b.settings
	if !s.Deploys() && !s.Resumes() {
		return
	}
	service := b.arn("ecs", "service/"+b.servicePath())
	read := Statement{Sid: "ReadService", Actions: []string{"ecs:DescribeServices"}, Resources: []string{service}}
	if s.Deploys() && !b.codeDeploys() {
		read.Sid, read.Actions = "UpdateService", append(read.Actions, "ecs:UpdateService")
	}
	b.allow(read)
	if !b.keeps() { // which lists the services of all clusters
		b.allow(Statement{
			Sid: "OptionalNeighbours", Actions: []string{"ecs:ListServices"}, Resources: []string{"*"}, Conditions: b.inCluster(),
			Loss: "a service that is missing is told without the names of those that are there",
		})
	}
	switch {
	case b.codeDeploys():
		b.codeDeploy()
	case s.Resumes():
		b.resume(service)
	case s.Deployment.WaitForServiceStability:
		b.follow(service)
	}
}

// serviceDeployments are the resources of a service's deployments: the service
// is looked at too.
func (b *builder) serviceDeployments(service string) []string {
	return []string{service, b.arn("ecs", "service-deployment/"+b.servicePath()+"/*")}
}

// follow allows to follow the deployment that an update has started.
func (b *builder) follow(service string) {
	b.allow(Statement{
		Sid: "OptionalFollow", Actions: []string{"ecs:ListServiceDeployments", "ecs:DescribeServiceDeployments", "ecs:DescribeServiceRevisions"},
		Resources: append(b.serviceDeployments(service), b.arn("ecs", "service-revision/"+b.servicePath()+"/*")),
		Loss:      "the deployment is followed by its rollout state instead of its service deployment, and recognised by its time alone",
	})
	if d := b.settings.Deployment; d.RollbackOnFailure || d.RollbackOnCancel {
		b.allow(Statement{
			Sid: "OptionalStop", Actions: []string{"ecs:StopServiceDeployment"}, Resources: b.serviceDeployments(service),
			Loss: "a deployment that fails is not stopped: the service is updated to its previous task definition instead",
		})
	}
}

// resume allows to decide about the deployment that is under way or paused.
func (b *builder) resume(service string) {
	d := b.settings.Deployment
	deployments := b.serviceDeployments(service)
	b.allow(Statement{Sid: "FindDeployment", Actions: []string{"ecs:ListServiceDeployments", "ecs:DescribeServiceDeployments"}, Resources: deployments})
	decide := Statement{Sid: "ContinueDeployment", Actions: []string{"ecs:ContinueServiceDeployment"}, Resources: deployments}
	if d.Rollback {
		decide.Sid, decide.Actions = "RollBackDeployment", append(decide.Actions, "ecs:StopServiceDeployment")
	}
	b.allow(decide)
	if d.Continue && d.WaitForServiceStability && (d.RollbackOnFailure || d.RollbackOnCancel) {
		b.allow(Statement{
			Sid: "OptionalStop", Actions: []string{"ecs:StopServiceDeployment"}, Resources: deployments,
			Loss: "a deployment that fails after it was continued is not stopped",
		})
	}
}

// watching allows to look at the tasks of the service, at the one-off task, and
// at what they wrote.
func (b *builder) watching() {
	s := b.settings
	watches := (s.Deploys() || s.Resumes()) && s.Deployment.WaitForServiceStability
	runs, waits := s.RunsTask(), s.RunsTask() && s.RunTask.WaitForTaskStopped
	if !watches && !runs {
		return
	}
	list := Statement{Sid: "OptionalListTasks", Actions: []string{"ecs:ListTasks"}, Resources: []string{"*"}, Conditions: b.inCluster(), Loss: lossOfTasks}
	describe := Statement{
		Sid: "OptionalDescribeTasks", Actions: []string{"ecs:DescribeTasks"}, Resources: []string{b.arn("ecs", "task/"+b.cluster()+"/*")}, Loss: lossOfTasks,
	}
	switch {
	case runs && watches:
		list.Loss, describe.Loss = lossOfTasks+"; "+lossOfAnswer, lossOfTasks+"; "+lossOfAnswer
	case runs:
		list.Loss, describe.Loss = lossOfAnswer, lossOfAnswer
	}
	if waits {
		describe.Sid, describe.Loss = "FollowTask", ""
	}
	b.allow(list)
	b.allow(describe)
	if waits || watches && (!s.Deployment.Rollback || b.codeDeploys()) { // ECS's are only taken back, not explained
		b.logs()
	}
	if watches && !s.Deployment.Rollback { // a rollback is followed, not explained
		b.targets()
	}
}

// targets allows to ask the load balancers why tasks are unhealthy.
func (b *builder) targets() {
	b.allow(Statement{
		Sid: "OptionalTargets", Actions: []string{"elasticloadbalancing:DescribeTargetHealth"}, Resources: []string{"*"},
		Loss: "why the load balancer finds tasks unhealthy is not shown",
	})
}

// logs allows to read what containers wrote.
func (b *builder) logs() {
	groups := []string{"LOG_GROUP"}
	if b.facts.Task != nil || b.settings.Registers() {
		groups = b.task().LogGroups
	}
	if b.facts.Task == nil {
		b.unknown("LOG_GROUP", "the log group of the containers (awslogs-group)")
	}
	var streams []string
	for _, group := range distinct(groups) {
		streams = append(streams, b.arn("logs", "log-group:"+strings.TrimSuffix(group, ":*")+":log-stream:*"))
	}
	if len(streams) == 0 {
		return
	}
	loss := "the last log lines of failed containers are not shown"
	if b.settings.RunsTask() && b.settings.RunTask.WaitForTaskStopped {
		loss = "what the one-off task writes is not shown"
		if b.settings.Deploys() {
			loss += ", nor the last log lines of failed containers"
		}
	}
	b.allow(Statement{Sid: "OptionalLogs", Actions: []string{"logs:GetLogEvents"}, Resources: streams, Loss: loss})
	if b.settings.Resumes() { // others may read it anyway
		b.allow(Statement{Sid: "OptionalFindLogs", Actions: []string{"ecs:DescribeTaskDefinition"}, Resources: []string{"*"}, Loss: loss})
	}
}
