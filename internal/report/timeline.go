package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// bar is one line of a chart.
type bar struct {
	name       string
	begin, end time.Time
	// kind is mermaid's word: done, active, crit, or empty.
	kind string
}

// section is a group of bars.
type section struct {
	name string
	bars []bar
}

const (
	// mostBars bounds a section: a chart of more cannot be read.
	mostBars = 24
	// chartable is the share of the whole time below which a bar would not be seen.
	chartable = 200
	// shortRun is a run too short for a chart to say anything.
	shortRun = 2 * time.Second
)

// timeline is the run as a chart. r.mu is held.
func (r *Reporter) timeline() string {
	end := time.Now()
	if end.Sub(r.begin) < shortRun || len(r.phases) < 2 {
		return ""
	}
	sections := []section{{name: "Phases"}, {name: "Build steps"}, {name: "Deployment"}, {name: "Tasks"}}
	for _, p := range r.phases {
		b := bar{name: p.title, begin: p.begin, end: p.begin.Add(p.took), kind: "active"}
		switch {
		case !p.over:
			b.end, b.kind = end, "crit"
		case p.failed:
			b.kind = "crit"
		}
		sections[0].bars = append(sections[0].bars, b)
	}
	for _, s := range r.order {
		b := bar{name: fmt.Sprintf("%d %s", s.number, s.name), begin: s.begin, end: s.begin.Add(s.took)}
		switch {
		case s.failed:
			b.kind = "crit"
		case s.cached:
			b.kind = "done"
		case !s.over:
			b.end = end
		}
		if !s.quiet {
			sections[1].bars = append(sections[1].bars, b)
		}
	}
	sections[2].bars = r.stageBars(end)
	sections[3].bars = r.taskBars()
	return chart(r.begin, end, sections)
}

// stageBars are the stages of deployments. r.mu is held.
func (r *Reporter) stageBars(end time.Time) []bar {
	var bars []bar
	for i, s := range r.stages {
		b := bar{name: s.name, begin: s.at, end: end}
		for _, p := range r.phases {
			if p.over && !s.at.Before(p.begin) && s.at.Before(p.begin.Add(p.took)) {
				b.end = p.begin.Add(p.took)
			}
		}
		for _, next := range r.stages[i+1:] {
			if next.id == s.id {
				b.end = next.at
				break
			}
		}
		bars = append(bars, b)
	}
	return bars
}

// taskBars are what the first new tasks did. r.mu is held.
func (r *Reporter) taskBars() []bar {
	const most = 4
	var bars []bar
	for _, t := range r.timing.Tasks[:min(len(r.timing.Tasks), most)] {
		id := t.TaskID[:min(len(t.TaskID), 8)]
		for _, part := range []bar{
			{name: id + " provisioned", begin: t.CreatedAt, end: t.PullStartedAt, kind: "done"},
			{name: id + " image pulled", begin: t.PullStartedAt, end: t.PullStoppedAt},
			{name: id + " started", begin: t.PullStoppedAt, end: t.StartedAt, kind: "active"},
			{name: id + " healthy", begin: t.StartedAt, end: t.HealthyBy, kind: "active"},
		} {
			if !part.begin.IsZero() && !part.end.IsZero() {
				bars = append(bars, part)
			}
		}
	}
	for _, t := range r.tasks[:min(len(r.tasks), most)] {
		if !t.at.StartedAt.IsZero() && t.at.StoppedAt.After(t.at.StartedAt) {
			bars = append(bars, bar{name: t.id[:min(len(t.id), 8)] + " ran, then failed", begin: t.at.StartedAt, end: t.at.StoppedAt, kind: "crit"})
		}
	}
	return bars
}

// chart is a gantt in mermaid's language. Times are drawn from zero.
// https://mermaid.js.org/syntax/gantt.html
func chart(from, to time.Time, sections []section) string {
	axis := "%M:%S"
	if to.Sub(from) > time.Hour {
		axis = "%H:%M:%S"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "```mermaid\ngantt\n    dateFormat YYYY-MM-DD HH:mm:ss.SSS\n    axisFormat %s\n    todayMarker off\n", axis)
	for _, s := range sections {
		bars := slices.DeleteFunc(slices.Clone(s.bars), func(one bar) bool {
			return one.end.Sub(one.begin) < to.Sub(from)/chartable && one.kind != "crit"
		})
		for i, one := range bars[:min(len(bars), mostBars)] {
			if i == 0 {
				fmt.Fprintf(&b, "    section %s\n", s.name)
			}
			kind := one.kind
			if kind != "" {
				kind += ", "
			}
			fmt.Fprintf(&b, "    %s (%s) :%s%s, %s\n", chartName(one.name), elapsed(one.end.Sub(one.begin)), kind,
				chartTime(one.begin.Sub(from)), chartTime(max(one.end.Sub(from), one.begin.Sub(from)+time.Millisecond)))
		}
	}
	return b.String() + "```\n\n"
}

// chartTime is a time since the start, on a day without changes of the clock.
func chartTime(d time.Duration) string {
	return time.Unix(0, 0).UTC().Add(max(d, 0)).Format("2006-01-02 15:04:05.000")
}

// chartName is text without what mermaid would read as its own.
func chartName(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || strings.ContainsRune(":;#%<>`\"\\{}", c) {
			return ' '
		}
		return c
	}, oneLine(text))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 48 {
		text = string(runes[:47]) + "…"
	}
	return text
}
