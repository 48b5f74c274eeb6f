package preflight

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/towline/towline/internal/taskdef"
)

// tasks is who takes on the roles of a task, in every partition.
const tasks = "ecs-tasks.amazonaws.com"

// roles gives the reads of the execution role and the task role.
func (l *looker) roles(needs taskdef.Needs) []func(context.Context) Result {
	var all named
	for _, r := range []struct{ role, path string }{{needs.ExecutionRole, "executionRoleArn"}, {needs.TaskRole, "taskRoleArn"}} {
		if r.role != "" {
			all.add(r.role, r.path)
		}
	}
	var reads []func(context.Context) Result
	var ours []string
	for _, role := range all.order {
		parsed, err := arn.Parse(role)
		if err == nil && l.opts.Account != "" && parsed.AccountID != l.opts.Account {
			reads = append(reads, func(context.Context) Result {
				return l.finding(all.paths[role], fmt.Errorf("role %s is of account %s, but tasks of account %s cannot have it", role, parsed.AccountID, l.opts.Account),
					"Name a role of the account that the tasks run in.")
			})
			continue
		}
		ours = append(ours, role)
		reads = append(reads, func(ctx context.Context) Result { return l.role(ctx, role, all.paths[role]) })
	}
	if len(ours) > 0 && l.opts.Caller != "" {
		reads = append(reads, func(ctx context.Context) Result { return l.passing(ctx, ours, all) })
	}
	return reads
}

func (l *looker) iam() *iam.Client {
	return iam.NewFromConfig(l.opts.Config, func(o *iam.Options) { o.Retryer = retry.AddWithMaxAttempts(o.Retryer, attempts) })
}

// role reads one role and its trust policy.
func (l *looker) role(ctx context.Context, role string, paths []string) Result {
	name := role[strings.LastIndexByte(role, '/')+1:]
	found, err := l.iam().GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(name)})
	switch {
	case isNot(err, "NoSuchEntity"):
		return l.finding(paths, fmt.Errorf("role %s: %w", role, err), "Create the role, with a trust policy for "+tasks+", or name another one.")
	case err != nil:
		return unread(ctx, "iam:GetRole", "role "+name, err)
	case found.Role == nil:
		return Result{Unread: []Unread{{Action: "iam:GetRole", What: "role " + name, Why: "an answer without the role"}}}
	case strings.HasPrefix(role, "arn:") && aws.ToString(found.Role.Arn) != role:
		return l.finding(paths, fmt.Errorf("role %s is not there under this path", role), "Write its ARN: "+aws.ToString(found.Role.Arn)+".")
	}
	if trusted, known := trusts(aws.ToString(found.Role.AssumeRolePolicyDocument)); known && !trusted {
		return l.finding(paths, fmt.Errorf("the trust policy of role %s does not let %s assume it", name, tasks),
			fmt.Sprintf("Add to its trust policy: {\"Effect\": \"Allow\", \"Principal\": {\"Service\": %q}, \"Action\": \"sts:AssumeRole\"}", tasks))
	}
	return Result{Read: []string{"role " + name}}
}

// trusts says whether a trust policy, encoded for a URL as IAM gives it, lets
// tasks in. Conditions are not judged. known is false for what cannot be read.
func trusts(encoded string) (trusted, known bool) {
	text, err := url.QueryUnescape(encoded)
	if err != nil {
		return false, false
	}
	var doc struct{ Statement list[statement] }
	if json.Unmarshal([]byte(text), &doc) != nil {
		return false, false
	}
	for _, s := range doc.Statement {
		if s.Effect != "Allow" || !slices.ContainsFunc(s.Action, func(a string) bool {
			return a == "*" || strings.EqualFold(a, "sts:*") || strings.EqualFold(a, "sts:AssumeRole")
		}) {
			continue
		}
		var anyone string
		var principal struct{ Service list[string] }
		if json.Unmarshal(s.Principal, &anyone) == nil && anyone == "*" {
			return true, true
		}
		if json.Unmarshal(s.Principal, &principal) == nil && (slices.Contains(principal.Service, tasks) || slices.Contains(principal.Service, "*")) {
			return true, true
		}
	}
	return false, true
}

type statement struct {
	Effect    string
	Action    list[string]
	Principal json.RawMessage
}

// list is a value of a policy that may stand alone.
type list[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (l *list[T]) UnmarshalJSON(data []byte) error {
	var many []T
	if json.Unmarshal(data, &many) == nil {
		*l = many
		return nil
	}
	var one T
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*l = list[T]{one}
	return nil
}

// passing asks IAM whether the caller may pass the roles to ECS. Policies of the
// session itself are not in its answer.
func (l *looker) passing(ctx context.Context, roles []string, all named) Result {
	const action = "iam:SimulatePrincipalPolicy"
	what := "whether iam:PassRole is allowed"
	arns := map[string]string{}
	in := &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: aws.String(l.opts.Caller), ActionNames: []string{"iam:PassRole"},
		ContextEntries: []iamtypes.ContextEntry{{
			ContextKeyName: aws.String("iam:PassedToService"), ContextKeyType: iamtypes.ContextKeyTypeEnumString, ContextKeyValues: []string{tasks},
		}},
	}
	for _, role := range roles {
		full := role
		if caller, err := arn.Parse(l.opts.Caller); err == nil && !strings.HasPrefix(role, "arn:") {
			full = arn.ARN{Partition: caller.Partition, Service: "iam", AccountID: caller.AccountID, Resource: "role/" + role}.String()
		}
		arns[full] = role
		in.ResourceArns = append(in.ResourceArns, full)
	}
	out, err := l.iam().SimulatePrincipalPolicy(ctx, in)
	if err != nil {
		return unread(ctx, action, what, err)
	}
	var result Result
	for _, d := range decisions(out) {
		role, asked := arns[d.arn]
		if !asked || d.decision == iamtypes.PolicyEvaluationDecisionTypeAllowed {
			continue
		}
		if len(d.missing) > 0 { // a condition decides that only the real call knows
			result.Unread = append(result.Unread, Unread{Action: action, What: what + " on " + d.arn, Why: "a condition on " + strings.Join(d.missing, ", ")})
			continue
		}
		denied := l.finding(all.paths[role], fmt.Errorf("%s may not pass role %s to ECS (%s)", l.opts.Caller, d.arn, d.decision),
			fmt.Sprintf("Allow iam:PassRole on %s with the condition iam:PassedToService = %s in the policy of the role that runs the deployment.", d.arn, tasks))
		result.Findings = append(result.Findings, denied.Findings...)
	}
	return result
}

// decision is what IAM says of one role.
type decision struct {
	arn      string
	decision iamtypes.PolicyEvaluationDecisionType
	// missing are condition keys that the simulation does not know.
	missing []string
}

// decisions takes IAM's answer apart. Its rows were once one for each resource,
// and are one for each action now.
func decisions(out *iam.SimulatePrincipalPolicyOutput) []decision {
	var all []decision
	for _, row := range out.EvaluationResults {
		if len(row.ResourceSpecificResults) == 0 {
			all = append(all, decision{aws.ToString(row.EvalResourceName), row.EvalDecision, row.MissingContextValues})
		}
		for _, one := range row.ResourceSpecificResults {
			all = append(all, decision{aws.ToString(one.EvalResourceName), one.EvalResourceDecision, one.MissingContextValues})
		}
	}
	return all
}
