package emulator_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/towline/towline/internal/emulator"
)

// A policy document decides by action, resource and condition, and what it does
// not allow is refused in IAM's words.
func TestPolicyDocument(t *testing.T) {
	t.Parallel()
	const (
		shop     = "arn:aws:ecs:us-east-1:123456789012:service/shop/web"
		identity = "because no identity-based policy allows"
	)
	describe := func(ctx context.Context, w *world) error {
		_, err := w.ecs.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: aws.String("shop"), Services: []string{"web"}})
		return err
	}
	listTasks := func(ctx context.Context, w *world) error {
		_, err := w.ecs.ListTasks(ctx, &ecs.ListTasksInput{Cluster: aws.String("shop")})
		return err
	}
	register := func(tags ...ecstypes.Tag) func(ctx context.Context, w *world) error {
		return func(ctx context.Context, w *world) error {
			_, err := w.ecs.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
				Family: aws.String("web"), ContainerDefinitions: container("web", "docker.io/library/web:1"), Tags: tags,
				TaskRoleArn: aws.String("arn:aws:iam::123456789012:role/task"),
			})
			return err
		}
	}
	stop := func(ctx context.Context, w *world) error {
		_, err := w.ecs.StopServiceDeployment(ctx, &ecs.StopServiceDeploymentInput{
			ServiceDeploymentArn: aws.String("arn:aws:ecs:us-east-1:123456789012:service-deployment/shop/web/x"),
		})
		return err
	}
	tests := map[string]struct {
		statements string
		call       func(context.Context, *world) error
		// want is a part of the refusal; empty: none.
		want string
	}{
		"allowed on the resource":    {`{"Effect": "Allow", "Action": "ecs:DescribeServices", "Resource": "` + shop + `"}`, describe, ""},
		"allowed by patterns":        {`{"Effect": "Allow", "Action": ["ecs:describe*"], "Resource": ["arn:aws:ecs:*:123456789012:service/shop/*"]}`, describe, ""},
		"another resource":           {`{"Effect": "Allow", "Action": "ecs:DescribeServices", "Resource": "` + shop + `2"}`, describe, "ecs:DescribeServices on resource: " + shop + " " + identity},
		"resources tell case":        {`{"Effect": "Allow", "Action": "ecs:DescribeServices", "Resource": "arn:aws:ecs:us-east-1:123456789012:service/Shop/web"}`, describe, identity},
		"another action":             {`{"Effect": "Allow", "Action": "ecs:UpdateService", "Resource": "*"}`, describe, identity},
		"all but an action":          {`{"Effect": "Allow", "NotAction": "ecs:DescribeServices", "Resource": "*"}`, describe, identity},
		"all but a resource":         {`{"Effect": "Allow", "Action": "ecs:*", "NotResource": "` + shop + `"}`, describe, identity},
		"deny wins":                  {`{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "ecs:*", "Resource": "` + shop + `"}`, describe, "with an explicit deny in an identity-based policy"},
		"condition holds":            {`{"Effect": "Allow", "Action": "ecs:ListTasks", "Resource": "*", "Condition": {"ArnEquals": {"ecs:cluster": "arn:aws:ecs:us-east-1:123456789012:cluster/shop"}}}`, listTasks, ""},
		"condition fails":            {`{"Effect": "Allow", "Action": "ecs:ListTasks", "Resource": "*", "Condition": {"ArnEquals": {"ecs:cluster": "arn:aws:ecs:us-east-1:123456789012:cluster/other"}}}`, listTasks, "ecs:ListTasks on resource: arn:aws:ecs:us-east-1:123456789012:container-instance/shop/*"},
		"key that is not there":      {`{"Effect": "Allow", "Action": "ecs:ListTasks", "Resource": "*", "Condition": {"StringEquals": {"ecs:nothing": "x"}}}`, listTasks, identity},
		"key that must not be there": {`{"Effect": "Allow", "Action": "ecs:ListTasks", "Resource": "*", "Condition": {"Null": {"ecs:nothing": "true"}}}`, listTasks, ""},
		"role for another service": {
			`{"Effect": "Allow", "Action": "ecs:*", "Resource": "*"}, {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": {"StringEquals": {"iam:PassedToService": "ecs.amazonaws.com"}}}`,
			register(), "iam:PassRole on resource: arn:aws:iam::123456789012:role/task " + identity,
		},
		"tags by another action": {
			`{"Effect": "Allow", "Action": ["ecs:RegisterTaskDefinition", "iam:PassRole"], "Resource": "*"}, {"Effect": "Allow", "Action": "ecs:TagResource", "Resource": "*", "Condition": {"StringEquals": {"ecs:CreateAction": "RunTask"}}}`,
			register(ecstypes.Tag{Key: aws.String("team"), Value: aws.String("shop")}), "ecs:TagResource on resource: arn:aws:ecs:us-east-1:123456789012:task-definition/web:*",
		},
		"deployment without its service": {
			`{"Effect": "Allow", "Action": "ecs:*", "Resource": "arn:aws:ecs:us-east-1:123456789012:service-deployment/shop/web/*"}`, stop, "ecs:StopServiceDeployment on resource: " + shop,
		},
		"log stream": {
			`{"Effect": "Allow", "Action": "logs:GetLogEvents", "Resource": "arn:aws:logs:us-east-1:123456789012:log-group:/app:log-stream:web/*"}`,
			func(ctx context.Context, w *world) error {
				_, err := w.logs.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("/app"), LogStreamName: aws.String("api/api/1")})
				return err
			}, "logs:GetLogEvents on resource: arn:aws:logs:us-east-1:123456789012:log-group:/app:log-stream:api/api/1",
		},
		"action without resources": {
			`{"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "arn:aws:ecr:us-east-1:123456789012:repository/web"}`,
			func(ctx context.Context, w *world) error {
				_, err := w.ecr.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
				return err
			}, "ecr:GetAuthorizationToken on resource: * " + identity,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(emulator.Options{})
			w.service(t, 1, nil)
			role, err := w.AddRole(emulator.Role{
				Name: "deploy", TrustPolicy: w.TrustGitHub("repo:acme/shop:*"),
				PolicyDocument: `{"Version": "2012-10-17", "Statement": [` + tt.statements + `]}`,
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := w.assume(t, role, w.idToken(t, "sts.amazonaws.com"), 3600)
			if err != nil {
				t.Fatal(err)
			}
			w.use(credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken))
			err = tt.call(t.Context(), w)
			if tt.want == "" {
				if err != nil && strings.Contains(err.Error(), "AccessDenied") {
					t.Errorf("got %v, want it allowed", err)
				}
				return
			}
			wantCode(t, err, "AccessDeniedException", tt.want)
		})
	}
}

