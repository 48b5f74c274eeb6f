package problem_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/towline/towline/internal/problem"
)

func TestError(t *testing.T) {
	t.Parallel()
	refused := &smithy.OperationError{ServiceID: "ECS", OperationName: "DescribeServices", Err: requestError{
		"r-1", &smithy.GenericAPIError{Code: "ClusterNotFoundException", Message: "Cluster not found."},
	}}
	tests := map[string]struct {
		err  problem.Error
		want string
	}{
		"whole": {
			problem.Error{Op: "parse", Input: "push", Value: "yes", Err: errors.New("neither true nor false"), Fix: "Write true or false."},
			`parse: input "push" is "yes": neither true nor false. Write true or false.`,
		},
		"an answer of AWS": {
			problem.Error{Op: "read service", Err: refused},
			"read service: ClusterNotFoundException: Cluster not found (request r-1)",
		},
		"an answer of AWS with words before it": {
			problem.Error{Op: "read service", Err: fmt.Errorf("service web: %w", refused)},
			"read service: service web: ClusterNotFoundException: Cluster not found (request r-1)",
		},
		"no credentials to ask AWS with": {
			problem.Error{Op: "read service", Err: &smithy.OperationError{
				ServiceID: "ECS", OperationName: "DescribeServices",
				Err: fmt.Errorf("get identity: %w", &problem.Error{Op: "assume role", Err: refused}),
			}},
			"read service: assume role: ClusterNotFoundException: Cluster not found (request r-1)",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// requestError is as the SDK's ResponseError.
type requestError struct {
	id string
	error
}

func (e requestError) Error() string {
	return "https response error StatusCode: 400, " + e.error.Error()
}
func (e requestError) Unwrap() error            { return e.error }
func (e requestError) ServiceRequestID() string { return e.id }

func TestAll(t *testing.T) {
	t.Parallel()
	first, second := &problem.Error{Op: "one"}, &problem.Error{Op: "two"}
	got := problem.All("three", errors.Join(fmt.Errorf("wrapped: %w", first), errors.Join(second, errors.New("bare"))))
	if len(got) != 3 || got[0] != first || got[1] != second || got[2].Op != "three" {
		t.Errorf("got %v, want one, two, and the bare one as three", got)
	}
}
