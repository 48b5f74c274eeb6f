package emulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// codeState is everything in CodeDeploy.
type codeState struct {
	groups      []*DeploymentGroup
	deployments []*codeDeployment // oldest first
}

// DeploymentGroup is a CodeDeploy deployment group of an ECS service whose
// controller is CODE_DEPLOY.
type DeploymentGroup struct {
	// Application and Name default to AppECS-CLUSTER-SERVICE and
	// DgpECS-CLUSTER-SERVICE, as ECS's console names them.
	Application, Name string
	Cluster, Service  string
	// Config is the deployment configuration. Default:
	// CodeDeployDefault.ECSAllAtOnce.
	Config string
	// RollbackOn are the events of automatic rollbacks: DEPLOYMENT_FAILURE, ...
	RollbackOn []string
	// ReadyWait is how long a deployment waits to be continued before its
	// traffic moves, TerminationWait how long the old tasks stay after that.
	ReadyWait, TerminationWait time.Duration
	// TestListener adds the lifecycle events of test traffic.
	TestListener bool
	// Ends are lifecycle events that end otherwise than well and soon.
	Ends map[string]LifecycleEnd
}

// LifecycleEnd is how a lifecycle event ends.
type LifecycleEnd struct {
	// After is how long it takes. Default: half a pace.
	After time.Duration
	// Code fails the deployment with this error code; ALARM_ACTIVE stops it.
	// Empty: the event ends well.
	Code string
	// Message and LogTail are its diagnostics.
	Message, LogTail string
}

// AddDeploymentGroup adds a deployment group, and its application when missing.
func (c *Cloud) AddDeploymentGroup(g DeploymentGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	suffix := "-" + g.Cluster + "-" + g.Service
	g.Application, g.Name = cmp.Or(g.Application, "AppECS"+suffix), cmp.Or(g.Name, "DgpECS"+suffix)
	g.Config = cmp.Or(g.Config, "CodeDeployDefault.ECSAllAtOnce")
	c.code.groups = append(c.code.groups, &g)
}

func (c *Cloud) codeDeployOperations() map[string]operation {
	group := func(q *request) string {
		name := q.member("deploymentGroupName")
		var in struct{ DeploymentGroupNames []string }
		if name == "" && json.Unmarshal(q.body, &in) == nil && len(in.DeploymentGroupNames) > 0 {
			name = in.DeploymentGroupNames[0]
		}
		return c.arn("codedeploy", "deploymentgroup:"+q.member("applicationName")+"/"+name)
	}
	ofDeployment := func(q *request) string {
		if d := c.codeDeployment(q.member("deploymentId")); d != nil {
			return c.arn("codedeploy", "deploymentgroup:"+d.group.Application+"/"+d.group.Name)
		}
		return "*"
	}
	application := func(q *request) string { return c.arn("codedeploy", "application:"+q.member("applicationName")) }
	// Those without a resource know none.
	// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscodedeploy.html
	return map[string]operation{
		"ListApplications":          {serve: c.listApplications},
		"ListDeploymentGroups":      {resource: application, serve: c.listDeploymentGroups},
		"BatchGetDeploymentGroups":  {resource: group, serve: c.batchGetDeploymentGroups},
		"GetDeploymentGroup":        {resource: group, serve: c.getDeploymentGroup},
		"CreateDeployment":          {resource: group, serve: c.createDeployment},
		"ListDeployments":           {resource: group, serve: c.listDeployments},
		"GetDeployment":             {resource: ofDeployment, serve: c.getDeployment},
		"ListDeploymentTargets":     {serve: c.listDeploymentTargets},
		"GetDeploymentTarget":       {serve: c.getDeploymentTarget},
		"BatchGetDeploymentTargets": {serve: c.batchGetDeploymentTargets},
		"StopDeployment":            {serve: c.stopDeployment},
		"ContinueDeployment":        {serve: c.continueDeployment},
	}
}

