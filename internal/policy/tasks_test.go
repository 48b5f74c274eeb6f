package policy_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/internal/policy"
)

// Services with task definitions of their own need what each of them needs.
func TestSeveralTasks(t *testing.T) {
	t.Parallel()
	var all *policy.Task
	for _, definition := range []string{
		`{"family":"web","taskRoleArn":"arn:aws:iam::123456789012:role/web","requiresCompatibilities":["FARGATE"],
			"containerDefinitions":[{"name":"app","logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"/web"}}}]}`,
		`{"family":"worker","executionRoleArn":"arn:aws:iam::123456789012:role/pull","containerDefinitions":[{"name":"app",
			"secrets":[{"name":"KEY","valueFrom":"arn:aws:secretsmanager:us-east-1:123456789012:secret:worker-AbCdEf"}]}]}`,
	} {
		task, err := policy.TaskOf([]byte(definition))
		if err != nil {
			t.Fatal(err)
		}
		all = all.And(task)
	}
	plan := policy.For(settings(t, "service: |\n  web\n  worker\ncluster: prod\naws-region: us-east-1\nrole-to-assume: deploy\nimage: registry.example.com/shop:1\ncontainer-name: app"),
		policy.Facts{Account: "123456789012", Task: all})
	text := plan.Text()
	for _, want := range []string{
		"task-definition/web:*", "task-definition/worker:*", "role/web", "role/pull", "log-group:/web:log-stream:*", "secret:worker-AbCdEf",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the policy lacks %s:\n%s", want, text)
		}
	}
}