// IAM refuses a policy with a mistake when the role is made.
func TestPolicyDocumentRefused(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version": "2012-10-17", "Statement": [` + s + `]}` }
	tests := map[string]struct{ doc, want string }{
		"no JSON":      {`{`, "Syntax errors in policy."},
		"old version":  {`{"Version": "2008-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`, "version 2012-10-17"},
		"no statement": {`{"Version": "2012-10-17", "Statement": []}`, "Syntax errors in policy."},
		"effect":       {statement(`{"Effect": "allow", "Action": "*", "Resource": "*"}`), "Syntax errors in policy."},
		"member":       {statement(`{"Effect": "Allow", "Actions": "*", "Resource": "*"}`), "Syntax errors in policy."},
		"no action":    {statement(`{"Effect": "Allow", "Resource": "*"}`), "must contain actions"},
		"no resource":  {statement(`{"Effect": "Allow", "Action": "*"}`), "must contain resources"},
		"vendor":       {statement(`{"Effect": "Allow", "Action": "PassRole", "Resource": "*"}`), "prefaced by a vendor"},
		"no ARN":       {statement(`{"Effect": "Allow", "Action": "ecs:*", "Resource": "web"}`), `Resource web must be in ARN format or "*".`},
		"operator":     {statement(`{"Effect": "Allow", "Action": "ecs:*", "Resource": "*", "Condition": {"Equals": {"a:b": "c"}}}`), "Invalid Condition type : Equals."},
		"same Sid":     {statement(`{"Sid": "A", "Effect": "Allow", "Action": "ecs:*", "Resource": "*"}, {"Sid": "A", "Effect": "Allow", "Action": "ecr:*", "Resource": "*"}`), "must be unique"},
		"Sid":          {statement(`{"Sid": "a-b", "Effect": "Allow", "Action": "ecs:*", "Resource": "*"}`), "alpha-numeric"},
		"principal":    {statement(`{"Effect": "Allow", "Principal": "*", "Action": "ecs:*", "Resource": "*"}`), "should not specify a principal"},
		"too long":     {statement(`{"Effect": "Allow", "Action": "ecs:*", "Resource": "arn:aws:ecs:::` + strings.Repeat("x", 10240) + `"}`), "LimitExceeded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := emulator.New(emulator.Options{Key: sharedKey()})
			_, err := c.AddRole(emulator.Role{Name: "r", TrustPolicy: c.TrustGitHub("repo:acme/shop:*"), PolicyDocument: tt.doc})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
