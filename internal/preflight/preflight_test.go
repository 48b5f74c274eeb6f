package preflight_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/preflight"
	"github.com/towline/towline/internal/taskdef"
)

const (
	key, secretKey = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	account        = "arn:aws:iam::123456789012:"
	secrets        = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
	parameters     = "arn:aws:ssm:eu-central-1:123456789012:parameter/"
)

// newCloud is an account with everything that the tests' definitions name.
func newCloud(t *testing.T) *emulator.Cloud {
	t.Helper()
	cloud := emulator.New(emulator.Options{Region: "eu-central-1"})
	cloud.AddUser(key, secretKey)
	cloud.AddLogGroup("/web")
	cloud.AddLogGroup("/web2")
	cloud.AddSecret(emulator.Secret{Name: "db", Suffix: "AbCdEf", Stages: []string{"BLUE"}})
	cloud.AddSecret(emulator.Secret{Name: "old", Suffix: "AbCdEf", Deleted: true})
	cloud.AddParameter("plain")
	cloud.AddParameter("/one")
	cloud.AddParameter("/web/key")
	for _, role := range []emulator.Role{
		{Name: "exec", TrustPolicy: emulator.TrustTasks()},
		{Name: "service/task", TrustPolicy: emulator.TrustTasks()},
		{Name: "lambda", TrustPolicy: strings.ReplaceAll(emulator.TrustTasks(), "ecs-tasks", "lambda")},
		{Name: "deploy", TrustPolicy: emulator.TrustTasks()},
		{Name: "reader", TrustPolicy: emulator.TrustTasks(), Policy: []string{"iam:Get*"}},
	} {
		if _, err := cloud.AddRole(role); err != nil {
			t.Fatal(err)
		}
	}
	return cloud
}

func options(transport http.RoundTripper) preflight.Options {
	return preflight.Options{
		Account: "123456789012",
		Config: aws.Config{
			Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(key, secretKey, ""),
			HTTPClient: &http.Client{Transport: transport},
		},
	}
}

// definition is one of the family web with a container app.
func definition(t *testing.T, root, container string) taskdef.Document {
	t.Helper()
	doc, err := taskdef.Parse(fmt.Appendf(nil, `{"family": "web", %s "containerDefinitions": [{"name": "app", "image": "i" %s}]}`, root, container))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// secret is a container's only secret.
func secret(from string) string {
	return fmt.Sprintf(`, "secrets": [{"name": "KEY", "valueFrom": %q}]`, from)
}

const execution = `"executionRoleArn": "` + account + `role/exec",`

func TestFindings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		root, container string
		caller          string
		want            []string // each in one finding, in this order
	}{
		"nothing is named": {},
		"all is there": {
			root:      execution + `"taskRoleArn": "` + account + `role/service/task",`,
			container: secret(secrets+"db-AbCdEf:user:BLUE:") + `, "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/web"}}`,
			caller:    account + "role/deploy",
		},
		"secret by its ARN without the end": {root: execution, container: secret(secrets + "db")},
		"secret missing": {
			root: execution, container: secret(secrets + "none-AbCdEf"),
			want: []string{"containerDefinitions[app].secrets[KEY]: secret none in eu-central-1: ResourceNotFoundException: Secrets Manager can't find the specified secret (request "},
		},
		"secret being deleted": {
			root: execution, container: secret(secrets + "old-AbCdEf"),
			want: []string{"being deleted, and cannot be read. Restore it: aws secretsmanager restore-secret --region eu-central-1 --secret-id " + secrets + "old-AbCdEf"},
		},
		"secret without that stage": {root: execution, container: secret(secrets + "db-AbCdEf::GREEN:"), want: []string{"no version with the stage GREEN"}},
		"secret without that version": {
			root: execution, container: secret(secrets + "db-AbCdEf:::00000000-0000-0000-0000-000000000000"),
			want: []string{"no version 00000000-0000-0000-0000-000000000000"},
		},
		"secret elsewhere":     {root: execution, container: secret("arn:aws:s3:::bucket/key"), want: []string{"neither the ARN of a secret nor that of a parameter"}},
		"secrets without role": {container: secret("plain"), want: []string{"it names secrets, but no executionRoleArn. Add executionRoleArn"}},
		"parameters": {
			root:      execution,
			container: fmt.Sprintf(`, "secrets": [{"name": "A", "valueFrom": "plain"}, {"name": "B", "valueFrom": %q}, {"name": "C", "valueFrom": %q}, {"name": "D", "valueFrom": "/web/key:2"}]`, parameters+"one", parameters+"web/key"),
		},
		"parameters missing": {
			root:      execution,
			container: fmt.Sprintf(`, "secrets": [{"name": "A", "valueFrom": "none"}, {"name": "B", "valueFrom": "none"}, {"name": "C", "valueFrom": %q}]`, parameters+"web/none"),
			want: []string{
				"containerDefinitions[app].secrets[A], containerDefinitions[app].secrets[B]: there is no parameter none in eu-central-1",
				"containerDefinitions[app].secrets[C]: there is no parameter /web/none in eu-central-1. Create it (aws ssm put-parameter --region eu-central-1 --type SecureString --name /web/none",
			},
		},
		"log group missing": {
			container: `, "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/we"}}`,
			want:      []string{"containerDefinitions[app].logConfiguration.options[awslogs-group]: there is no log group /we in eu-central-1. Create it (aws logs create-log-group --region eu-central-1 --log-group-name /we)"},
		},
		"role missing": {root: `"taskRoleArn": "` + account + `role/none",`, want: []string{"taskRoleArn: role " + account + "role/none: NoSuchEntity: The role with name none cannot be found"}},
		"role without its path": {
			root: `"taskRoleArn": "` + account + `role/task",`,
			want: []string{"role " + account + "role/task is not there under this path. Write its ARN: " + account + "role/service/task."},
		},
		"role by its name": {root: `"taskRoleArn": "exec",`},
		"role for others": {
			root: `"executionRoleArn": "` + account + `role/lambda", "taskRoleArn": "` + account + `role/lambda",`,
			want: []string{"executionRoleArn, taskRoleArn: the trust policy of role lambda does not let ecs-tasks.amazonaws.com assume it. Add to its trust policy: {"},
		},
		"role of another account": {
			root: `"taskRoleArn": "arn:aws:iam::999999999999:role/task",`,
			want: []string{"taskRoleArn: role arn:aws:iam::999999999999:role/task is of account 999999999999, but tasks of account 123456789012 cannot have it"},
		},
		"role may not be passed": {
			root: execution, caller: account + "role/reader",
			want: []string{"executionRoleArn: " + account + "role/reader may not pass role " + account + "role/exec to ECS (implicitDeny). Allow iam:PassRole on " + account + "role/exec with the condition"},
		},
		"everything at once": {
			root:      `"taskRoleArn": "none",`,
			container: secret("none") + `, "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/none"}}`,
			want:      []string{"no executionRoleArn", "no parameter none", "no log group /none", "role none: NoSuchEntity"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(newCloud(t).RoundTripper())
			opts.Caller = test.caller
			got := preflight.Definition(t.Context(), opts, definition(t, test.root, test.container))
			if len(got.Unread) > 0 {
				t.Errorf("unread: %+v", got.Unread)
			}
			var texts []string
			for _, finding := range got.Findings {
				texts = append(texts, finding.Error())
				if finding.Fix == "" {
					t.Errorf("no remedy: %v", finding)
				}
			}
			if len(texts) != len(test.want) {
				t.Fatalf("got %d findings, want %d:\n%s", len(texts), len(test.want), strings.Join(texts, "\n"))
			}
			for i, text := range texts {
				if !strings.Contains(text, test.want[i]) || !strings.HasPrefix(text, "check task definition web: ") {
					t.Errorf("got %q, want it to have %q", text, test.want[i])
				}
			}
		})
	}
}

