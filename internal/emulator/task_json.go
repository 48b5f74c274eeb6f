package emulator

import (
	"maps"
	"time"
)

// json is the task as DescribeTasks shows it.
func (t *task) json() map[string]any {
	s := t.service
	health := "UNKNOWN"
	containers := []any{}
	for _, k := range t.containers {
		containers = append(containers, t.containerJSON(k))
		if k.health != "UNKNOWN" && health != "UNHEALTHY" {
			health = k.health
		}
	}
	out := map[string]any{
		"taskArn": t.arn, "clusterArn": s.cluster.arn, "taskDefinitionArn": t.deployment.def.arn,
		"lastStatus": t.lastStatus, "desiredStatus": t.desired, "healthStatus": health,
		"group": "service:" + s.name, "startedBy": t.deployment.id, "launchType": "FARGATE",
		"platformVersion": "1.4.0", "platformFamily": "Linux", "availabilityZone": s.cloud.opts.Region + "a",
		"cpu": t.deployment.def.cpu, "memory": t.deployment.def.memory, "version": 1,
		"containers": containers, "attachments": []any{}, "tags": []any{}, "overrides": map[string]any{},
		"enableExecuteCommand": false,
	}
	times := map[string]time.Time{
		"createdAt": t.created, "pullStartedAt": t.pullStarted, "pullStoppedAt": t.pullStopped,
		"connectivityAt": t.pullStarted, "startedAt": t.started, "stoppingAt": t.stopping, "executionStoppedAt": t.stopping,
		"stoppedAt": t.stopped,
	}
	for name, at := range times {
		if !at.IsZero() {
			out[name] = epoch(at)
		}
	}
	if !t.pullStarted.IsZero() {
		out["connectivity"] = "CONNECTED"
	}
	if t.stopCode != "" {
		maps.Copy(out, map[string]any{"stopCode": t.stopCode, "stoppedReason": t.stoppedReason})
	}
	maps.Copy(out, t.extra)
	return out
}

func (t *task) containerJSON(k *container) map[string]any {
	out := map[string]any{
		"containerArn": t.service.cloud.arn("ecs", "container/"+t.service.cluster.name+"/"+t.id+"/"+uuid(t.id)),
		"taskArn":      t.arn, "name": k.def.Name, "image": k.def.Image, "lastStatus": k.status, "healthStatus": k.health,
		"networkInterfaces": []any{}, "networkBindings": []any{}, "runtimeId": t.id + "-0527074092",
	}
	if k.digest != "" {
		out["imageDigest"] = k.digest
	}
	if k.exitCode != nil {
		out["exitCode"] = *k.exitCode
	}
	if k.reason != "" {
		out["reason"] = k.reason
	}
	return out
}
