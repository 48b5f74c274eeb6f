package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// updatable are UpdateService's members that are kept as they are sent.
// Those mapped to true start a deployment.
func updatable() map[string]bool {
	return map[string]bool{
		"availabilityZoneRebalancing": false, "capacityProviderStrategy": false, "deploymentConfiguration": false,
		"deploymentController": false, "enableECSManagedTags": false, "enableExecuteCommand": false,
		"gatewayConnectors": false, "healthCheckGracePeriodSeconds": false, "monitoring": false,
		"placementConstraints": false, "placementStrategy": false, "propagateTags": false,
		"platformVersion": true, "networkConfiguration": true, "loadBalancers": true, "serviceRegistries": true,
		"serviceConnectConfiguration": true, "volumeConfigurations": true, "vpcLatticeConfigurations": true,
	}
}

func (c *Cloud) updateService(q *request) (any, error) {
	s, err := c.service(q)
	if err != nil {
		return nil, err
	}
	var in struct {
		TaskDefinition     string
		DesiredCount       *int
		ForceNewDeployment bool
	}
	var members map[string]json.RawMessage
	if err = errors.Join(q.into(&in), q.into(&members)); err != nil {
		return nil, err
	}
	if err = q.passVolumeRoles(); err != nil {
		return nil, err
	}
	if s.status() != "ACTIVE" {
		return nil, refuse("ServiceNotActiveException", "Service was not ACTIVE.")
	}
	def, err := c.updatedDefinition(s, in.TaskDefinition)
	if err != nil {
		return nil, err
	}
	if in.DesiredCount != nil && *in.DesiredCount < 0 {
		return nil, refuse("InvalidParameterException", "Desired count cannot be negative.")
	}
	triggered := def != s.deployments[0].def || in.ForceNewDeployment
	changes, err := s.changes(members)
	if err != nil {
		return nil, err
	}
	if raw, set := changes["deploymentConfiguration"]; set {
		balancers := s.settings["loadBalancers"]
		if sent, also := changes["loadBalancers"]; also {
			balancers = sent
		}
		if err := strategyOf(raw, balancers); err != nil {
			return nil, err
		}
	}
	for name, value := range changes {
		triggered = triggered || (updatable()[name] && string(s.settings[name]) != string(value))
		s.settings[name] = value
	}
	if in.DesiredCount != nil {
		s.desired = *in.DesiredCount
	}
	if triggered {
		s.deploy(def, q.now)
	} else {
		s.at(q.now.Add(c.opts.Pace/2), func(time.Time) {})
	}
	return map[string]any{"service": s.json()}, nil
}

// updatedDefinition checks the task definition that an update asks for.
func (c *Cloud) updatedDefinition(s *service, ref string) (*taskDefinition, error) {
	if ref == "" {
		return s.deployments[0].def, nil
	}
	if s.controller() == "CODE_DEPLOY" {
		return nil, refuse("InvalidParameterException", "Unable to update task definition on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a new deployment.")
	}
	def, err := c.findDefinition(ref)
	if err != nil {
		return nil, refuse("ClientException", "TaskDefinition not found.")
	}
	if def.status != "ACTIVE" {
		return nil, refuse("ClientException", "TaskDefinition is inactive")
	}
	return def, nil
}

// changes picks the members to keep; deploymentConfiguration is merged into
// the one that holds.
func (s *service) changes(members map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	known := updatable()
	out := map[string]json.RawMessage{}
	for name, value := range members {
		if _, kept := known[name]; !kept || string(value) == "null" {
			continue
		}
		if name == "deploymentConfiguration" {
			merged := map[string]json.RawMessage{}
			for _, layer := range []json.RawMessage{s.settings[name], value} {
				if err := json.Unmarshal(layer, &merged); err != nil {
					return nil, refuse("SerializationException", "%v", err)
				}
			}
			var err error
			if value, err = json.Marshal(merged); err != nil {
				return nil, err
			}
		}
		out[name] = value
	}
	return out, nil
}

