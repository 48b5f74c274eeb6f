package emulator

import (
	"slices"
	"strings"
)

// instance is a container instance of a cluster.
type instance struct{ arn, architecture string }

// AddInstance registers a container instance with a cluster, which is made when
// missing. The architecture is in ECS's words: x86_64 or arm64.
func (c *Cloud) AddInstance(cluster, architecture string) (arn string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.addCluster(cluster)
	arn = c.arn("ecs", "container-instance/"+cl.name+"/"+c.unique("instance")[:32])
	c.instances[cl.name] = append(c.instances[cl.name], instance{arn, architecture})
	return arn
}

func (c *Cloud) instanceOperations() map[string]operation {
	return map[string]operation{
		"ListContainerInstances":     {resource: c.clusterResource, serve: c.listInstances},
		"DescribeContainerInstances": {resource: c.instanceResource, serve: c.describeInstances},
	}
}

func (c *Cloud) clusterResource(q *request) string {
	return c.arn("ecs", "cluster/"+lastSegment(q.member("cluster")))
}

func (c *Cloud) instanceResource(q *request) string {
	return c.arn("ecs", "container-instance/"+lastSegment(q.member("cluster"))+"/*")
}

func (c *Cloud) listInstances(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	arns := []string{}
	for _, one := range c.instances[cl.name] {
		arns = append(arns, one.arn)
	}
	return map[string]any{"containerInstanceArns": arns}, nil
}

func (c *Cloud) describeInstances(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	var in struct{ ContainerInstances []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	found := []any{}
	for _, one := range c.instances[cl.name] {
		if slices.ContainsFunc(in.ContainerInstances, func(id string) bool { return strings.HasSuffix(one.arn, lastSegment(id)) }) {
			found = append(found, map[string]any{
				"containerInstanceArn": one.arn, "status": "ACTIVE", "agentConnected": true,
				"attributes": []any{
					map[string]any{"name": "ecs.cpu-architecture", "value": one.architecture},
					map[string]any{"name": "ecs.os-type", "value": "linux"},
				},
			})
		}
	}
	return map[string]any{"containerInstances": found, "failures": []any{}}, nil
}
