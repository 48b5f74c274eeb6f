package emulator

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

const balancerNamespace = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"

// serveBalancers answers Elastic Load Balancing, of which it has what a
// deployment reads: the health of targets.
func (c *Cloud) serveBalancers(w http.ResponseWriter, r *http.Request) {
	c.exchangeQuery(w, r, "elasticloadbalancing", "", func(w http.ResponseWriter, q *request, form url.Values) error {
		if err := c.authorize(q, q.service, operation{}); err != nil {
			return err
		}
		if q.action != "DescribeTargetHealth" {
			return refuse("InvalidAction", "Could not find operation %s for version 2015-12-01", q.action)
		}
		c.ecs.catchUp(q.now)
		states, known := c.targetHealth(form.Get("TargetGroupArn"))
		if !known {
			return refuse("TargetGroupNotFound", "One or more target groups not found")
		}
		return writeQueryResult(w, balancerNamespace, q.action, states)
	})
}

// targetState is one target of a target group.
// https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealthDescription.html
type targetState struct {
	ID          string `xml:"Target>Id"`
	Port        int    `xml:"Target>Port"`
	State       string `xml:"TargetHealth>State"`
	Reason      string `xml:"TargetHealth>Reason,omitempty"`
	Description string `xml:"TargetHealth>Description,omitempty"`
}

type targetStates struct {
	Members []targetState `xml:"TargetHealthDescriptions>member"`
}

// targetHealth is the health of the running tasks behind a target group, which is
// known when a service has it.
func (c *Cloud) targetHealth(group string) (out targetStates, known bool) {
	for _, name := range slices.Sorted(maps.Keys(c.ecs.clusters)) {
		services := c.ecs.clusters[name].services
		for _, service := range slices.Sorted(maps.Keys(services)) {
			s := services[service]
			for _, lb := range s.loadBalancers() {
				known = known || lb.TargetGroupArn == group
				for _, t := range s.tasks {
					if lb.TargetGroupArn == group && t.lastStatus == "RUNNING" {
						out.Members = append(out.Members, t.target(lb.ContainerPort))
					}
				}
			}
		}
	}
	return out, known
}

// target is the load balancer's view of a running task.
func (t *task) target(port int) targetState {
	state := targetState{ID: "10.0.0." + digits(t.id, 2), Port: port}
	switch {
	case t.good:
		state.State = "healthy"
	case t.behaviour.Health == Passing:
		state.State, state.Reason, state.Description = "initial", "Elb.RegistrationInProgress", "Target registration is in progress"
	default:
		state.State, state.Reason, state.Description = "unhealthy", "Target.FailedHealthChecks", t.unhealthy()
	}
	return state
}

// unhealthy is what the load balancer says of the task's health checks.
func (t *task) unhealthy() string {
	return cmp.Or(t.behaviour.Unhealthy, "Health checks failed")
}
