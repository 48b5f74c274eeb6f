package deploy

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// mostInstances is how many of a cluster's instances are looked at, which one
// call describes.
const mostInstances = 100

// Architectures gives the CPU architectures of the cluster's active container
// instances, in the words of runtimePlatform, sorted: ARM64, X86_64. There are
// none in a cluster of Fargate. The error is ECS's own.
func (c *Client) Architectures(ctx context.Context) ([]string, error) {
	cluster := aws.String(c.clusterName())
	listed, err := c.ecs.ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{
		Cluster: cluster, Status: ecstypes.ContainerInstanceStatusActive, MaxResults: aws.Int32(mostInstances),
	})
	if err != nil || len(listed.ContainerInstanceArns) == 0 {
		return nil, err
	}
	described, err := c.ecs.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{
		Cluster: cluster, ContainerInstances: listed.ContainerInstanceArns,
	})
	if err != nil {
		return nil, err
	}
	words := map[string]string{"x86_64": "X86_64", "arm64": "ARM64"}
	var found []string
	for _, one := range described.ContainerInstances {
		for _, a := range one.Attributes {
			word := words[aws.ToString(a.Value)]
			if aws.ToString(a.Name) == "ecs.cpu-architecture" && word != "" && !slices.Contains(found, word) {
				found = append(found, word)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}
