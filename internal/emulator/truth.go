package emulator

import "time"

// Truth is a service deployment as it is, whatever a caller has been told: for
// tests that compare.
type Truth struct {
	// ARN is the service deployment's, DeploymentID is ecs-svc/N.
	ARN, DeploymentID string
	// TaskDefinition is the ARN of what it rolls out.
	TaskDefinition string
	// Status is as in DescribeServiceDeployments.
	Status string
	// Created and Finished are its times; Finished is zero while it goes on.
	Created, Finished time.Time
	// Weight is the share of the production traffic on its tasks, in percent.
	Weight float64
}

// Deployments lists the service deployments of a service, oldest first. It is
// no call: nothing is recorded, and no fault applies.
func (c *Cloud) Deployments(cluster, service string) []Truth {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ecs.catchUp(now)
	cl := c.ecs.clusters[cluster]
	if cl == nil || cl.services[service] == nil {
		return nil
	}
	var all []Truth
	for _, r := range cl.services[service].history {
		one := Truth{
			ARN: r.arn, DeploymentID: r.target.id, TaskDefinition: r.target.def.arn, Status: r.status, Created: r.created, Finished: r.finished,
		}
		if r.target.shift != nil {
			one.Weight = r.target.shift.production
		}
		all = append(all, one)
	}
	return all
}
