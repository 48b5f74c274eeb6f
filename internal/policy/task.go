package policy

import (
	"encoding/json"
	"fmt"
)

// TaskOf reads what a task definition, as JSON, says about permissions.
func TaskOf(definition []byte) (*Task, error) {
	var doc struct {
		Family, TaskRoleArn, ExecutionRoleArn string

		Tags                 []any
		ContainerDefinitions []struct {
			LogConfiguration struct {
				LogDriver string
				Options   map[string]string
			}
		}
	}
	if err := json.Unmarshal(definition, &doc); err != nil {
		return nil, fmt.Errorf("task definition: %w", err)
	}
	task := &Task{Family: doc.Family, TaskRole: doc.TaskRoleArn, ExecutionRole: doc.ExecutionRoleArn, Tagged: len(doc.Tags) > 0}
	for _, container := range doc.ContainerDefinitions {
		if log := container.LogConfiguration; log.LogDriver == "awslogs" {
			task.LogGroups = append(task.LogGroups, log.Options["awslogs-group"])
		}
	}
	task.LogGroups = distinct(task.LogGroups)
	return task, nil
}
