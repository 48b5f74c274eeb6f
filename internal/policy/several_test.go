package policy_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/policy"
)

// Several services are allowed in the statements of one; those that another role
// is for are that role's.
func TestSeveralServices(t *testing.T) {
	t.Parallel()
	set := map[string]string{
		"image": "nginx", "aws-region": "eu-central-1", "role-to-assume": "arn:aws:iam::123456789012:role/deploy",
		"targets": "- {cluster: prod, service: web}\n- {cluster: blue, service: api, region: eu-west-1}\n- {service: far, role: \"arn:aws:iam::210987654321:role/far\"}",
	}
	s, err := inputs.Parse(func(name string) string { return set[name] }, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	plan := policy.For(s, policy.Facts{})
	for _, statement := range plan.Roles[len(plan.Roles)-1].Permissions {
		if slices.Contains([]string{"UpdateService", "AssumeTargets", "OptionalDescribeTasks"}, statement.Sid) {
			got[statement.Sid] = append(got[statement.Sid], statement.Resources...)
		}
		for _, condition := range statement.Conditions {
			if statement.Sid == "OptionalListTasks" {
				got[condition.Key] = condition.Values
			}
		}
	}
	want := map[string][]string{
		"UpdateService":         {"arn:aws:ecs:eu-central-1:123456789012:service/prod/web", "arn:aws:ecs:eu-west-1:123456789012:service/blue/api"},
		"AssumeTargets":         {"arn:aws:iam::210987654321:role/far"},
		"OptionalDescribeTasks": {"arn:aws:ecs:eu-central-1:123456789012:task/prod/*", "arn:aws:ecs:eu-west-1:123456789012:task/blue/*"},
		"ecs:cluster":           {"arn:aws:ecs:eu-central-1:123456789012:cluster/prod", "arn:aws:ecs:eu-west-1:123456789012:cluster/blue"},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}
