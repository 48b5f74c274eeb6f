package taskdef

import (
	"encoding/json"
	"time"
)

// HealthCheck is how ECS looks whether a container is well.
type HealthCheck struct {
	Container string
	// Interval is the time between two looks, StartPeriod how long failures do not
	// count at first.
	Interval, StartPeriod time.Duration
}

// HealthChecks lists the containers' health checks; what a check leaves out has
// ECS's defaults.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html
func (d Document) HealthChecks() []HealthCheck {
	const usual = 30
	var doc struct {
		ContainerDefinitions []struct {
			Name        string
			HealthCheck *struct{ Interval, StartPeriod *float64 }
		}
	}
	if json.Unmarshal(d.JSON(), &doc) != nil {
		return nil
	}
	seconds := func(n *float64, otherwise float64) time.Duration {
		if n == nil {
			n = &otherwise
		}
		return time.Duration(*n * float64(time.Second))
	}
	var all []HealthCheck
	for _, c := range doc.ContainerDefinitions {
		if c.HealthCheck != nil {
			all = append(all, HealthCheck{Container: c.Name, Interval: seconds(c.HealthCheck.Interval, usual), StartPeriod: seconds(c.HealthCheck.StartPeriod, 0)})
		}
	}
	return all
}
