package rehearse

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/towline/towline/internal/emulator"
)

// addNeeds adds what a task definition names: its log groups, roles, secrets and
// parameters. Without them its tasks would not start, and pre-flight says so.
func addNeeds(cloud *emulator.Cloud, definition string) error {
	var doc any
	if err := json.Unmarshal([]byte(definition), &doc); err != nil {
		return fmt.Errorf("task definition: %w", err)
	}
	var failed error
	each(doc, func(name, value string) {
		switch name {
		case "awslogs-group":
			cloud.AddLogGroup(value)
		case "executionRoleArn", "taskRoleArn":
			if _, role, found := strings.Cut(value, ":role/"); found {
				value = role
			}
			if _, err := cloud.AddRole(emulator.Role{Name: value, TrustPolicy: emulator.TrustTasks()}); err != nil {
				failed = fmt.Errorf("role %s: %w", value, err)
			}
		case "valueFrom", "credentialsParameter":
			addValue(cloud, value)
		}
	})
	return failed
}

// addNeeds adds what the inputs put into the task definition.
func (in *stepInputs) addNeeds(cloud *emulator.Cloud) error {
	named := map[string]string{"executionRoleArn": in.get("execution-role-arn"), "taskRoleArn": in.get("task-role-arn")}
	for line := range strings.Lines(in.get("log-configuration-options")) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name == "awslogs-group" {
			named[name] = value
		}
	}
	for name, value := range named {
		if value == "" {
			delete(named, name)
		}
	}
	for line := range strings.Lines(in.get("container-secrets")) {
		if _, from, found := strings.Cut(strings.TrimSpace(line), "="); found {
			addValue(cloud, from)
		}
	}
	doc, err := json.Marshal(named)
	if err != nil {
		return fmt.Errorf("inputs: %w", err)
	}
	return addNeeds(cloud, string(doc))
}

// addValue adds what holds a value: a secret or a parameter.
func addValue(cloud *emulator.Cloud, from string) {
	if _, rest, found := strings.Cut(from, ":secret:"); found {
		secret := emulator.Secret{}
		var version string
		secret.Name, version, _ = strings.Cut(rest, ":")
		if cut := strings.LastIndexByte(secret.Name, '-'); cut > 0 && len(secret.Name)-cut == 7 {
			secret.Name, secret.Suffix = secret.Name[:cut], secret.Name[cut+1:]
		}
		if parts := strings.Split(version, ":"); len(parts) > 1 && parts[1] != "" {
			secret.Stages = []string{parts[1]}
		}
		cloud.AddSecret(secret)
		return
	}
	name, isARN := from, false
	if _, rest, found := strings.Cut(from, ":parameter/"); found {
		name, isARN = rest, true
	}
	name, _, _ = strings.Cut(name, ":")
	if isARN && strings.Contains(name, "/") {
		name = "/" + name
	}
	cloud.AddParameter(name)
}

// each gives every string member in a document.
func each(value any, with func(name, value string)) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if text, ok := member.(string); ok {
				with(name, text)
			}
			each(member, with)
		}
	case []any:
		for _, item := range v {
			each(item, with)
		}
	}
}
