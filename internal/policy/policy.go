// Package policy says what AWS has to allow for a step's inputs: the trust
// policy and the permissions of its role, as small as they can be, and the
// policies of other accounts' repositories. It asks nobody: settings and facts
// in, statements out.
//
// Which action knows which resources and condition keys is from the Service
// Authorization Reference,
// https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html.
package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/towline/towline/internal/inputs"
)

// Facts are what the inputs do not say. What is empty becomes a placeholder, in
// capitals, and a line of Plan.Unknown.
type Facts struct {
	// Account is the role's account, where no input shows it.
	Account string
	// Source is where the workflow runs.
	Source Source
	// Task is what is known of the task definition that is registered; nil: nothing.
	Task *Task
	// Bases are the references of base images; those in ECR are read.
	Bases []string
	// CodeDeploy is the group that deploys the service; nil: the inputs say it, or
	// CodeDeploy does not deploy it.
	CodeDeploy *Group
}

// Source is the job, as GitHub's ID token names it.
type Source struct {
	// Repository is OWNER/NAME.
	Repository string
	// OwnerID and RepositoryID are GitHub's numbers; with both the subject has
	// them too, as tokens of newer repositories do.
	OwnerID, RepositoryID string
	// Environments are the environments of the job; where there is one, Branches,
	// Tags and PullRequests do not matter to the token.
	Environments []string
	// Branches and Tags are those that the workflow runs for; * stands for any
	// characters.
	Branches, Tags []string
	// PullRequests says that it runs for pull requests.
	PullRequests bool
}

// Task is what a task definition says about permissions.
type Task struct {
	Families []string
	// TaskRoles and ExecutionRoles are ARNs.
	TaskRoles, ExecutionRoles []string
	// LogGroups are those that its containers write to.
	LogGroups []string
	// Tagged says that it is registered with tags.
	Tagged bool
	// Secrets are ARNs in Secrets Manager that it names.
	Secrets []string
	// Parameters says that it names parameters of Systems Manager, MakesLogGroups
	// that its containers make their log groups themselves.
	Parameters, MakesLogGroups bool
	// Sidecars are the containers that are not essential.
	Sidecars []string
	// OnInstances says that its tasks may run on EC2 instances.
	OnInstances bool
}

// Plan is all that AWS has to be told.
type Plan struct {
	// Roles are in the order in which they are assumed; with keys of a user and
	// no role, there is one without Trust.
	Roles []Role
	// Repositories belong to other accounts.
	Repositories []Repository
	// Unknown has a line for each placeholder: "ACCOUNT: the 12 digits of ...".
	Unknown []string
}

// Role is one role, or the user whose keys are given.
type Role struct {
	// Name is the role's name, or a placeholder.
	Name string
	// Trust says who may assume it.
	Trust []Statement
	// Permissions say what it may do.
	Permissions []Statement
}

// Repository is an ECR repository of another account, whose own policy has to
// let the role in too.
type Repository struct {
	// Account and Region say where it is, Name is its name.
	Account, Region, Name string
	Policy                []Statement
}

// Statement allows something.
type Statement struct {
	Sid string
	// Principal is who is allowed, in trust and repository policies: the type
	// (Federated, AWS) and the ARN.
	Principal [2]string
	Actions   []string
	// Resources is empty in trust and repository policies.
	Resources  []string
	Conditions []Condition
	// Loss is what Towline does without the statement. Empty: it cannot do
	// without.
	Loss string
}

// Condition is one condition of a statement.
type Condition struct {
	// Test is the operator: StringEquals.
	Test, Key string
	Values    []string
}

// For gives the plan for settings, which Parse has checked.
func For(s inputs.Settings, f Facts) Plan {
	b := &builder{settings: s, facts: f, region: cmp.Or(s.Credentials.AWSRegion, "REGION")}
	worker := b.worker()
	b.account = cmp.Or(arnAccount(worker), f.Account, b.shownAccount(), "ACCOUNT")
	b.partition = partition(worker, b.region)
	if !s.NeedsAWS() {
		return Plan{}
	}
	b.images()
	b.public()
	b.tasks()
	b.oneOff()
	b.allServices()
	b.revisions()
	b.checks()
	b.roles()
	if b.account == "ACCOUNT" {
		b.unknown("ACCOUNT", "the 12 digits of the AWS account")
	}
	if b.region == "REGION" {
		b.unknown("REGION", "the AWS region, such as eu-central-1")
	}
	return b.plan
}

// Required leaves out what Towline can do without.
func Required(statements []Statement) []Statement {
	return slices.DeleteFunc(slices.Clone(statements), func(s Statement) bool { return s.Loss != "" })
}

// builder collects a plan.
type builder struct {
	settings inputs.Settings
	facts    Facts

	partition, account, region string
	permissions                []Statement
	plan                       Plan
}

func (b *builder) allow(s Statement) { b.permissions = append(b.permissions, s) }

func (b *builder) unknown(placeholder, what string) {
	line := placeholder + ": " + what
	if !slices.Contains(b.plan.Unknown, line) {
		b.plan.Unknown = append(b.plan.Unknown, line)
	}
}

// arn names a resource of the role's account and region.
func (b *builder) arn(service, resource string) string {
	return b.arnIn(b.account, b.region, service, resource)
}

func (b *builder) arnIn(account, region, service, resource string) string {
	if service == "iam" {
		region = ""
	}
	return strings.Join([]string{"arn", b.partition, service, region, account, resource}, ":")
}

// shownAccount is the account that names besides the role's show. A registry of
// another account is no sign.
func (b *builder) shownAccount() string {
	d := b.settings.Deployment
	shown := cmp.Or(arnAccount(d.Service), arnAccount(d.Cluster))
	for _, role := range b.settings.Credentials.RolesToAssume {
		shown = cmp.Or(shown, arnAccount(role))
	}
	if allowed := b.settings.Credentials.AllowedAccountIDs; shown == "" && len(allowed) == 1 {
		shown = allowed[0]
	}
	return shown
}

// arnAccount is the account of an ARN, empty for anything else.
func arnAccount(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return ""
	}
	return parts[4]
}

// partition is that of an ARN, or of a region.
// https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
func partition(arn, region string) string {
	if parts := strings.SplitN(arn, ":", 3); len(parts) == 3 && parts[0] == "arn" {
		return parts[1]
	}
	for _, p := range []struct{ prefix, partition string }{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-isob-", "aws-iso-b"},
		{"us-isof-", "aws-iso-f"},
		{"eu-isoe-", "aws-iso-e"},
		{"us-iso-", "aws-iso"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.partition
		}
	}
	return "aws"
}

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// distinct drops what stands in list before, and what is empty.
func distinct(list []string) []string {
	var out []string
	for _, each := range list {
		if each != "" && !slices.Contains(out, each) {
			out = append(out, each)
		}
	}
	return out
}
