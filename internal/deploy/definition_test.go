package deploy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

// TestTaskDefinitionGoesRoundWhole reads a definition with fields that the SDK
// does not know, changes its image and registers it: they are still there.
func TestTaskDefinitionGoesRoundWhole(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.definitions[oldTD] = `{"taskDefinition":{"taskDefinitionArn":"` + oldTD + `","family":"web","revision":1,"status":"ACTIVE",` +
		`"inventedField":{"ratio":1.50,"big":12345678901234567890},` +
		`"containerDefinitions":[{"name":"app","image":"repo:1","inventedToo":[null,"x"]}]},"tags":[{"key":"team","value":"a"}]}`
	c, events := f.client(Options{})
	answer, err := c.TaskDefinition(t.Context(), oldTD)
	if err != nil {
		t.Fatal(err)
	}
	if string(answer) != f.definitions[oldTD] {
		t.Errorf("answer %s, want it as it came", answer)
	}
	wantIn(t, "DescribeTaskDefinition", f.bodies["DescribeTaskDefinition"][0], `"include":["TAGS"]`, oldTD)

	current, err := taskdef.Described(answer)
	if err != nil {
		t.Fatal(err)
	}
	arn, changed, err := c.Register(t.Context(), current, current, oldTD)
	if arn != oldTD || changed || err != nil || f.count("RegisterTaskDefinition") != 0 {
		t.Errorf("registering the same gave %q, %t, %v; want nothing registered", arn, changed, err)
	}
	wanted, err := current.WithImages(map[string]string{"app": "repo:2@sha256:aa"})
	if err != nil {
		t.Fatal(err)
	}
	arn, changed, err = c.Register(t.Context(), current, wanted, oldTD)
	if arn != newTD || !changed || err != nil {
		t.Errorf("registering another gave %q, %t, %v", arn, changed, err)
	}
	request, err := wanted.Request()
	if err != nil {
		t.Fatal(err)
	}
	sent := f.bodies["RegisterTaskDefinition"][0]
	if sent != string(request) {
		t.Errorf("sent %s, want %s", sent, request)
	}
	wantIn(t, "request", sent, `"ratio":1.50`, "12345678901234567890", "inventedToo", `"team"`, "repo:2@sha256:aa")
	want := []Event{Registered{ARN: oldTD}, Registered{ARN: newTD, Changed: true}}
	if diff := cmp.Diff(want, *events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestRegisterRefused(t *testing.T) {
	t.Parallel()
	document, err := taskdef.Parse([]byte(`{"family":"web","containerDefinitions":[{"name":"app","image":"a"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		code string
		want []string
	}{
		"denied":  {"AccessDeniedException", []string{"register task definition web", "Allow ecs:RegisterTaskDefinition"}},
		"invalid": {"InvalidParameterException", []string{"register task definition web", "Correct what ECS refuses"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.refuse["RegisterTaskDefinition"] = test.code
			if name == "invalid" {
				f.denyText = "Invalid setting for container 'app'."
			}
			c, _ := f.client(Options{})
			_, _, err := c.Register(t.Context(), taskdef.Document{}, document, "")
			wantError(t, err, test.want)
		})
	}
}

// TestRawCallsAreRetried: the raw calls have the typed ones' retries, and send
// the whole body each time.
func TestRawCallsAreRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.refuse["RegisterTaskDefinition"] = "ThrottlingException"
		f.hook = func(action string, call int) error {
			switch {
			case action == "RegisterTaskDefinition" && call == 2:
				return errors.New("connection reset by peer")
			case action == "RegisterTaskDefinition" && call == 6:
				delete(f.refuse, action)
			}
			return nil
		}
		c, _ := f.client(Options{})
		arn, err := c.register(t.Context(), "web", []byte(`{"family":"web","invented":1}`))
		if arn != newTD || err != nil {
			t.Errorf("got %q, %v", arn, err)
		}
		for i, sent := range f.bodies["RegisterTaskDefinition"] {
			if sent != `{"family":"web","invented":1}` {
				t.Errorf("try %d sent %s", i, sent)
			}
		}
	})
}

func TestPermission(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ message, want string }{
		"pass role": {
			"User: arn:aws:sts::1:assumed-role/ci/x is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/task because no identity-based policy allows the iam:PassRole action",
			"Allow iam:PassRole on arn:aws:iam::1:role/task with the condition iam:PassedToService = ecs-tasks.amazonaws.com",
		},
		"tag on create": {
			"User: x is not authorized to perform: ecs:TagResource on resource: arn:aws:ecs:r:1:task-definition/web:* because",
			"ecs:CreateAction = RegisterTaskDefinition",
		},
		"another":     {"User: x is not authorized to perform: ecs:UpdateService on resource: " + serviceARN, "Allow ecs:UpdateService on " + serviceARN},
		"no resource": {"User: x is not authorized to perform: ecs:ListTasks", "Allow ecs:ListTasks on *"},
		"odd":         {"No.", "Allow the action"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.refuse["RegisterTaskDefinition"], f.denyText = "ClientException", test.message
			if name == "odd" {
				f.refuse["RegisterTaskDefinition"] = "AccessDeniedException"
			}
			c, _ := f.client(Options{})
			_, err := c.register(t.Context(), "web", []byte(`{}`))
			wantError(t, err, []string{test.want})
		})
	}
}

// TestEndpoint: the raw calls go where the configuration says.
func TestEndpoint(t *testing.T) {
	t.Parallel()
	f := newFake()
	c, _ := f.client(Options{})
	c.opts.Config.BaseEndpoint = new("http://127.0.0.1:4566/emulated")
	c = New(c.opts)
	if _, err := c.TaskDefinition(t.Context(), newTD); err != nil {
		t.Fatal(err)
	}
	if got := f.urls[len(f.urls)-1]; !strings.HasPrefix(got, "http://127.0.0.1:4566/emulated") {
		t.Errorf("asked %s", got)
	}
}

// TestRegisterWaitsForOthers: ECS refuses concurrent registrations of a family
// with a ClientException, which the SDK does not try again.
func TestRegisterWaitsForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.refuse["RegisterTaskDefinition"] = "ClientException"
		f.denyText = "Too many concurrent attempts to create a new revision of the specified family."
		f.hook = func(_ string, call int) error {
			if call == 4 {
				clear(f.refuse)
			}
			return nil
		}
		c, _ := f.client(Options{})
		if arn, err := c.register(t.Context(), "web", []byte(`{}`)); arn != newTD || err != nil {
			t.Errorf("got %q, %v", arn, err)
		}
	})
}

// TestCredentialsThatCannotBeHad: the refusal of another service, with its own
// remedy, is not taken for a missing permission of ECS.
func TestCredentialsThatCannotBeHad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c, events := f.client(Options{Wait: true})
		good := c.opts.Config.Credentials
		start := time.Now()
		c.opts.Config.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			if time.Since(start) < time.Minute {
				got, err := good.Retrieve(ctx)
				got.CanExpire, got.Expires = true, time.Now().Add(time.Minute)
				return got, err
			}
			refused := &smithy.GenericAPIError{Code: "AccessDenied", Message: "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
			return aws.Credentials{}, &problem.Error{Op: "assume role", Err: refused, Fix: "Let the trust policy accept it."}
		})
		c = New(c.opts)
		out, err := c.Deploy(t.Context(), newTD)
		if out.Status != StatusStarted {
			t.Errorf("outcome %+v, want started", out)
		}
		wantError(t, err, []string{"goes on", "assume role", "Let the trust policy accept it. Look at"})
		if got := of[Notice](*events); len(got) != 0 {
			t.Errorf("notices %v, want none", got)
		}
	})
}
