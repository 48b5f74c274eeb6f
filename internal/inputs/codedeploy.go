package inputs

// CodeDeploy says how a service with the controller CODE_DEPLOY is deployed.
// What is empty is found from the service.
type CodeDeploy struct {
	// AppSpec is a path, absolute if Settings.Workspace is.
	AppSpec                                 string
	Application, Group, Description, Config string
	// WaitForEnd waits until the old tasks have ended too.
	WaitForEnd bool
}

func (p *parser) codeDeploy(c *CodeDeploy) {
	if v := p.single("codedeploy-appspec", "Name one file in the workspace."); v != "" {
		c.AppSpec = p.path(v)
	}
	named := func(name, what string) string {
		v := p.single(name, "Write one name.")
		if v != "" && !matches(`^[^/:\s]{1,100}$`, v) {
			p.failf(name, v, "Write the name alone, at most 100 characters.", "not the name of %s", what)
		}
		return v
	}
	c.Application = named("codedeploy-application", "a CodeDeploy application")
	c.Group = named("codedeploy-deployment-group", "a deployment group")
	c.Config = named("codedeploy-deployment-config", "a deployment configuration")
	c.Description = p.text("codedeploy-deployment-description")
	c.WaitForEnd = p.oneOf("codedeploy-wait-for", "traffic", "succeeded") == "succeeded"
}

// codeDeployInputs are those that only mean something to a new deployment by
// CodeDeploy.
func codeDeployInputs() []string {
	return []string{
		"codedeploy-appspec", "codedeploy-application", "codedeploy-deployment-group", "codedeploy-deployment-description",
		"codedeploy-deployment-config", "codedeploy-wait-for",
	}
}
