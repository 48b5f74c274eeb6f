package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// targetWatch asks the load balancer why it finds targets unhealthy. ECS gives
// its words only once it stops a task, and until the grace period has passed it
// stops none.
type targetWatch struct {
	c *Client
	// said is what the load balancer said of one unhealthy target, as a service
	// event would have it, or empty.
	said string
}

// look asks for the health of a service's targets, unless it is known why one
// of them is unhealthy. What cannot be read is asked for at the next look.
func (w *targetWatch) look(ctx context.Context, s *ecstypes.Service) {
	for _, group := range targetGroups(s) {
		if w.said != "" {
			return
		}
		var out *elb.DescribeTargetHealthOutput
		ok, _ := w.c.spare(ctx, "elasticloadbalancing:DescribeTargetHealth", "why the load balancer finds tasks unhealthy is not shown", func() (err error) {
			out, err = w.c.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(group)})
			return err
		})
		if !ok {
			continue
		}
		for _, target := range out.TargetHealthDescriptions {
			if words := unhealthyWords(target); words != "" {
				w.said = fmt.Sprintf("target %s is unhealthy in (target-group %s) due to (reason %s)", targetName(target.Target), group, words)
			}
		}
	}
}

// unhealthyWords are the load balancer's own, or empty for a target that is not
// unhealthy. The description has the status that the container answered with.
// https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
func unhealthyWords(t elbtypes.TargetHealthDescription) string {
	if t.TargetHealth == nil || t.TargetHealth.State != elbtypes.TargetHealthStateEnumUnhealthy {
		return ""
	}
	return firstOf(aws.ToString(t.TargetHealth.Description), string(t.TargetHealth.Reason), "no reason given")
}

func targetName(t *elbtypes.TargetDescription) string {
	if t == nil {
		return "unknown"
	}
	if t.Port == nil {
		return aws.ToString(t.Id)
	}
	return fmt.Sprintf("%s:%d", aws.ToString(t.Id), *t.Port)
}

// targetGroups are those in which the service's tasks are registered.
func targetGroups(s *ecstypes.Service) []string {
	if s == nil {
		return nil
	}
	balancers := slices.Clone(s.LoadBalancers)
	for _, set := range s.TaskSets {
		balancers = append(balancers, set.LoadBalancers...)
	}
	var groups []string
	for _, b := range balancers {
		groups = append(groups, aws.ToString(b.TargetGroupArn))
		if b.AdvancedConfiguration != nil {
			groups = append(groups, aws.ToString(b.AdvancedConfiguration.AlternateTargetGroupArn))
		}
	}
	groups = slices.DeleteFunc(groups, func(arn string) bool { return arn == "" })
	slices.Sort(groups)
	return slices.Compact(groups)
}

// blamesBalancer says whether a task failed the load balancer's health checks,
// and nobody has said yet how.
func (w *taskWatch) blamesBalancer() bool {
	return slices.ContainsFunc(w.failed, func(f TaskFailed) bool { return w.explainOne(f).summary == balancer })
}

// explainTarget puts the load balancer's words into ours.
func (w *taskWatch) explainTarget() (explanation, bool) {
	if w.targets.said == "" {
		return explanation{}, false
	}
	e, known := explainText(w.table, w.targets.said)
	return e, known && strings.HasPrefix(e.summary, balancer)
}
