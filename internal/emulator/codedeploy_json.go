package emulator

// json is the deployment as GetDeployment shows it.
func (d *codeDeployment) json() map[string]any {
	creator := "user"
	if d.rollbackOf != "" {
		creator = "codeDeployRollback"
	}
	out := map[string]any{
		"applicationName": d.group.Application, "deploymentGroupName": d.group.Name, "deploymentConfigName": d.config,
		"deploymentId": d.id, "status": d.status, "computePlatform": "ECS", "creator": creator, "createTime": epoch(d.created),
		"revision": map[string]any{
			"revisionType": "AppSpecContent", "appSpecContent": map[string]any{"content": d.content, "sha256": d.sum},
		},
		"autoRollbackConfiguration":        map[string]any{"enabled": len(d.rollbackOn) > 0, "events": append([]string{}, d.rollbackOn...)},
		"blueGreenDeploymentConfiguration": d.group.blueGreenJSON(),
	}
	if d.description != "" {
		out["description"] = d.description
	}
	if !d.started.IsZero() {
		out["startTime"] = epoch(d.started)
	}
	if d.over() {
		out["completeTime"] = epoch(d.completed)
	}
	if d.errorCode != "" {
		out["errorInformation"] = map[string]any{"code": d.errorCode, "message": d.errorMessage}
	}
	switch {
	case d.rollbackOf != "":
		out["rollbackInfo"] = map[string]any{"rollbackTriggeringDeploymentId": d.rollbackOf}
	case d.rollbackID != "":
		out["rollbackInfo"] = map[string]any{"rollbackDeploymentId": d.rollbackID, "rollbackMessage": d.rollbackMessage}
	}
	return out
}

// targetID names the service as CodeDeploy does.
func (d *codeDeployment) targetID() string { return d.group.Cluster + ":" + d.group.Service }

func (d *codeDeployment) targetJSON() map[string]any {
	events := []any{}
	for _, e := range d.events {
		one := map[string]any{"lifecycleEventName": e.name, "status": e.status}
		if !e.start.IsZero() {
			one["startTime"] = epoch(e.start)
		}
		if !e.end.IsZero() {
			one["endTime"] = epoch(e.end)
		}
		if e.code != "" {
			one["diagnostics"] = map[string]any{"errorCode": e.code, "message": e.text, "logTail": e.tail, "scriptName": ""}
		}
		events = append(events, one)
	}
	sets := []any{}
	for label, set := range map[string]*deployment{"Blue": d.blue, "Green": d.green} {
		if set == nil {
			continue
		}
		weight := d.weight
		if label == "Blue" {
			weight = 100 - d.weight
		}
		running, pending := d.service.count(set)
		sets = append(sets, map[string]any{
			"identifer": set.id, "taskSetLabel": label, "status": set.status, "trafficWeight": weight, //nolint:misspell // the API spells it so
			"desiredCount": d.service.wantedOf(set), "runningCount": running, "pendingCount": pending,
		})
	}
	return map[string]any{"deploymentTargetType": "ECSTarget", "ecsTarget": map[string]any{
		"deploymentId": d.id, "targetId": d.targetID(), "targetArn": d.service.arn, "status": d.status, "lifecycleEvents": events, "taskSetsInfo": sets,
	}}
}

// wantedOf is the desired count of a task set.
func (s *service) wantedOf(d *deployment) int {
	if d.halted {
		return 0
	}
	return s.desired
}

// taskSetsJSON are the task sets as DescribeServices shows them.
func (s *service) taskSetsJSON() []any {
	out := []any{}
	for _, d := range s.deployments {
		running, pending := s.count(d)
		stability := "STABILIZING"
		if mine := s.alive(d); len(mine) == s.wantedOf(d) && healthy(mine) == len(mine) {
			stability = "STEADY_STATE"
		}
		set := map[string]any{
			"id": d.id, "taskSetArn": s.cloud.arn("ecs", "task-set/"+s.cluster.name+"/"+s.name+"/"+d.id), "serviceArn": s.arn,
			"clusterArn": s.cluster.arn, "status": d.status, "taskDefinition": d.def.arn, "computedDesiredCount": s.wantedOf(d),
			"runningCount": running, "pendingCount": pending, "stabilityStatus": stability, "createdAt": epoch(d.created), "updatedAt": epoch(d.updated),
			"scale": map[string]any{"unit": "PERCENT", "value": 100}, "launchType": "FARGATE",
		}
		if d.external != "" {
			set["externalId"], set["startedBy"] = d.external, "CODE_DEPLOY"
		}
		if balancers, has := s.settings["loadBalancers"]; has {
			set["loadBalancers"] = balancers
		}
		out = append(out, set)
	}
	return out
}