func (c *Cloud) listServiceDeployments(q *request) (any, error) {
	s, err := c.service(q)
	if err != nil {
		return nil, err
	}
	var in struct {
		Status    []string
		CreatedAt struct{ After, Before float64 }
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	out := []any{}
	for _, r := range slices.Backward(s.history) {
		at := float64(r.created.UnixMilli()) / 1000
		if len(in.Status) > 0 && !slices.Contains(in.Status, r.status) ||
			in.CreatedAt.After != 0 && at < in.CreatedAt.After || in.CreatedAt.Before != 0 && at > in.CreatedAt.Before {
			continue
		}
		brief := r.brief(s)
		brief["targetServiceRevisionArn"] = r.target.revision.arn
		out = append(out, brief)
	}
	return map[string]any{"serviceDeployments": out}, nil
}

// brief is what the list and the description share.
func (r *serviceDeployment) brief(s *service) map[string]any {
	out := map[string]any{
		"serviceDeploymentArn": r.arn, "serviceArn": s.arn, "clusterArn": s.cluster.arn,
		"createdAt": epoch(r.created), "status": r.status,
	}
	if r.reason != "" {
		out["statusReason"] = r.reason
	}
	for name, at := range map[string]time.Time{"startedAt": r.started, "finishedAt": r.finished} {
		if !at.IsZero() {
			out[name] = epoch(at)
		}
	}
	return out
}

func (r *serviceDeployment) json(s *service) map[string]any {
	out := r.brief(s)
	out["updatedAt"] = epoch(r.updated)
	if !r.stopped.IsZero() {
		out["stoppedAt"] = epoch(r.stopped)
	}
	summary := func(d *deployment) map[string]any {
		running, pending := s.count(d)
		return map[string]any{
			"arn": d.revision.arn, "requestedTaskCount": s.wanted(d), "runningTaskCount": running, "pendingTaskCount": pending,
		}
	}
	sources := []any{}
	for _, d := range r.sources {
		sources = append(sources, summary(d))
	}
	target := summary(r.target)
	out["sourceServiceRevisions"], out["targetServiceRevision"] = sources, target
	s.shiftJSON(r, target, sources, out)
	out["deploymentConfiguration"] = s.settings["deploymentConfiguration"]
	status := "DISABLED"
	switch {
	case !s.deploymentSettings().DeploymentCircuitBreaker.Enable:
	case r.tripped:
		status = "TRIGGERED"
	case r.over():
		status = "MONITORING_COMPLETE"
	default:
		status = "MONITORING"
	}
	out["deploymentCircuitBreaker"] = map[string]any{"status": status, "failureCount": r.target.failed, "threshold": s.threshold()}
	out["alarms"] = s.alarmsJSON(r)
	if r.rollback != nil {
		back := map[string]any{"reason": r.rollback.reason, "startedAt": epoch(r.rollback.started)}
		if r.rollback.to != nil {
			back["serviceRevisionArn"] = r.rollback.to.revision.arn
		}
		out["rollback"] = back
	}
	return out
}

// record finds a service deployment by its ARN.
func (c *Cloud) findRecord(arn string) (*service, *serviceDeployment) {
	parts := strings.Split(arn, "/")
	if len(parts) != 4 || c.ecs.clusters[parts[1]] == nil {
		return nil, nil
	}
	s := c.ecs.clusters[parts[1]].services[parts[2]]
	if s == nil {
		return nil, nil
	}
	for _, r := range s.history {
		if r.arn == arn {
			return s, r
		}
	}
	return s, nil
}

func (c *Cloud) describeServiceDeployments(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct{ ServiceDeploymentArns []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if n := len(in.ServiceDeploymentArns); n == 0 || n > 20 {
		return nil, refuse("InvalidParameterException", "serviceDeploymentArns must have between 1 and 20 elements.")
	}
	found, failures := []any{}, []any{}
	for _, arn := range in.ServiceDeploymentArns {
		if s, r := c.findRecord(arn); r != nil {
			found = append(found, r.json(s))
		} else {
			failures = append(failures, missing(arn))
		}
	}
	return map[string]any{"serviceDeployments": found, "failures": failures}, nil
}

func (c *Cloud) describeServiceRevisions(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct{ ServiceRevisionArns []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if n := len(in.ServiceRevisionArns); n == 0 || n > 20 {
		return nil, refuse("InvalidParameterException", "serviceRevisionArns must have between 1 and 20 elements.")
	}
	known := map[string]map[string]any{}
	for _, cl := range c.ecs.clusters {
		for _, s := range cl.services {
			for _, r := range s.revisions {
				known[r.arn] = map[string]any{
					"serviceRevisionArn": r.arn, "serviceArn": s.arn, "clusterArn": cl.arn, "taskDefinition": r.def.arn,
					"launchType": "FARGATE", "platformVersion": "1.4.0", "platformFamily": "Linux",
					"containerImages": r.images, "createdAt": epoch(r.created),
				}
			}
		}
	}
	found, failures := []any{}, []any{}
	for _, arn := range in.ServiceRevisionArns {
		if r, exists := known[arn]; exists {
			found = append(found, r)
		} else {
			failures = append(failures, missing(arn))
		}
	}
	return map[string]any{"serviceRevisions": found, "failures": failures}, nil
}

func (c *Cloud) stopServiceDeployment(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct{ ServiceDeploymentArn, StopType string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if in.StopType != "" && in.StopType != "ROLLBACK" {
		return nil, refuse("InvalidParameterException", "The stop type %s is not supported.", in.StopType)
	}
	s, r := c.findRecord(in.ServiceDeploymentArn)
	if r == nil {
		return nil, refuse("ServiceDeploymentNotFoundException", "Service deployment not found.")
	}
	switch r.status {
	case "PENDING", "IN_PROGRESS":
		s.requestRollback(r, q.now)
	case "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS":
	default:
		return nil, refuse("ConflictException", "The service deployment is in the %s state and cannot be stopped.", r.status)
	}
	return map[string]any{"serviceDeploymentArn": r.arn}, nil
}

func (c *Cloud) listTasks(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	var in struct{ ServiceName, DesiredStatus, StartedBy, Family string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if in.DesiredStatus == "" {
		in.DesiredStatus = "RUNNING"
	}
	if in.ServiceName != "" && cl.services[lastSegment(in.ServiceName)] == nil {
		return nil, refuse("ServiceNotFoundException", "Service not found.")
	}
	arns := []string{}
	for _, s := range cl.holders() {
		for _, t := range s.tasks {
			if (in.ServiceName == "" || s.group == "" && lastSegment(in.ServiceName) == s.name) && t.desired == in.DesiredStatus &&
				(in.StartedBy == "" || in.StartedBy == t.deployment.id) && (in.Family == "" || in.Family == t.deployment.def.family) {
				arns = append(arns, t.arn)
			}
		}
	}
	return map[string]any{"taskArns": arns}, nil
}

func sortedServices(cl *cluster) []*service {
	var out []*service
	for _, s := range cl.services {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *service) int { return strings.Compare(a.name, b.name) })
	return out
}

func (c *Cloud) describeTasks(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	var in struct{ Tasks []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if n := len(in.Tasks); n == 0 {
		return nil, refuse("InvalidParameterException", "Tasks cannot be empty.")
	} else if n > 100 {
		return nil, refuse("InvalidParameterException", "Tasks cannot have more than 100 elements.")
	}
	byID := map[string]*task{}
	for _, s := range cl.holders() {
		for _, t := range s.tasks {
			byID[t.id] = t
		}
	}
	found, failures := []any{}, []any{}
	for _, name := range in.Tasks {
		if t := byID[lastSegment(name)]; t != nil {
			found = append(found, t.json())
		} else {
			failures = append(failures, missing(c.arn("ecs", fmt.Sprintf("task/%s/%s", cl.name, lastSegment(name)))))
		}
	}
	return map[string]any{"tasks": found, "failures": failures}, nil
}
