package deploy

import (
	"context"
	"strings"
	"sync"
	"time"
)

// rate is a token bucket of ECS's API: so many calls at once, and so many more
// each second. All calls of a kind share it, in the whole account and region.
type rate struct {
	kind          string
	burst, refill float64
}

// rateOf is the bucket that a call of ECS's API is taken from.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
func rateOf(action string) rate {
	switch action {
	case "RegisterTaskDefinition", "DeregisterTaskDefinition":
		return rate{"task definition modify", 20, 1}
	case "DescribeTaskDefinition", "ListTaskDefinitions", "ListTaskDefinitionFamilies":
		return rate{"task definition read", 50, 20}
	case "UpdateService":
		return rate{"service modify", 50, 5}
	case "DescribeServices", "ListServices":
		return rate{"service read", 100, 20}
	case "ListServiceDeployments", "DescribeServiceDeployments":
		return rate{"service deployments", 50, 20}
	case "DescribeServiceRevisions":
		return rate{"service revisions", 50, 20}
	case "RunTask", "StopTask":
		return rate{"cluster resource modify", 100, 40}
	}
	if strings.HasPrefix(action, "Describe") || strings.HasPrefix(action, "List") {
		return rate{"cluster resource read", 100, 20}
	}
	return rate{"other", 20, 1}
}

// ours is the share of a bucket that one step takes: others use the account too.
const ours = 0.75

// pacer lets calls through as ECS would, and has the others wait.
type pacer struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// wait waits for a call's turn, or for ctx to end, and gives its cause then.
func (p *pacer) wait(ctx context.Context, action string) error {
	delay := p.take(rateOf(action), time.Now())
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take takes a token, and says how long it is until it is there.
func (p *pacer) take(r rate, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.buckets == nil {
		p.buckets = map[string]*bucket{}
	}
	b := p.buckets[r.kind]
	if b == nil {
		b = &bucket{tokens: r.burst * ours, at: now}
		p.buckets[r.kind] = b
	}
	b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*r.refill*ours, r.burst*ours) - 1
	b.at = now
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / (r.refill * ours) * float64(time.Second))
}
