package emulator

import (
	"cmp"
	"encoding/json"
	"strings"
)

// authorize checks everything that a call of a JSON API needs to be allowed.
func (c *Cloud) authorize(q *request, service string, op operation) error {
	for _, a := range c.accesses(q, service, op) {
		if err := c.check(q.who, a); err != nil {
			return err
		}
	}
	return nil
}

// accesses are the accesses of a call: the resources and condition keys that
// the Service Authorization Reference lists for its action.
// https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
func (c *Cloud) accesses(q *request, service string, op operation) []access {
	on := func(resources ...string) []access {
		all := make([]access, 0, len(resources))
		for _, resource := range resources {
			all = append(all, access{action: service + ":" + q.action, resource: resource})
		}
		return all
	}
	switch service {
	case "ecs":
		return c.ecsAccesses(q, op, on)
	case "ecr", "ecr-public":
		return c.repositoryAccesses(q, on)
	}
	if op.resource == nil {
		return on("*")
	}
	return on(op.resource(q))
}

// ecsAccesses are those of ECS, nearly all of whose actions know ecs:cluster.
func (c *Cloud) ecsAccesses(q *request, op operation, on func(...string) []access) []access {
	var in struct {
		Services, Tasks, Clusters, ServiceDeploymentArns, ServiceRevisionArns []string

		Cluster, Service, Task, TaskDefinition, ServiceDeploymentArn string
	}
	if json.Unmarshal(q.body, &in) != nil {
		return on("*")
	}
	cluster := lastSegment(cmp.Or(in.Cluster, "default"))
	var all []access
	switch q.action {
	case "DescribeServices":
		for _, name := range in.Services {
			all = append(all, on(c.arn("ecs", "service/"+cluster+"/"+lastSegment(name)))...)
		}
	case "DescribeTasks":
		for _, task := range in.Tasks {
			all = append(all, on(c.arn("ecs", "task/"+cluster+"/"+lastSegment(task)))...)
		}
	case "StopTask":
		all = on(c.arn("ecs", "task/"+cluster+"/"+lastSegment(in.Task)))
	case "DescribeClusters":
		for _, name := range in.Clusters {
			all = append(all, on(c.arn("ecs", "cluster/"+lastSegment(name)))...)
		}
		return all
	case "ListTasks":
		all = on(c.arn("ecs", "container-instance/"+cluster+"/*"))
	case "DescribeServiceDeployments":
		return c.ofService(on, "service-deployment", in.ServiceDeploymentArns...)
	case "StopServiceDeployment", "ContinueServiceDeployment":
		return c.ofService(on, "service-deployment", in.ServiceDeploymentArn)
	case "DescribeServiceRevisions":
		return c.ofService(on, "service-revision", in.ServiceRevisionArns...)
	case "RunTask":
		family, _, _ := strings.Cut(lastSegment(in.TaskDefinition), ":")
		all = on(c.arn("ecs", "task-definition/"+family+":*"))
		if def, err := c.findDefinition(in.TaskDefinition); err == nil {
			all = on(def.arn)
		}
	default:
		if op.resource == nil {
			all = on("*")
		} else {
			all = on(op.resource(q))
		}
	}
	for i := range all {
		all[i] = all[i].with("ecs:cluster", c.arn("ecs", "cluster/"+cluster))
	}
	return all
}

// ofService are the accesses to parts of a service, for which the service is
// looked at too: ARN is .../KIND/CLUSTER/SERVICE/ID.
func (c *Cloud) ofService(on func(...string) []access, kind string, arns ...string) []access {
	var all []access
	for _, arn := range arns {
		_, path, _ := strings.Cut(arn, ":"+kind+"/")
		parts := strings.Split(path, "/")
		if len(parts) != 3 {
			all = append(all, on(arn)...)
			continue
		}
		service := c.arn("ecs", "service/"+parts[0]+"/"+parts[1])
		for _, a := range on(arn, service) {
			all = append(all, a.with("ecs:cluster", c.arn("ecs", "cluster/"+parts[0]), "ecs:service", service))
		}
	}
	return all
}
