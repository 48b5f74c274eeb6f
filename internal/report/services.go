package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/towline/towline/internal/deploy"
)

// Service is one of several services, as it stands in the table at the end.
type Service struct {
	// Name is CLUSTER/SERVICE, with its region where that is another one.
	Name string
	// Status is the output deployment-status, or empty if nothing was begun.
	Status, DeploymentID string
	// TaskDefinition is FAMILY:REVISION.
	TaskDefinition string
	// Reason is a line about why it ended so, or empty. Untrusted.
	Reason     string
	ConsoleURL string
	// Took is zero for what was not begun.
	Took time.Duration
}

// Among gives the receiver of the events of one service among several. It tells
// less than Deploy, and each time whose it is: what goes well has two lines.
func (r *Reporter) Among(service string) func(deploy.Event) {
	return func(e deploy.Event) {
		switch e := e.(type) {
		case deploy.Started:
			verb := "started"
			if e.Joined {
				verb = "joined"
			}
			r.line(verb, service, "deployment "+e.DeploymentID, "of "+lastPart(e.TaskDefinitionARN), e.Detail)
		case deploy.Waiting, deploy.Stage:
		case deploy.Paused:
			r.line("paused", service, words(e.Stage))
		case deploy.AlarmRaised:
			r.line("alarm", service, oneLineUncut(strings.Join(e.Names, ", ")))
		case deploy.ServiceEvent:
			if e.Summary != "" {
				r.Deploy(e)
			}
		case deploy.TaskFailed:
			e.TaskID += " of " + service
			r.Deploy(e)
		case deploy.LogLines:
			e.TaskID += " of " + service
			r.Deploy(e)
		case deploy.RollingBack:
			by := "asked for by Towline"
			if e.ByECS {
				by = "by ECS itself"
			}
			to := ""
			if e.To != "" {
				to = "to " + lastPart(e.To)
			}
			r.line("rollback", service, to, by)
		case deploy.Notice:
			r.noticeOnce(service, e.Message)
		case deploy.Done: // the table has it
		default:
			r.Deploy(e)
		}
	}
}

// noticeOnce tells what may be the same for many services for the first of them.
func (r *Reporter) noticeOnce(service, message string) {
	r.mu.Lock()
	known := r.causes[message]
	r.causes[message] = true
	r.mu.Unlock()
	if !known {
		r.Notice(service + ": " + message)
	}
}

// Services tells how each of several services ended: one table in the log, and
// one in the summary.
func (r *Reporter) Services(all []Service) {
	r.mu.Lock()
	r.services = slices.Clone(all)
	r.mu.Unlock()
	header := []string{"service", "status", "task definition", "time"}
	rows := [][]string{header}
	for _, s := range all {
		rows = append(rows, []string{s.Name, s.status(), s.TaskDefinition, s.took()})
	}
	widths := make([]int, len(header))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for i, row := range rows {
		var b strings.Builder
		for j, text := range row {
			fmt.Fprintf(&b, "%-*s  ", widths[j], text)
		}
		r.runner.Line(strings.TrimRight(b.String(), " "))
		if i > 0 && all[i-1].Reason != "" && !all[i-1].well() {
			r.untrusted("  ", oneLineUncut(short(all[i-1].Reason)))
		}
	}
}

func (s Service) status() string {
	if s.Status == "" {
		return "not begun"
	}
	return s.Status
}

func (s Service) took() string {
	if s.Took == 0 {
		return ""
	}
	return elapsed(s.Took)
}

// well says whether nobody has to look at it.
func (s Service) well() bool {
	return s.Status == string(deploy.StatusSucceeded) || s.Status == string(deploy.StatusUnchanged) || s.Status == ""
}

// mostServices is how many services the summary lists: it may have one megabyte.
const mostServices = 500

// serviceTable is the summary's table: those first that are not well. r.mu is held.
func (r *Reporter) serviceTable() string {
	if len(r.services) == 0 {
		return ""
	}
	all := slices.Clone(r.services)
	slices.SortStableFunc(all, func(a, b Service) int { return rank(a) - rank(b) })
	var b strings.Builder
	b.WriteString("| Service | Status | Task definition | Time | Why |\n|---|---|---|---:|---|\n")
	for _, s := range all[:min(len(all), mostServices)] {
		name := cell(s.Name)
		if strings.HasPrefix(s.ConsoleURL, "https://") && !strings.ContainsAny(s.ConsoleURL, " <>|()") {
			name = "[" + name + "](" + s.ConsoleURL + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, s.status(), code(s.TaskDefinition), s.took(), cell(clip(s.Reason, maxValue)))
	}
	if left := len(all) - mostServices; left > 0 {
		fmt.Fprintf(&b, "\n%s more stand in the log.\n", count(left, "service"))
	}
	return b.String() + "\n"
}

func rank(s Service) int {
	switch {
	case s.Status == "":
		return 1
	case s.well():
		return 2
	default:
		return 0
	}
}

// closingServices is the last line about several services: "deployed", "3
// services", or how many of them are how. r.mu is held.
func (r *Reporter) closingServices(ok bool) (verb, object string) {
	counts := map[string]int{}
	var order []string
	for _, s := range r.services {
		if counts[s.status()]++; counts[s.status()] == 1 {
			order = append(order, s.status())
		}
	}
	if ok && len(order) == 1 && order[0] == string(deploy.StatusSucceeded) {
		return "deployed", count(len(r.services), "service")
	}
	texts := make([]string, len(order))
	for i, status := range order {
		texts[i] = fmt.Sprintf("%d %s", counts[status], strings.ReplaceAll(status, "-", " "))
	}
	verb = "deployed"
	if !ok {
		verb = "failed"
	}
	return verb, "deployment of " + count(len(r.services), "service") + ": " + strings.Join(texts, ", ") + ","
}
