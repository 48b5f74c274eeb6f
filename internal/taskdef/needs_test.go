package taskdef_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/taskdef"
)

func TestNeeds(t *testing.T) {
	t.Parallel()
	doc, err := taskdef.Parse([]byte(`{"family": "web", "executionRoleArn": "arn:aws:iam::123456789012:role/exec", "taskRoleArn": "task",
		"requiresCompatibilities": ["EC2", "FARGATE"], "runtimePlatform": {"operatingSystemFamily": "LINUX"},
		"containerDefinitions": [
			{"name": "web", "secrets": [{"name": "KEY", "valueFrom": "/web/key"}, {"name": "EMPTY"}],
				"repositoryCredentials": {"credentialsParameter": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hub-AbCdEf"},
				"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/web", "awslogs-region": "eu-west-1"}}},
			{"name": "own", "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/own", "awslogs-create-group": "true"}}},
			{"name": "splunk", "logConfiguration": {"logDriver": "splunk", "secretOptions": [{"name": "splunk-token", "valueFrom": "token"}]}},
			{"name": "plain"}
		]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := taskdef.Needs{
		ExecutionRole: "arn:aws:iam::123456789012:role/exec", TaskRole: "task",
		Secrets: []taskdef.Secret{
			{From: "/web/key", Path: "containerDefinitions[web].secrets[KEY]"},
			{From: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hub-AbCdEf", Path: "containerDefinitions[web].repositoryCredentials.credentialsParameter"},
			{From: "token", Path: "containerDefinitions[splunk].logConfiguration.secretOptions[splunk-token]"},
		},
		LogGroups: []taskdef.LogGroup{{Name: "/web", Region: "eu-west-1", Path: "containerDefinitions[web].logConfiguration.options[awslogs-group]"}},
	}
	if diff := cmp.Diff(doc.Needs(), want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	if !doc.Requires("FARGATE") || doc.Requires("EXTERNAL") || doc.OperatingSystem() != "LINUX" {
		t.Error("the launch types or the operating system are not those of the document")
	}
}
