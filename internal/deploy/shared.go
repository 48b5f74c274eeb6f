package deploy

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	// gathering is how long a read waits for others to go with it.
	gathering = 200 * time.Millisecond
	// mostServices and mostDeployments are how many one call describes.
	// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html
	mostServices, mostDeployments = 10, 20
	// taskLooks is how many followers may look at their tasks at each early look
	// without need.
	taskLooks = 10
)

// Shared is what the Clients of several services in one account and region have
// in common, so that together they keep to ECS's rates: they look at the same
// moments, what they read goes into calls for many, and calls wait for their
// turn rather than be refused. Its zero value is ready; it is safe for
// concurrent use.
type Shared struct {
	services    gatherer[describedService]
	deployments gatherer[*ecstypes.ServiceDeployment]
	pace        pacer

	mu       sync.Mutex
	begin    time.Time
	followed int
}

// follow counts one more deployment that is followed, until done is called.
func (s *Shared) follow() (done func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	s.followed++
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.followed--
		s.mu.Unlock()
	}
}

// everyTasks is at which looks tasks are looked at without need.
func (s *Shared) everyTasks() int {
	if s == nil {
		return everyTasks
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(everyTasks, s.followed/taskLooks)
}

// next is how long it is to the next of the moments at which all look.
func (s *Shared) next(every time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begin.IsZero() {
		s.begin = time.Now()
	}
	return every - time.Since(s.begin)%every
}

// paced makes every call wait for its turn.
func (s *Shared) paced(client aws.HTTPClient) aws.HTTPClient {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	return pacedClient{client, &s.pace}
}

type pacedClient struct {
	inner aws.HTTPClient
	pace  *pacer
}

// Do implements aws.HTTPClient.
func (p pacedClient) Do(req *http.Request) (*http.Response, error) {
	if _, action, ours := strings.Cut(req.Header.Get("X-Amz-Target"), "AmazonEC2ContainerServiceV20141113."); ours {
		if err := p.pace.wait(req.Context(), action); err != nil {
			return nil, err
		}
	}
	return p.inner.Do(req)
}

// describedService is one service in an answer for many: it, or why not.
type describedService struct {
	service *ecstypes.Service
	failure *ecstypes.Failure
}

// describeTogether is DescribeServices for this service and for others whose
// Clients ask at the same moment.
func (c *Client) describeTogether(ctx context.Context) (*ecs.DescribeServicesOutput, error) {
	call := func(ctx context.Context, names []string) (map[string]describedService, error) {
		in := &ecs.DescribeServicesInput{Services: names}
		if c.cluster != "" {
			in.Cluster = aws.String(c.cluster)
		}
		out, err := c.ecs.DescribeServices(ctx, in)
		if err != nil {
			return nil, err
		}
		found := map[string]describedService{}
		for i := range out.Services {
			found[aws.ToString(out.Services[i].ServiceName)] = describedService{service: &out.Services[i]}
		}
		for i := range out.Failures {
			found[lastPart(aws.ToString(out.Failures[i].Arn))] = describedService{failure: &out.Failures[i]}
		}
		return found, nil
	}
	one, err := c.opts.Shared.services.ask(ctx, mostServices, c.cluster, c.serviceName(), call)
	if err != nil {
		return nil, err
	}
	out := &ecs.DescribeServicesOutput{}
	if one.service != nil {
		out.Services = append(out.Services, *one.service)
	}
	if one.failure != nil {
		out.Failures = append(out.Failures, *one.failure)
	}
	return out, nil
}

// serviceDeploymentTogether is DescribeServiceDeployments for this service and
// for others.
func (c *Client) serviceDeploymentTogether(ctx context.Context, arn string) (*ecs.DescribeServiceDeploymentsOutput, error) {
	call := func(ctx context.Context, arns []string) (map[string]*ecstypes.ServiceDeployment, error) {
		out, err := c.ecs.DescribeServiceDeployments(ctx, &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: arns})
		if err != nil {
			return nil, err
		}
		found := map[string]*ecstypes.ServiceDeployment{}
		for i := range out.ServiceDeployments {
			found[aws.ToString(out.ServiceDeployments[i].ServiceDeploymentArn)] = &out.ServiceDeployments[i]
		}
		return found, nil
	}
	one, err := c.opts.Shared.deployments.ask(ctx, mostDeployments, "", arn, call)
	if err != nil {
		return nil, err
	}
	out := &ecs.DescribeServiceDeploymentsOutput{}
	if one != nil {
		out.ServiceDeployments = append(out.ServiceDeployments, *one)
	}
	return out, nil
}

// gatherer puts questions about single things together into calls about many.
// The first to ask makes the call, for all that ask until then.
type gatherer[T any] struct {
	mu   sync.Mutex
	open map[string]*gathered[T]
}

type gathered[T any] struct {
	keys       []string
	full, done chan struct{}
	answers    map[string]T
	err        error
	// left: whoever was to ask has gone away.
	left bool
}

// ask gives the answer about key in a call that is made after this moment. Only
// what is of the same group goes together, at most so many.
func (g *gatherer[T]) ask(ctx context.Context, most int, group, key string, call func(context.Context, []string) (map[string]T, error)) (T, error) {
	for {
		one, first := g.join(most, group, key)
		if first {
			g.lead(ctx, group, one, call)
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
		switch {
		case one.left && ctx.Err() == nil:
			continue
		case one.err != nil && len(one.keys) > 1 && !isThrottled(one.err) && ctx.Err() == nil:
			// It may be about another one than ours.
			alone, err := call(ctx, []string{key})
			return alone[key], err
		}
		return one.answers[key], one.err
	}
}

// join adds a key to what is gathered, and says whether it is the first.
func (g *gatherer[T]) join(most int, group, key string) (one *gathered[T], first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one = g.open[group]
	if one == nil {
		if g.open == nil {
			g.open = map[string]*gathered[T]{}
		}
		one, first = &gathered[T]{full: make(chan struct{}), done: make(chan struct{})}, true
		g.open[group] = one
	}
	if !slices.Contains(one.keys, key) {
		one.keys = append(one.keys, key)
	}
	if len(one.keys) == most {
		delete(g.open, group)
		close(one.full)
	}
	return one, first
}

// lead waits for others, and makes the call.
func (g *gatherer[T]) lead(ctx context.Context, group string, one *gathered[T], call func(context.Context, []string) (map[string]T, error)) {
	defer close(one.done)
	timer := time.NewTimer(gathering)
	defer timer.Stop()
	select {
	case <-one.full:
	case <-timer.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	if g.open[group] == one {
		delete(g.open, group)
	}
	g.mu.Unlock()
	if ctx.Err() == nil {
		one.answers, one.err = call(ctx, one.keys)
	}
	one.left = ctx.Err() != nil
}
