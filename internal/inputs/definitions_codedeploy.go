package inputs

func codeDeployDefinitions() []Definition {
	return []Definition{
		{
			Name: "codedeploy-appspec", Group: groupDeployment,
			Description: "For a service with the controller CODE_DEPLOY: AppSpec file, JSON or YAML, in which only the task definition is exchanged. Default: `appspec.yaml` (or `.yml`, `.json`) in the workspace if there is one, else that of the group's last successful deployment, else one made from the service.",
		},
		{
			Name: "codedeploy-application", Group: groupDeployment,
			Description: "CodeDeploy application of the service. Default: `AppECS-CLUSTER-SERVICE`, or the one whose deployment group names the service.",
		},
		{
			Name: "codedeploy-deployment-group", Group: groupDeployment,
			Description: "CodeDeploy deployment group of the service. Default: `DgpECS-CLUSTER-SERVICE`, or the one that names the service.",
		},
		{
			Name: "codedeploy-deployment-description", Group: groupDeployment,
			Description: "Description that CodeDeploy shows with the deployment, cut at 512 characters.",
		},
		{
			Name: "codedeploy-deployment-config", Group: groupDeployment,
			Description: "How CodeDeploy moves the traffic, such as `CodeDeployDefault.ECSCanary10Percent5Minutes`. Default: as the deployment group says.",
		},
		{
			Name: "codedeploy-wait-for", Group: groupDeployment, Default: "traffic",
			Description: "When a deployment by CodeDeploy has succeeded: `traffic`, once all traffic is on the new tasks, or `succeeded`, once CodeDeploy has ended the old ones too.",
		},
	}
}
