package emulator

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// logGroup is a CloudWatch log group: its streams by name.
type logGroup struct {
	created time.Time
	streams map[string][]logEvent
}

type logEvent struct {
	at      time.Time
	message string
}

// AddLogGroup makes a log group, which a task's awslogs driver needs unless
// its options hold awslogs-create-group.
func (c *Cloud) AddLogGroup(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLogGroup(name, time.Now())
}

func (c *Cloud) addLogGroup(name string, now time.Time) {
	if c.logs[name] == nil {
		c.logs[name] = &logGroup{created: now, streams: map[string][]logEvent{}}
	}
}

// LogLines lists what was logged to a stream so far, oldest first.
func (c *Cloud) LogLines(group, stream string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ecs.catchUp(time.Now())
	var lines []string
	if g := c.logs[group]; g != nil {
		for _, e := range g.streams[stream] {
			lines = append(lines, e.message)
		}
	}
	return lines
}

func (c *Cloud) logsOperations() map[string]operation {
	resource := func(q *request) string {
		return c.arn("logs", "log-group:"+q.member("logGroupName")+":log-stream:"+q.member("logStreamName"))
	}
	return map[string]operation{
		"GetLogEvents": {resource: resource, serve: c.getLogEvents},
		"DescribeLogGroups": {
			resource: func(*request) string { return c.arn("logs", "log-group::log-stream:") },
			serve:    c.describeLogGroups,
		},
	}
}

func (c *Cloud) getLogEvents(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct {
		LogGroupName, LogGroupIdentifier, LogStreamName, NextToken string

		StartFromHead      bool
		Limit              int
		StartTime, EndTime int64
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	name := in.LogGroupName
	if name == "" {
		name = in.LogGroupIdentifier[strings.LastIndex(in.LogGroupIdentifier, ":")+1:]
	}
	group := c.logs[name]
	if group == nil {
		return nil, refuse("ResourceNotFoundException", "The specified log group does not exist.")
	}
	all, exists := group.streams[in.LogStreamName]
	if !exists {
		return nil, refuse("ResourceNotFoundException", "The specified log stream does not exist.")
	}
	if in.Limit == 0 {
		in.Limit = 10000
	}
	if in.Limit < 1 || in.Limit > 10000 {
		return nil, refuse("InvalidParameterException", "1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000", in.Limit)
	}
	events := slices.DeleteFunc(slices.Clone(all), func(e logEvent) bool {
		ms := e.at.UnixMilli()
		return ms < in.StartTime || (in.EndTime != 0 && ms >= in.EndTime)
	})
	first := 0 // the index of the first event that is answered
	if _, from, given := strings.Cut(in.NextToken, "f/"); given {
		first, _ = strconv.Atoi(from)
		first = min(first, len(events))
	} else if !in.StartFromHead {
		first = max(0, len(events)-in.Limit)
	}
	events = events[first:min(len(events), first+in.Limit)]
	out := []any{}
	for _, e := range events {
		out = append(out, map[string]any{"timestamp": e.at.UnixMilli(), "ingestionTime": e.at.UnixMilli(), "message": e.message})
	}
	return map[string]any{"events": out, "nextForwardToken": "f/" + strconv.Itoa(first+len(events)), "nextBackwardToken": "b/" + strconv.Itoa(first)}, nil
}

func (c *Cloud) describeLogGroups(q *request) (any, error) {
	var in struct{ LogGroupNamePrefix string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	out := []any{}
	for _, name := range slices.Sorted(maps.Keys(c.logs)) {
		if strings.HasPrefix(name, in.LogGroupNamePrefix) {
			arn := c.arn("logs", "log-group:"+name)
			out = append(out, map[string]any{
				"logGroupName": name, "arn": arn + ":*", "logGroupArn": arn,
				"creationTime": c.logs[name].created.UnixMilli(), "storedBytes": 0, "metricFilterCount": 0,
			})
		}
	}
	return map[string]any{"logGroups": out}, nil
}
