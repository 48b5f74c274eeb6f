package deploy

import (
	"fmt"
	"net/url"
	"strings"
)

// lastPart gives what stands behind the last slash: the short form of the
// names and ARNs of clusters, services, tasks and service deployments.
func lastPart(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

// clusterOf gives the cluster in a service's long ARN
// (arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/SERVICE), or empty.
func clusterOf(service string) string {
	_, path, found := strings.Cut(service, ":service/")
	if !found {
		return ""
	}
	cluster, _, found := strings.Cut(path, "/")
	if !found {
		return "" // the short form, which names no cluster
	}
	return cluster
}

// clusterName is the cluster as people call it. ECS's own default is "default".
func (c *Client) clusterName() string {
	if c.cluster == "" {
		return "default"
	}
	return lastPart(c.cluster)
}

func (c *Client) serviceName() string { return lastPart(c.opts.Service) }

// consoleURL shows the deployment, or all deployments of the service while the
// service deployment is not known.
func (c *Client) consoleURL(serviceARN, deploymentARN string) string {
	host, region := consoleOf(serviceARN)
	if host == "" {
		return ""
	}
	page := fmt.Sprintf("https://%s.%s/ecs/v2/clusters/%s/services/%s/deployments", region, host,
		url.PathEscape(c.clusterName()), url.PathEscape(c.serviceName()))
	if deploymentARN != "" {
		page += "/" + url.PathEscape(lastPart(deploymentARN))
	}
	return page + "?region=" + url.QueryEscape(region)
}

// taskURL shows a task.
func (c *Client) taskURL(arn string) string {
	host, region := consoleOf(arn)
	if host == "" {
		return ""
	}
	return fmt.Sprintf("https://%s.%s/ecs/v2/clusters/%s/tasks/%s?region=%s", region, host,
		url.PathEscape(c.clusterName()), url.PathEscape(lastPart(arn)), url.QueryEscape(region))
}

// consoleOf gives the console's host for an ARN's partition, and its region; empty
// where it is not known.
func consoleOf(arn string) (host, region string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return "", ""
	}
	hosts := map[string]string{
		"aws":        "console.aws.amazon.com",
		"aws-cn":     "console.amazonaws.cn",
		"aws-us-gov": "console.amazonaws-us-gov.com",
	}
	return hosts[parts[1]], parts[3]
}

// stopCommand is what a person types to stop the deployment and go back.
func (c *Client) stopCommand(d *deployment) string {
	region := c.regionFlag()
	switch {
	case d.arn != "":
		return fmt.Sprintf("aws ecs stop-service-deployment%s --service-deployment-arn %s --stop-type ROLLBACK", region, d.arn)
	case d.previous != "":
		return c.updateCommand(d.previous)
	default:
		return fmt.Sprintf("aws ecs update-service%s --cluster %s --service %s --desired-count 0",
			region, c.clusterName(), c.serviceName())
	}
}

// updateCommand is what a person types to put the service on a task definition.
func (c *Client) updateCommand(taskDefinition string) string {
	return fmt.Sprintf("aws ecs update-service%s --cluster %s --service %s --task-definition %s",
		c.regionFlag(), c.clusterName(), c.serviceName(), lastPart(taskDefinition))
}

func (c *Client) regionFlag() string {
	if c.opts.Config.Region == "" {
		return ""
	}
	return " --region " + c.opts.Config.Region
}

// describeCommand is what a person types to look at the service.
func (c *Client) describeCommand() string {
	return fmt.Sprintf("aws ecs describe-services%s --cluster %s --services %s", c.regionFlag(), c.clusterName(), c.serviceName())
}
