package deploy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// lossOfStates is what is missing without the reads of service deployments.
const lossOfStates = "the deployment is followed by its rollout state instead of its service deployment"

// listAction is the permission that it takes to list them.
const listAction = "ecs:ListServiceDeployments"

// candidate is a service deployment that may be ours.
type candidate struct{ arn, revision string }

// state reads our service deployment, finding it first where it is not known.
// It is nil while there is none and where it may not be read.
func (f *follower) state(ctx context.Context, s *ecstypes.Service) (*ecstypes.ServiceDeployment, error) {
	if f.d.arn != "" {
		return f.c.serviceDeployment(ctx, f.d.arn)
	}
	found, err := f.candidates(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, one := range found {
		state, err := f.c.serviceDeployment(ctx, one.arn)
		if err != nil {
			return nil, err
		}
		if state != nil && state.TargetServiceRevision != nil {
			one.revision = aws.ToString(state.TargetServiceRevision.Arn)
		}
		runs, err := f.c.revisionRuns(ctx, one.revision)
		if err != nil {
			return nil, err
		}
		if runs != "" && runs != f.d.taskDefinition {
			f.d.before[one.arn] = true // somebody else's
			continue
		}
		f.d.arn = one.arn
		return state, nil
	}
	return nil, nil
}

// candidates gives the service deployments that may be ours: none of those
// that were there before, the one closest to our deployment's birth first.
func (f *follower) candidates(ctx context.Context, s *ecstypes.Service) ([]candidate, error) {
	listed, err := f.c.serviceDeployments(ctx, f.d.since.Add(-time.Minute), 3)
	if err != nil {
		return nil, err
	}
	distance := func(b ecstypes.ServiceDeploymentBrief) time.Duration {
		return aws.ToTime(b.CreatedAt).Sub(f.d.since).Abs()
	}
	slices.SortStableFunc(listed, func(a, b ecstypes.ServiceDeploymentBrief) int {
		return cmp.Compare(distance(a), distance(b))
	})
	var found []candidate
	for _, b := range listed {
		if f.d.joined && isOver(b.Status) {
			// The deployment under way may be a rollback to one that ended long
			// ago: that one's end is not the end of this.
			continue
		}
		found = append(found, candidate{aws.ToString(b.ServiceDeploymentArn), aws.ToString(b.TargetServiceRevisionArn)})
	}
	// What DescribeServices says needs no further permission, but it may still
	// be the deployment before ours.
	if current := aws.ToString(s.CurrentServiceDeployment); current != "" && f.c.denied[listAction] {
		if now := primary(s); now != nil && aws.ToString(now.Id) == f.d.id {
			found = append(found, candidate{arn: current})
		}
	}
	return slices.DeleteFunc(found, func(one candidate) bool { return f.d.before[one.arn] }), nil
}

func isOver(status ecstypes.ServiceDeploymentStatus) bool {
	switch status {
	case ecstypes.ServiceDeploymentStatusSuccessful, ecstypes.ServiceDeploymentStatusStopped,
		ecstypes.ServiceDeploymentStatusRollbackSuccessful, ecstypes.ServiceDeploymentStatusRollbackFailed:
		return true
	}
	return false
}

// serviceDeployments lists the service's deployments made after a moment (zero:
// all), at most pages of 100; none where they may not be read.
func (c *Client) serviceDeployments(ctx context.Context, after time.Time, pages int) ([]ecstypes.ServiceDeploymentBrief, error) {
	in := c.listInput()
	if !after.IsZero() {
		in.CreatedAt = &ecstypes.CreatedAt{After: aws.Time(after)}
	}
	var all []ecstypes.ServiceDeploymentBrief
	for range pages {
		var out *ecs.ListServiceDeploymentsOutput
		ok, err := c.spare(ctx, listAction, lossOfStates, func() (err error) {
			out, err = c.ecs.ListServiceDeployments(ctx, in)
			return err
		})
		if !ok {
			return nil, err
		}
		all = append(all, out.ServiceDeployments...)
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	return all, nil
}

// serviceDeployment reads one service deployment. It is nil where it may not
// be read, or is not there yet.
func (c *Client) serviceDeployment(ctx context.Context, arn string) (*ecstypes.ServiceDeployment, error) {
	var out *ecs.DescribeServiceDeploymentsOutput
	ok, err := c.spare(ctx, "ecs:DescribeServiceDeployments", lossOfStates, func() (err error) {
		if c.opts.Shared != nil {
			out, err = c.serviceDeploymentTogether(ctx, arn)
			return err
		}
		out, err = c.ecs.DescribeServiceDeployments(ctx, &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{arn}})
		return err
	})
	var absent *ecstypes.ServiceDeploymentNotFoundException
	switch {
	case errors.As(err, &absent):
		return nil, nil
	case !ok || len(out.ServiceDeployments) == 0:
		return nil, err
	}
	return &out.ServiceDeployments[0], nil
}

// revisionRuns gives the task definition of a service revision, or empty where
// it is not known.
func (c *Client) revisionRuns(ctx context.Context, arn string) (string, error) {
	if arn == "" {
		return "", nil
	}
	var out *ecs.DescribeServiceRevisionsOutput
	ok, err := c.spare(ctx, "ecs:DescribeServiceRevisions", "the service deployment is recognised by its time alone", func() (err error) {
		out, err = c.ecs.DescribeServiceRevisions(ctx, &ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{arn}})
		return err
	})
	if !ok || len(out.ServiceRevisions) == 0 {
		return "", err
	}
	return aws.ToString(out.ServiceRevisions[0].TaskDefinition), nil
}
