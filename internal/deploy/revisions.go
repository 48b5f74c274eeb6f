package deploy

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// mostDropped is how many revisions are deregistered in one run: ECS allows one
// a second, shared with everything that registers.
const mostDropped = 50

// lossOfRevisions is what is missing without the reads of KeepRevisions.
const lossOfRevisions = "no revision is deregistered, since it cannot be known which ones services run"

// KeepRevisions deregisters the revisions of a family but the newest keep ones,
// those in spare, and those that a service of the region runs, is being moved
// from or to, or would roll back to: at most 50, the oldest first. Tasks that run
// from a revision go on without it. What may not be read or done is told by a
// Notice, and is no error.
func (c *Client) KeepRevisions(ctx context.Context, family string, keep int, spare ...string) error {
	arns, err := c.revisions(ctx, family)
	if err != nil || len(arns) <= keep {
		return err
	}
	used, known, err := c.inUse(ctx)
	if err != nil || !known {
		return err
	}
	older := slices.DeleteFunc(arns[keep:], func(arn string) bool { return used[arn] || slices.Contains(spare, arn) })
	slices.Reverse(older)
	told := Deregistered{Left: max(0, len(older)-mostDropped)}
	for _, arn := range older[:min(mostDropped, len(older))] {
		ok, err := c.spare(ctx, "ecs:DeregisterTaskDefinition", "older revisions stay registered", func() error {
			_, err := c.ecs.DeregisterTaskDefinition(ctx, &ecs.DeregisterTaskDefinitionInput{TaskDefinition: aws.String(arn)})
			return err
		})
		if err != nil {
			c.emit(told)
			return fmt.Errorf("deregister %s: %w", lastPart(arn), err)
		}
		if !ok {
			return nil
		}
		told.ARNs = append(told.ARNs, arn)
	}
	c.emit(told)
	return nil
}

// revisions lists a family's active revisions, the newest first; none where they
// may not be listed.
func (c *Client) revisions(ctx context.Context, family string) ([]string, error) {
	var all []string
	in := &ecs.ListTaskDefinitionsInput{FamilyPrefix: aws.String(family), Status: ecstypes.TaskDefinitionStatusActive, Sort: ecstypes.SortOrderDesc}
	for {
		var out *ecs.ListTaskDefinitionsOutput
		ok, err := c.spare(ctx, "ecs:ListTaskDefinitions", "older revisions stay registered", func() (err error) {
			out, err = c.ecs.ListTaskDefinitions(ctx, in)
			return err
		})
		if !ok {
			return nil, err
		}
		all = append(all, out.TaskDefinitionArns...)
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// inUse finds the task definitions of every service in the region; known is false
// where some of them may not be read.
func (c *Client) inUse(ctx context.Context) (used map[string]bool, known bool, err error) {
	used = map[string]bool{}
	clusters := &ecs.ListClustersInput{}
	for {
		var out *ecs.ListClustersOutput
		ok, err := c.spare(ctx, "ecs:ListClusters", lossOfRevisions, func() (err error) {
			out, err = c.ecs.ListClusters(ctx, clusters)
			return err
		})
		if !ok {
			return nil, false, err
		}
		for _, cluster := range out.ClusterArns {
			if ok, err := c.usedIn(ctx, cluster, used); !ok {
				return nil, false, err
			}
		}
		if clusters.NextToken = out.NextToken; aws.ToString(clusters.NextToken) == "" {
			return used, true, nil
		}
	}
}

// usedIn adds the task definitions of a cluster's services.
func (c *Client) usedIn(ctx context.Context, cluster string, used map[string]bool) (known bool, err error) {
	const batch = 10
	in := &ecs.ListServicesInput{Cluster: aws.String(cluster), MaxResults: aws.Int32(100)}
	for {
		var listed *ecs.ListServicesOutput
		ok, err := c.spare(ctx, "ecs:ListServices", lossOfRevisions, func() (err error) {
			listed, err = c.ecs.ListServices(ctx, in)
			return err
		})
		if !ok {
			return false, err
		}
		for some := range slices.Chunk(listed.ServiceArns, batch) {
			var out *ecs.DescribeServicesOutput
			ok, err := c.spare(ctx, "ecs:DescribeServices", lossOfRevisions, func() (err error) {
				out, err = c.ecs.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: aws.String(cluster), Services: some})
				return err
			})
			if !ok {
				return false, err
			}
			for _, s := range out.Services {
				if ok, err := c.usedBy(ctx, cluster, s, used); !ok {
					return false, err
				}
			}
		}
		if in.NextToken = listed.NextToken; aws.ToString(in.NextToken) == "" {
			return true, nil
		}
	}
}

// usedBy adds what a service runs and, while it is on its way, what it would roll
// back to: the last deployment that succeeded, whose tasks may be gone already.
func (c *Client) usedBy(ctx context.Context, cluster string, s ecstypes.Service, used map[string]bool) (known bool, err error) {
	used[aws.ToString(s.TaskDefinition)] = true
	settled := true
	for _, d := range s.Deployments {
		used[aws.ToString(d.TaskDefinition)] = true
		settled = settled && d.RolloutState != ecstypes.DeploymentRolloutStateInProgress
	}
	for _, set := range s.TaskSets {
		used[aws.ToString(set.TaskDefinition)] = true
	}
	if settled {
		return true, nil
	}
	var listed *ecs.ListServiceDeploymentsOutput
	ok, err := c.spare(ctx, "ecs:ListServiceDeployments", lossOfRevisions, func() (err error) {
		listed, err = c.ecs.ListServiceDeployments(ctx, &ecs.ListServiceDeploymentsInput{
			Cluster: aws.String(cluster), Service: s.ServiceArn, Status: []ecstypes.ServiceDeploymentStatus{ecstypes.ServiceDeploymentStatusSuccessful},
		})
		return err
	})
	if !ok {
		return false, err
	}
	last := ecstypes.ServiceDeploymentBrief{}
	for _, d := range listed.ServiceDeployments {
		if aws.ToTime(d.CreatedAt).After(aws.ToTime(last.CreatedAt)) {
			last = d
		}
	}
	runs, err := c.revisionRuns(ctx, aws.ToString(last.TargetServiceRevisionArn))
	used[runs] = true
	return err == nil && !c.denied["ecs:DescribeServiceRevisions"], err
}