// everything names one of each.
func everything(t *testing.T) taskdef.Document {
	t.Helper()
	return definition(t, execution, fmt.Sprintf(`, "secrets": [{"name": "A", "valueFrom": %q}, {"name": "B", "valueFrom": "plain"}],
		"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/web"}}`, secrets+"db-AbCdEf"))
}

// What may not be read, or does not answer, is no finding.
func TestUnread(t *testing.T) {
	t.Parallel()
	all := func(why string) []preflight.Unread {
		return []preflight.Unread{
			{Action: "secretsmanager:DescribeSecret", What: "secret db", Why: why},
			{Action: "ssm:DescribeParameters", What: "parameter plain", Why: why},
			{Action: "logs:DescribeLogGroups", What: "log group /web", Why: why},
			{Action: "iam:GetRole", What: "role exec", Why: why},
			{Action: "iam:SimulatePrincipalPolicy", What: "whether iam:PassRole is allowed", Why: why},
		}
	}
	tests := map[string]struct {
		fault emulator.FaultKind
		want  []preflight.Unread
	}{
		"all is allowed": {},
		"denied":         {fault: emulator.Denied, want: all("")},
		"broken":         {fault: emulator.Reset, want: all("no answer")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newCloud(t)
				if test.fault != "" {
					cloud.Fail(emulator.Fault{Kind: test.fault, Times: -1})
				}
				opts := options(cloud.RoundTripper())
				opts.Caller = account + "role/deploy"
				got := preflight.Definition(t.Context(), opts, everything(t))
				if diff := cmp.Diff(got.Unread, test.want); diff != "" {
					t.Errorf("got -, want +:\n%s", diff)
				}
				if len(got.Findings) > 0 {
					t.Errorf("findings: %v", got.Findings)
				}
				for _, call := range cloud.Calls() {
					if strings.HasPrefix(call.Action, "GetSecret") || strings.HasPrefix(call.Action, "GetParameter") {
						t.Errorf("%s reads a value", call.Action)
					}
				}
			})
		})
	}
}

// A service that cannot be reached holds nobody up for long.
func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		silent := roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		got := preflight.Definition(t.Context(), options(silent), everything(t))
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("took %s, want 5s", took)
		}
		if len(got.Unread) != 4 || got.Unread[0].Why != "no answer within 5s" {
			t.Errorf("unread: %+v", got.Unread)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestCallerOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ session, role, want string }{
		"session of the role":     {"arn:aws:sts::123456789012:assumed-role/deploy/run-1", "", account + "role/deploy"},
		"role with a path":        {"arn:aws:sts::123456789012:assumed-role/deploy/run-1", account + "role/ci/deploy", account + "role/ci/deploy"},
		"another role":            {"arn:aws:sts::123456789012:assumed-role/deploy/run-1", account + "role/ci/first", account + "role/deploy"},
		"other partition":         {"arn:aws-cn:sts::123456789012:assumed-role/deploy/run-1", "deploy", "arn:aws-cn:iam::123456789012:role/deploy"},
		"user":                    {account + "user/ci", "", account + "user/ci"},
		"the account itself":      {account + "root", "", ""},
		"something else entirely": {"none", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := preflight.CallerOf(test.session, test.role); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
