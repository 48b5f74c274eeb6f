package deploy

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
)

// explainCode says what an error code of CodeDeploy means for an ECS service.
// https://docs.aws.amazon.com/codedeploy/latest/userguide/error-codes.html
func explainCode(e *cdtypes.ErrorInformation) (explanation, bool) {
	words := strings.Trim(string(e.Code)+": "+strings.TrimRight(aws.ToString(e.Message), ". "), ": ")
	meaning := map[cdtypes.ErrorCode][2]string{
		cdtypes.ErrorCodeAlarmActive: {
			"a CloudWatch alarm of the deployment group went off",
			"Look at the alarm's metric during the deployment; take alarms out of the group that do not speak of the service's health.",
		},
		cdtypes.ErrorCodeHookExecutionFailure: {
			"the function of a lifecycle event failed",
			"Look at the function's log: it must call PutLifecycleEventHookExecutionStatus with Succeeded within an hour.",
		},
		cdtypes.ErrorCodeTimeout: {
			"the new tasks did not become healthy in CodeDeploy's time, or nobody continued the deployment",
			"Look at the stopped tasks and the target group's health checks; a deployment that waits is continued with the input continue-deployment.",
		},
		cdtypes.ErrorCodeHealthConstraints: {
			"the new tasks did not become healthy",
			"Look at the stopped tasks, their logs and the target group's health checks.",
		},
		cdtypes.ErrorCodeCustomerApplicationUnhealthy: {
			"the new tasks did not become healthy",
			"Look at the stopped tasks, their logs and the target group's health checks.",
		},
		cdtypes.ErrorCodeEcsUpdateError: {
			"ECS refused what CodeDeploy asked of the service",
			"Correct what the message names: the AppSpec's task definition, container, port and network must fit the service.",
		},
		cdtypes.ErrorCodeInvalidEcsService: {
			"the service does not fit the deployment group",
			"Check that the service is ACTIVE, has the controller CODE_DEPLOY and one of the group's target groups, and that nobody else changes its task sets.",
		},
		cdtypes.ErrorCodeInvalidRevision: {
			"the AppSpec is not valid for the service",
			"Correct the AppSpec: resource, container name and port, and the functions of its hooks.",
		},
		cdtypes.ErrorCodeElasticLoadBalancingInvalid: {
			"the load balancer does not fit the deployment group",
			"Check the group's listeners and both target groups: each belongs to the listener's load balancer.",
		},
		cdtypes.ErrorCodeIamRoleMissing: {
			"the deployment group's service role is gone or does not trust CodeDeploy",
			"Create the role again, and let its trust policy accept codedeploy.amazonaws.com.",
		},
		cdtypes.ErrorCodeIamRolePermissions: {
			"the deployment group's service role lacks permissions",
			"Give the role the policy AWSCodeDeployRoleForECS, and iam:PassRole on the roles of the task definition.",
		},
		cdtypes.ErrorCodeInvalidLambdaFunction: {
			"a hook's function cannot be called",
			"Check the functions named in the AppSpec's Hooks, and lambda:InvokeFunction of the group's service role.",
		},
		cdtypes.ErrorCodeThrottled: {
			"CodeDeploy was slowed down by an API's rate",
			"Run the job again; deploy fewer services at a time in the account and region.",
		},
		cdtypes.ErrorCodeInternalError: {
			"CodeDeploy had an internal error",
			"Run the job again. If it persists, look at the state of CodeDeploy in the region.",
		},
	}
	m, known := meaning[e.Code]
	if !known {
		return explanation{}, false
	}
	rank := rankKnown
	switch e.Code {
	case cdtypes.ErrorCodeTimeout, cdtypes.ErrorCodeHealthConstraints, cdtypes.ErrorCodeCustomerApplicationUnhealthy:
		rank = rankVague // what the tasks say tells more
	default:
	}
	return explanation{summary: m[0], fix: m[1], words: words, rank: rank}, true
}
