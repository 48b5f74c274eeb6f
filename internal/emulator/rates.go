package emulator

import (
	"strings"
	"time"
)

// tokens is what is left of a bucket of ECS's API.
type tokens struct {
	left float64
	at   time.Time
}

// rate gives a call's kind, how many calls of the kind the account may make at
// once, and how many more each second.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
func rate(action string) (kind string, burst, refill float64) {
	kinds := []struct {
		kind          string
		burst, refill float64
		actions       string
	}{
		{"task definition modify", 20, 1, "RegisterTaskDefinition DeregisterTaskDefinition"},
		{"task definition read", 50, 20, "DescribeTaskDefinition ListTaskDefinitions ListTaskDefinitionFamilies"},
		{"service modify", 50, 5, "CreateService UpdateService DeleteService"},
		{"service read", 100, 20, "DescribeServices ListServices"},
		{"service deployments", 50, 20, "ListServiceDeployments DescribeServiceDeployments"},
		{"service revisions", 50, 20, "DescribeServiceRevisions"},
		{"cluster resource read", 100, 20, "ListTasks DescribeTasks ListContainerInstances DescribeContainerInstances"},
		{"cluster resource modify", 100, 40, "RunTask StopTask"},
		{"cluster read", 50, 20, "ListClusters DescribeClusters"},
	}
	for _, k := range kinds {
		for name := range strings.FieldsSeq(k.actions) {
			if name == action {
				return k.kind, k.burst, k.refill
			}
		}
	}
	return "", 0, 0
}

// crowded says whether the account has used up the rate of a call's kind, and
// counts the call if it has not. c.mu is held.
func (c *Cloud) crowded(action string, now time.Time) bool {
	kind, burst, refill := rate(action)
	if !c.opts.Rates || kind == "" {
		return false
	}
	b := c.buckets[kind]
	if b == nil {
		b = &tokens{left: burst, at: now}
		c.buckets[kind] = b
	}
	b.left = min(b.left+now.Sub(b.at).Seconds()*refill, burst)
	b.at = now
	if b.left < 1 {
		return true
	}
	b.left--
	return false
}
