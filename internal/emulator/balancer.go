package emulator

import (
	"cmp"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const balancerNamespace = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"

// serveBalancers answers Elastic Load Balancing, of which it has what a
// deployment reads: the health of targets.
func (c *Cloud) serveBalancers(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	form, formErr := url.ParseQuery(string(body))
	call := &Call{Service: "elasticloadbalancing", Action: form.Get("Action"), Request: body, Time: time.Now()}
	c.exchange(w, r, call, writeQueryError, func(w http.ResponseWriter, f *Fault) error {
		if err != nil || formErr != nil {
			return refuse("MalformedQueryString", "Keys may not contain blanks")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		who, err := c.authenticate(r, body, call.Service)
		if err != nil {
			return err
		}
		call.AccessKey, call.Principal = who.accessKey, who.arn
		q := &request{who: who, service: call.Service, action: call.Action, now: call.Time}
		if err := f.refusal(q, call.Service); err != nil {
			return err
		}
		if err := c.authorize(q, call.Service, operation{}); err != nil {
			return err
		}
		if call.Action != "DescribeTargetHealth" {
			return refuse("InvalidAction", "Could not find operation %s for version 2015-12-01", call.Action)
		}
		c.ecs.catchUp(q.now)
		return writeQueryResult(w, balancerNamespace, call.Action, c.targetHealth(form.Get("TargetGroupArn")))
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

// targetHealth is the health of the running tasks behind a target group.
func (c *Cloud) targetHealth(group string) targetStates {
	var out targetStates
	for _, name := range slices.Sorted(maps.Keys(c.ecs.clusters)) {
		services := c.ecs.clusters[name].services
		for _, service := range slices.Sorted(maps.Keys(services)) {
			s := services[service]
			for _, lb := range s.loadBalancers() {
				for _, t := range s.tasks {
					if lb.TargetGroupArn == group && t.lastStatus == "RUNNING" {
						out.Members = append(out.Members, t.target(lb.ContainerPort))
					}
				}
			}
		}
	}
	return out
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