func (c *Cloud) codeDeployment(id string) *codeDeployment {
	for _, d := range c.code.deployments {
		if d.id == id {
			return d
		}
	}
	return nil
}

// codeGroup finds the group that a request names.
func (c *Cloud) codeGroup(application, name string) (*DeploymentGroup, error) {
	known := false
	for _, g := range c.code.groups {
		known = known || g.Application == application
		if g.Application == application && g.Name == name {
			return g, nil
		}
	}
	if !known {
		return nil, refuse("ApplicationDoesNotExistException", "No application found for name: %s", application)
	}
	return nil, refuse("DeploymentGroupDoesNotExistException", "No Deployment Group found for name: %s", name)
}

func (c *Cloud) listApplications(*request) (any, error) {
	names := []string{}
	for _, g := range c.code.groups {
		if !slices.Contains(names, g.Application) {
			names = append(names, g.Application)
		}
	}
	slices.Sort(names)
	return map[string]any{"applications": names}, nil
}

func (c *Cloud) listDeploymentGroups(q *request) (any, error) {
	names := []string{}
	for _, g := range c.code.groups {
		if g.Application == q.member("applicationName") {
			names = append(names, g.Name)
		}
	}
	if len(names) == 0 {
		return nil, refuse("ApplicationDoesNotExistException", "No application found for name: %s", q.member("applicationName"))
	}
	return map[string]any{"applicationName": q.member("applicationName"), "deploymentGroups": names}, nil
}

