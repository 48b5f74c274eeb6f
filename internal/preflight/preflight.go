// Package preflight looks, before anything is built, at what a task definition
// names outside of itself: secrets, parameters, log groups and roles. Without
// them its tasks would not start, minutes later.
//
// It only reads, never a secret's value, and it looks at what it is allowed to
// look at: what is left is told, and is no failure.
package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

const (
	// defaultLimit bounds all reads together: a runner in a private network may
	// reach ECS and not IAM, and a request there would hang for minutes.
	defaultLimit = 5 * time.Second
	// sideBySide is how many reads run at once.
	sideBySide = 16
	// attempts is how often one read is tried.
	attempts = 2
)

// Options says who looks. Config is required.
type Options struct {
	// Config has credentials, region, HTTP client and endpoints.
	Config aws.Config
	// Account is the caller's twelve digits. Roles of others cannot be passed.
	Account string
	// Caller is the IAM role or user who will pass the roles to ECS; see CallerOf.
	// Default: whether it may is not asked.
	Caller string
	// Limit bounds all reads together. Default: 5 s.
	Limit time.Duration
}

// Result is what was found.
type Result struct {
	// Findings would keep tasks from starting, or the definition from being
	// registered.
	Findings []*problem.Error
	// Unread could not be looked at.
	Unread []Unread
	// Read is what is there as it should be, each in a few words.
	Read []string
}

// Unread is what could not be looked at.
type Unread struct {
	// Action is the permission that it takes: logs:DescribeLogGroups.
	Action string
	// What was not checked: "log group /web".
	What string
	// Why is the reason, or empty where the permission is missing.
	Why string
}

// Definition looks at what the task definition names. The reads run side by
// side. When ctx ends, what was not read by then is Unread.
func Definition(ctx context.Context, opts Options, doc taskdef.Document) Result {
	needs := doc.Needs()
	l := &looker{opts: opts, op: "check task definition " + doc.Family()}
	var reads []func(context.Context) Result
	reads = append(reads, l.secrets(needs)...)
	reads = append(reads, l.logGroups(needs.LogGroups)...)
	reads = append(reads, l.roles(needs)...)

	cause := fmt.Errorf("no answer within %s", cmp.Or(opts.Limit, defaultLimit))
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(opts.Limit, defaultLimit), cause)
	defer cancel()
	results := make([]Result, len(reads))
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for i, read := range reads {
		group.Go(func() error { results[i] = read(ctx); return nil })
	}
	_ = group.Wait() // none gives an error
	var all Result
	for _, r := range results {
		all.Findings = append(all.Findings, r.Findings...)
		all.Unread = append(all.Unread, r.Unread...)
		all.Read = append(all.Read, r.Read...)
	}
	return all
}

// looker is one look.
type looker struct {
	opts Options
	op   string
}

// finding is one finding as a Result. The definition names the thing at paths.
func (l *looker) finding(paths []string, err error, fix string) Result {
	if len(paths) > 0 {
		err = fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	return Result{Findings: []*problem.Error{{Op: l.op, Err: err, Fix: fix}}}
}

// unread is a read that failed as a Result.
func unread(ctx context.Context, action, what string, err error) Result {
	return Result{Unread: []Unread{UnreadOf(ctx, action, what, err)}}
}

// UnreadOf says why a read failed that would have checked what.
func UnreadOf(ctx context.Context, action, what string, err error) Unread {
	u := Unread{Action: action, What: what}
	var said smithy.APIError
	switch {
	case ctx.Err() != nil:
		u.Why = context.Cause(ctx).Error()
	case errors.As(err, &said) && strings.HasPrefix(said.ErrorCode(), "AccessDenied"):
	case errors.As(err, &said):
		u.Why = said.ErrorCode()
	default:
		u.Why = "no answer"
	}
	return u
}

// isNot says whether err is the service's word for a thing that is not there.
func isNot(err error, code string) bool {
	var said smithy.APIError
	return errors.As(err, &said) && said.ErrorCode() == code
}

// region is that of an ARN or, if it names none, the caller's.
func (l *looker) region(name string) string {
	if parsed, err := arn.Parse(name); err == nil && parsed.Region != "" {
		return parsed.Region
	}
	return l.opts.Config.Region
}

// CallerOf gives the role or user behind a session, as IAM names it. A session's
// ARN lacks the path of its role, which only the role that was asked for shows;
// it may be a name, or empty. The result is empty for other callers.
func CallerOf(session, role string) string {
	parsed, err := arn.Parse(session)
	if err != nil {
		return ""
	}
	if strings.HasPrefix(parsed.Resource, "user/") {
		return session
	}
	name, isRole := strings.CutPrefix(parsed.Resource, "assumed-role/")
	if !isRole {
		return ""
	}
	name, _, _ = strings.Cut(name, "/")
	if strings.HasPrefix(role, "arn:") && strings.HasSuffix(role, "/"+name) {
		return role
	}
	return arn.ARN{Partition: parsed.Partition, Service: "iam", AccountID: parsed.AccountID, Resource: "role/" + name}.String()
}
