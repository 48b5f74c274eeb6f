package deploy

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// explainOne explains one failed task by all that is known of it: ECS's words,
// what its container wrote, and for health checks what the service's events
// and the task definition say.
func (w *taskWatch) explainOne(f TaskFailed) explanation {
	e := explainTask(w.table, f, w.logs.of(f.TaskID))
	if strings.HasPrefix(e.summary, balancer) {
		said, found := w.unhealthyEvent(f.TaskID)
		if found && said.summary != balancer {
			return said
		}
		if target, asked := w.explainTarget(); asked {
			return target
		}
		if found {
			return said
		}
	}
	return e
}

// unhealthyEvent finds what the load balancer said of a task: of itself, else
// (where ECS names its instance instead) of any.
func (w *taskWatch) unhealthyEvent(task string) (explanation, bool) {
	last := ""
	for _, message := range slices.Backward(w.said) {
		if !strings.Contains(message, "is unhealthy in (target-group") {
			continue
		}
		if strings.Contains(message, "(task "+task+")") {
			return explainText(w.table, message)
		}
		if last == "" && strings.Contains(message, "(instance ") {
			last = message
		}
	}
	return explainText(w.table, last)
}

// endsOf is how the containers of a task ended.
func endsOf(t ecstypes.Task, places map[string]logPlace) []ContainerEnd {
	var ends []ContainerEnd
	for _, container := range t.Containers {
		name := aws.ToString(container.Name)
		end := ContainerEnd{
			Name: name, Reason: aws.ToString(container.Reason), Essential: places[name].essential,
			Unhealthy: container.HealthStatus == ecstypes.HealthStatusUnhealthy, HealthCheck: places[name].check,
		}
		if container.ExitCode != nil {
			end.ExitCode = aws.Int(int(*container.ExitCode))
		}
		ends = append(ends, end)
	}
	return ends
}

// explainCheck names the container whose own health check fails, and the
// check's command.
func explainCheck(e explanation, containers []ContainerEnd) explanation {
	i := slices.IndexFunc(containers, func(c ContainerEnd) bool { return c.Unhealthy })
	if i < 0 {
		return e
	}
	e.summary = "the health check of container " + containers[i].Name + " fails"
	if check := containers[i].HealthCheck; check != "" {
		e.fix = "Run the check in the image (" + check + "): its programs must be there and end with 0, and startPeriod must cover the start."
	}
	return e
}

// checkCommand is a container's health check as a person would type it.
func checkCommand(command []string) string {
	if len(command) > 0 && (command[0] == "CMD" || command[0] == "CMD-SHELL") {
		command = command[1:]
	}
	return cut(strings.Join(command, " "), 200)
}