func (c *Cloud) batchGetDeploymentGroups(q *request) (any, error) {
	var in struct {
		ApplicationName      string
		DeploymentGroupNames []string
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	out := []any{}
	for _, name := range in.DeploymentGroupNames {
		g, err := c.codeGroup(in.ApplicationName, name)
		if err != nil {
			return nil, err
		}
		out = append(out, c.groupJSON(g))
	}
	return map[string]any{"deploymentGroupsInfo": out}, nil
}

func (c *Cloud) getDeploymentGroup(q *request) (any, error) {
	g, err := c.codeGroup(q.member("applicationName"), q.member("deploymentGroupName"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"deploymentGroupInfo": c.groupJSON(g)}, nil
}

func (c *Cloud) groupJSON(g *DeploymentGroup) map[string]any {
	out := map[string]any{
		"applicationName": g.Application, "deploymentGroupName": g.Name, "computePlatform": "ECS", "deploymentConfigName": g.Config,
		"ecsServices":                      []any{map[string]any{"clusterName": g.Cluster, "serviceName": g.Service}},
		"autoRollbackConfiguration":        map[string]any{"enabled": len(g.RollbackOn) > 0, "events": append([]string{}, g.RollbackOn...)},
		"blueGreenDeploymentConfiguration": g.blueGreenJSON(),
	}
	for _, d := range c.code.deployments {
		if d.group != g {
			continue
		}
		brief := map[string]any{"deploymentId": d.id, "status": d.status, "createTime": epoch(d.created)}
		out["lastAttemptedDeployment"] = brief
		if d.status == "Succeeded" && d.rollbackOf == "" {
			out["lastSuccessfulDeployment"] = brief
		}
	}
	return out
}

func (g *DeploymentGroup) blueGreenJSON() map[string]any {
	ready := map[string]any{"actionOnTimeout": "CONTINUE_DEPLOYMENT", "waitTimeInMinutes": 0}
	if g.ReadyWait > 0 {
		ready = map[string]any{"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": int(g.ReadyWait.Minutes())}
	}
	return map[string]any{
		"deploymentReadyOption": ready,
		"terminateBlueInstancesOnDeploymentSuccess": map[string]any{
			"action": "TERMINATE", "terminationWaitTimeInMinutes": int(g.TerminationWait.Minutes()),
		},
	}
}

// appSpec is what the emulator reads of an AppSpec.
type appSpec struct {
	Resources []map[string]struct {
		Type       string
		Properties struct {
			TaskDefinition   string
			LoadBalancerInfo struct {
				ContainerName string
				ContainerPort int
			}
		}
	}
}

// readAppSpec checks the revision of a new deployment, and finds the task
// definition in it. Assumed: the texts of the refusals.
func (c *Cloud) readAppSpec(content, sum string) (*taskDefinition, error) {
	hash := sha256.Sum256([]byte(content))
	if sum != "" && sum != hex.EncodeToString(hash[:]) {
		return nil, refuse("InvalidRevisionException", "The SHA256 of the AppSpec content does not match.")
	}
	var spec appSpec
	if err := json.Unmarshal([]byte(content), &spec); err != nil {
		return nil, refuse("InvalidRevisionException", "The AppSpec content cannot be parsed.")
	}
	if len(spec.Resources) != 1 {
		return nil, refuse("InvalidRevisionException", "The AppSpec file must contain exactly one resource.")
	}
	for _, resource := range spec.Resources[0] {
		p := resource.Properties
		if resource.Type != "AWS::ECS::Service" || p.LoadBalancerInfo.ContainerName == "" || p.LoadBalancerInfo.ContainerPort == 0 {
			return nil, refuse("InvalidRevisionException", "The AppSpec file is missing LoadBalancerInfo or has a wrong type.")
		}
		def, err := c.findDefinition(p.TaskDefinition)
		if err != nil {
			return nil, refuse("InvalidRevisionException", "The task definition %s does not exist.", p.TaskDefinition)
		}
		return def, nil
	}
	return nil, refuse("InvalidRevisionException", "The AppSpec file has no resource.")
}

func (c *Cloud) createDeployment(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct {
		ApplicationName, DeploymentGroupName, DeploymentConfigName, Description string

		AutoRollbackConfiguration *struct {
			Enabled bool
			Events  []string
		}
		Revision struct {
			RevisionType   string
			AppSpecContent struct{ Content, Sha256 string }
		}
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	g, err := c.codeGroup(in.ApplicationName, in.DeploymentGroupName)
	if err != nil {
		return nil, err
	}
	config := cmp.Or(in.DeploymentConfigName, g.Config)
	if err = errors.Join( // in the caller's name
		q.who.allow("codedeploy:GetDeploymentConfig", c.arn("codedeploy", "deploymentconfig:"+config)),
		q.who.allow("codedeploy:RegisterApplicationRevision", c.arn("codedeploy", "application:"+g.Application)),
	); err != nil {
		return nil, err
	}
	if _, err = trafficSteps(config); err != nil {
		return nil, err
	}
	def, err := c.readAppSpec(in.Revision.AppSpecContent.Content, in.Revision.AppSpecContent.Sha256)
	if err != nil {
		return nil, err
	}
	for _, d := range c.code.deployments {
		if d.group == g && !d.over() {
			return nil, refuse("DeploymentLimitExceededException", "The Deployment Group '%s' already has an active Deployment '%s'", g.Name, d.id)
		}
	}
	cl := c.ecs.clusters[g.Cluster]
	if cl == nil || cl.services[g.Service] == nil {
		return nil, refuse("InvalidECSServiceException", "The ECS service %s does not exist.", g.Service)
	}
	d := c.newCodeDeployment(g, cl.services[g.Service], def, q.now)
	d.description, d.content, d.sum = in.Description, in.Revision.AppSpecContent.Content, in.Revision.AppSpecContent.Sha256
	d.config = config
	if in.AutoRollbackConfiguration != nil {
		d.rollbackOn = nil
		if in.AutoRollbackConfiguration.Enabled {
			d.rollbackOn = in.AutoRollbackConfiguration.Events
		}
	}
	d.begin(q.now)
	return map[string]any{"deploymentId": d.id}, nil
}

func (c *Cloud) listDeployments(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct {
		ApplicationName, DeploymentGroupName string
		IncludeOnlyStatuses                  []string
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	ids := []string{}
	for _, d := range slices.Backward(c.code.deployments) {
		if d.group.Application == in.ApplicationName && d.group.Name == in.DeploymentGroupName &&
			(len(in.IncludeOnlyStatuses) == 0 || slices.Contains(in.IncludeOnlyStatuses, d.status)) {
			ids = append(ids, d.id)
		}
	}
	return map[string]any{"deployments": ids}, nil
}

// named finds the deployment that a request names.
func (c *Cloud) named(q *request) (*codeDeployment, error) {
	c.ecs.catchUp(q.now)
	id := q.member("deploymentId")
	switch d := c.codeDeployment(id); {
	case d != nil:
		return d, nil
	case !strings.HasPrefix(id, "d-"):
		return nil, refuse("InvalidDeploymentIdException", "Specified DeploymentId is not in the valid format: %s", id)
	default:
		return nil, refuse("DeploymentDoesNotExistException", "The deployment %s could not be found", id)
	}
}

func (c *Cloud) getDeployment(q *request) (any, error) {
	d, err := c.named(q)
	if err != nil {
		return nil, err
	}
	return map[string]any{"deploymentInfo": d.json()}, nil
}

func (c *Cloud) listDeploymentTargets(q *request) (any, error) {
	d, err := c.named(q)
	if err != nil {
		return nil, err
	}
	if d.started.IsZero() {
		return nil, refuse("DeploymentNotStartedException", "The deployment %s has not started", d.id)
	}
	return map[string]any{"targetIds": []string{d.targetID()}}, nil
}

func (c *Cloud) getDeploymentTarget(q *request) (any, error) {
	d, err := c.named(q)
	if err != nil {
		return nil, err
	}
	if q.member("targetId") != d.targetID() {
		return nil, refuse("DeploymentTargetDoesNotExistException", "The target %s does not exist", q.member("targetId"))
	}
	return map[string]any{"deploymentTarget": d.targetJSON()}, nil
}

func (c *Cloud) batchGetDeploymentTargets(q *request) (any, error) {
	d, err := c.named(q)
	if err != nil {
		return nil, err
	}
	if d.started.IsZero() {
		return nil, refuse("DeploymentNotStartedException", "The deployment %s has not started", d.id)
	}
	return map[string]any{"deploymentTargets": []any{d.targetJSON()}}, nil
}

func (c *Cloud) stopDeployment(q *request) (any, error) {
	d, err := c.named(q)
	if err != nil {
		return nil, err
	}
	var in struct{ AutoRollbackEnabled *bool }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if d.over() {
		return nil, refuse("DeploymentAlreadyCompletedException", "The deployment %s is already completed", d.id)
	}
	back := slices.Contains(d.rollbackOn, "DEPLOYMENT_STOP_ON_REQUEST")
	if in.AutoRollbackEnabled != nil {
		back = *in.AutoRollbackEnabled
	}
	d.service.at(q.now.Add(c.opts.Pace), func(now time.Time) {
		d.end(now, "Stopped", "MANUAL_STOP", "The deployment was stopped by "+q.who.arn, back)
	})
	return map[string]any{"status": "Pending", "statusMessage": "Deployment is being stopped"}, nil
}

func (c *Cloud) continueDeployment(q *request) (any, error) {
	d, err := c.named(q)
	if err != nil {
		return nil, err
	}
	switch kind := cmp.Or(q.member("deploymentWaitType"), "READY_WAIT"); {
	case d.over():
		return nil, refuse("DeploymentAlreadyCompletedException", "The deployment %s is already completed", d.id)
	case kind == "READY_WAIT" && d.status == "Ready":
		d.status = "InProgress"
		d.enter(d.next, q.now)
	case kind == "TERMINATION_WAIT" && d.terminating:
		d.finish(q.now)
	default:
		return nil, refuse("DeploymentIsNotInReadyStateException", "The deployment %s is not in a ready state", d.id)
	}
	return map[string]any{}, nil
}
