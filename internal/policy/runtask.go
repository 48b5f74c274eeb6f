package policy

import "slices"

// oneOff allows to run a task of the task definition, besides what watching it
// takes.
func (b *builder) oneOff() {
	s := b.settings
	if !s.RunsTask() {
		return
	}
	tasks := b.arn("ecs", "task/"+b.cluster()+"/*")
	b.allow(Statement{
		Sid: "RunTask", Actions: []string{"ecs:RunTask"}, Conditions: b.inCluster(),
		Resources: b.families(b.task()),
	})
	if len(s.RunTask.Tags) > 0 {
		b.allow(Statement{
			Sid: "TagTask", Actions: []string{"ecs:TagResource"}, Resources: []string{tasks},
			Conditions: []Condition{{"StringEquals", "ecs:CreateAction", []string{"RunTask"}}},
		})
	}
	b.stopTask(tasks)
}

// stopTask allows to end what goes on after the container that counts, or after
// the job.
func (b *builder) stopTask(tasks string) {
	s, task := b.settings, b.task()
	stop := Statement{Sid: "StopTask", Actions: []string{"ecs:StopTask"}, Resources: []string{tasks}}
	container := s.RunTask.Container
	if container == "" && len(s.Task.ContainerNames) == 1 {
		container = s.Task.ContainerNames[0]
	}
	switch {
	case s.RunTask.WaitForTaskStopped && slices.Contains(task.Sidecars, container): // or the task would not end
	case s.RunTask.WaitForTaskStopped && b.facts.Task == nil:
		stop.Sid, stop.Loss = "OptionalStopTask", "a container that is not essential cannot be the one that counts: the rest of its task goes on, and the step waits for it"
	case s.Deployment.RollbackOnCancel:
		stop.Sid, stop.Loss = "OptionalStopTask", "the task goes on when the job is cancelled"
	default:
		return
	}
	b.allow(stop)
}

// keeps says whether older revisions are deregistered.
func (b *builder) keeps() bool { return b.settings.Registers() && b.settings.Task.KeepRevisions > 0 }

// revisions allows to deregister older revisions, but none that a service of the
// region still needs: hence all clusters and services.
func (b *builder) revisions() {
	if !b.keeps() {
		return
	}
	const loss = "older revisions stay registered"
	b.allow(Statement{
		Sid: "OptionalOldRevisions", Resources: []string{"*"}, Loss: loss,
		Actions: []string{"ecs:ListTaskDefinitions", "ecs:ListClusters", "ecs:ListServices", "ecs:DeregisterTaskDefinition"},
	})
	b.allow(Statement{
		Sid: "OptionalRevisionsInUse", Loss: loss,
		Actions:   []string{"ecs:DescribeServices", "ecs:ListServiceDeployments", "ecs:DescribeServiceRevisions"},
		Resources: []string{b.arn("ecs", "service/*"), b.arn("ecs", "service-revision/*")},
	})
}
