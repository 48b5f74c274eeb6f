package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// strategy reports the way of a deployment that moves traffic.
func (r *Reporter) strategy(e deploy.Event) {
	switch e := e.(type) {
	case deploy.Stage:
		r.mu.Lock()
		r.stages = append(r.stages, stage{e.DeploymentID, words(e.Stage), time.Now()})
		r.mu.Unlock()
		r.line("stage", r.of(e.DeploymentID)+words(e.Stage), elapsed(e.Elapsed), traffic(e))
	case deploy.Paused:
		until := ""
		if !e.Until.IsZero() {
			until = "until " + e.Until.UTC().Format("2006-01-02 15:04 MST")
		}
		if e.Then != "" {
			until += ", then " + words(e.Then)
		}
		r.line("paused", "deployment "+e.DeploymentID, words(e.Stage), strings.TrimPrefix(until, ", "))
	case deploy.AlarmRaised:
		r.line("alarm", oneLineUncut(strings.Join(e.Names, ", ")))
	}
}

// traffic is how much of it the new tasks get.
func traffic(e deploy.Stage) string {
	var parts []string
	if e.Production != nil {
		parts = append(parts, fmt.Sprintf("%s%% of the traffic on new tasks", percent(*e.Production)))
	}
	if e.Test != nil && *e.Test > 0 {
		parts = append(parts, fmt.Sprintf("%s%% of the test traffic", percent(*e.Test)))
	}
	return strings.Join(parts, ", ")
}

func percent(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// words is a word of ECS as people write it; CodeDeploy's stay as they are.
func words(text string) string {
	if text != strings.ToUpper(text) {
		return text
	}
	return strings.ToLower(strings.ReplaceAll(text, "_", " "))
}
