package policy

import "cmp"

// Group is a deployment group of CodeDeploy.
type Group struct {
	Application, Name string
	// Config is the group's deployment configuration; empty: not known.
	Config string
}

// codeDeploys says whether CodeDeploy deploys the service, as far as is known.
func (b *builder) codeDeploys() bool {
	c := b.settings.Deployment.CodeDeploy
	return b.facts.CodeDeploy != nil || c.WaitForEnd || cmp.Or(c.AppSpec, c.Application, c.Group, c.Config, c.Description) != ""
}

// group is the service's deployment group: as it is given, as it was found, or
// by the names that ECS's console gives. searched says that it is none of those
// that are asked for by name.
func (b *builder) group() (g Group, searched bool) {
	given := b.settings.Deployment.CodeDeploy
	suffix := "-" + b.cluster() + "-" + lastPart(b.settings.Deployment.Service)
	asked := Group{Application: cmp.Or(given.Application, "AppECS"+suffix), Name: cmp.Or(given.Group, "DgpECS"+suffix)}
	g = asked
	if found := b.facts.CodeDeploy; found != nil {
		g = Group{Application: found.Application, Name: found.Name, Config: found.Config}
	}
	searched = g.Application != asked.Application || g.Name != asked.Name
	g.Config = cmp.Or(given.Config, g.Config, "*")
	return g, searched
}

// codeDeploy allows what CodeDeploy wants in place of an update of the service.
// What names no resource knows none.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscodedeploy.html
func (b *builder) codeDeploy() {
	s, d := b.settings, b.settings.Deployment
	group, searched := b.group()
	arn := b.arn("codedeploy", "deploymentgroup:"+group.Application+"/"+group.Name)
	use := Statement{Sid: "CodeDeploy", Resources: []string{arn}}
	if !searched {
		use.Actions = append(use.Actions, "codedeploy:GetDeploymentGroup")
	}
	if s.Deploys() {
		use.Actions = append(use.Actions, "codedeploy:CreateDeployment")
	}
	if s.Resumes() || d.WaitForServiceStability {
		use.Actions = append(use.Actions, "codedeploy:GetDeployment")
	}
	b.allow(use)
	if searched {
		b.searchGroup()
	}
	if s.Deploys() {
		b.createDeployment(group, arn)
	}
	decide := Statement{Sid: "DecideDeployment", Actions: []string{"codedeploy:ContinueDeployment"}, Resources: []string{"*"}}
	switch {
	case d.Rollback:
		decide.Actions = []string{"codedeploy:StopDeployment"}
		b.allow(decide)
	case d.Continue:
		b.allow(decide)
	}
	if !d.WaitForServiceStability {
		return
	}
	b.allow(Statement{
		Sid: "OptionalFollow", Actions: []string{"codedeploy:ListDeploymentTargets", "codedeploy:BatchGetDeploymentTargets"}, Resources: []string{"*"},
		Loss: "the deployment's lifecycle events and its traffic are not shown",
	})
	if !d.Rollback && (d.RollbackOnFailure || d.RollbackOnCancel) {
		b.allow(Statement{
			Sid: "OptionalStop", Actions: []string{"codedeploy:StopDeployment"}, Resources: []string{"*"},
			Loss: "a deployment whose tasks keep failing, or that takes too long, goes on",
		})
	}
}

// createDeployment allows what CreateDeployment needs besides itself: CodeDeploy
// registers the AppSpec as a revision and reads the configuration in the
// caller's name.
func (b *builder) createDeployment(group Group, arn string) {
	b.allow(Statement{
		Sid: "CreateDeployment", Actions: []string{"codedeploy:RegisterApplicationRevision", "codedeploy:GetDeploymentConfig"},
		Resources: []string{b.arn("codedeploy", "application:"+group.Application), b.arn("codedeploy", "deploymentconfig:"+group.Config)},
	})
	find := Statement{
		Sid: "OptionalFindDeployment", Actions: []string{"codedeploy:ListDeployments"}, Resources: []string{arn},
		Loss: "if the answer is lost on the way, it is not known whether the deployment has begun, and the step fails",
	}
	if !b.settings.Deployment.WaitForServiceStability {
		find.Actions = append(find.Actions, "codedeploy:GetDeployment")
		find.Loss += "; the AppSpec of the last deployment is not taken over"
	}
	b.allow(find)
}

// searchGroup allows to look for the service's group in all applications.
func (b *builder) searchGroup() {
	application := cmp.Or(b.settings.Deployment.CodeDeploy.Application, "*")
	if application == "*" {
		b.allow(Statement{Sid: "FindApplication", Actions: []string{"codedeploy:ListApplications"}, Resources: []string{"*"}})
	}
	b.allow(Statement{
		Sid: "FindGroup", Actions: []string{"codedeploy:ListDeploymentGroups", "codedeploy:BatchGetDeploymentGroups"},
		Resources: []string{b.arn("codedeploy", "application:"+application), b.arn("codedeploy", "deploymentgroup:"+application+"/*")},
	})
}
