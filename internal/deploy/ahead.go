package deploy

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sync/errgroup"
)

// justNow is how old what was read ahead may be for Deploy to begin with it.
const justNow = 2 * time.Second

// ahead is what ReadAhead has read, each part with its error.
type ahead struct {
	read    time.Time
	service *ecstypes.Service
	err     error
	// earlier are the service deployments, if they were listed.
	listed  bool
	earlier []ecstypes.ServiceDeploymentBrief
	listErr error
}

// ReadAhead reads what Deploy begins with, so that it need not be waited for then.
// Of this Client's methods only Register may run beside it. What cannot be read is
// told by Deploy, which reads again what is older than two seconds. updates says that
// an update will be sent, as far as is known: the service's deployments are only read
// for that.
func (c *Client) ReadAhead(ctx context.Context, updates bool) {
	a := &ahead{listed: updates && c.opts.Wait && !c.denied[listAction]}
	var group errgroup.Group
	if a.listed {
		group.Go(func() error {
			var out *ecs.ListServiceDeploymentsOutput
			if out, a.listErr = c.ecs.ListServiceDeployments(ctx, c.listInput()); a.listErr == nil {
				a.earlier = out.ServiceDeployments
			}
			return nil
		})
	}
	a.service, a.err = c.describe(ctx)
	a.read = time.Now()
	_ = group.Wait() // its error is kept
	c.ahead = a
}

// first is the service as Deploy begins with it.
func (c *Client) first(ctx context.Context) (*ecstypes.Service, error) {
	switch {
	case c.ahead == nil || time.Since(c.ahead.read) > justNow:
		c.ahead = nil
		return c.usable(ctx)
	case c.ahead.err != nil:
		return nil, c.serviceProblem(ctx, c.ahead.err)
	default:
		return c.accepted(c.ahead.service)
	}
}

// earlier lists the service deployments that are there before an update.
func (c *Client) earlier(ctx context.Context) ([]ecstypes.ServiceDeploymentBrief, error) {
	a := c.ahead
	if a == nil || !a.listed {
		return c.serviceDeployments(ctx, time.Time{}, 1)
	}
	ok, err := c.spare(ctx, listAction, lossOfStates, func() error { return a.listErr })
	if !ok {
		return nil, err
	}
	return a.earlier, nil
}

// listInput asks for the service's deployments, the newest first.
func (c *Client) listInput() *ecs.ListServiceDeploymentsInput {
	in := &ecs.ListServiceDeploymentsInput{Service: aws.String(c.opts.Service), MaxResults: aws.Int32(100)}
	if c.cluster != "" {
		in.Cluster = aws.String(c.cluster)
	}
	return in
}
