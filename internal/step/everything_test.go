package step_test

import (
	"testing"

	"github.com/towline/towline/internal/emulator"
)

// everything names one of each thing that a task definition can name.
const everything = `{"family": "web", "networkMode": "awsvpc", "cpu": "256", "memory": "512", "requiresCompatibilities": ["FARGATE"],
	"executionRoleArn": "arn:aws:iam::123456789012:role/execution", "taskRoleArn": "arn:aws:iam::123456789012:role/task",
	"containerDefinitions": [
		{"name": "app", "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v1", "essential": true,
			"environment": [{"name": "LEVEL", "value": "info"}, {"name": "API_TOKEN", "value": "hunter2-hunter2"}],
			"secrets": [
				{"name": "DATABASE", "valueFrom": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-AbCdEf:password::"},
				{"name": "KEY", "valueFrom": "/prod/key"}
			],
			"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/prod/web", "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "web"}}}
	]}`

// nameEverything adds what everything names.
func (w *world) nameEverything(t *testing.T) {
	t.Helper()
	for _, name := range []string{"execution", "task"} {
		if _, err := w.cloud.AddRole(emulator.Role{Name: name, TrustPolicy: emulator.TrustTasks()}); err != nil {
			t.Fatal(err)
		}
	}
	w.cloud.AddSecret(emulator.Secret{Name: "prod/db", Suffix: "AbCdEf"})
	w.cloud.AddParameter("/prod/key")
}
