package report_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/report"
)

// Every chart of the expected results is one that mermaid draws.
func TestCharts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/reports/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	charts := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		charts += checkCharts(t, file, string(data))
	}
	if charts < 3 {
		t.Errorf("%d charts were found, want those of whole-run, whole-shift and whole-failure at least", charts)
	}
}

// No name of a step breaks the chart.
func TestChartNames(t *testing.T) {
	t.Parallel()
	for i, name := range []string{
		"RUN a: b; c # d, e", "RUN `x` \"y\" <z> {q} %% done", "section Tasks", "RUN a\r\nsection b", "[stage 2/3] RUN ::error::x", ":", "",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			_, summary := record(t, false, false, func(r *report.Reporter) {
				r.Phase("Credentials")(nil)
				end := r.Phase("Build")
				r.Build(progress.StepStarted{ID: "a", Name: name})
				pass(9 * time.Second)
				r.Build(progress.StepDone{ID: "a", Duration: 9 * time.Second})
				end(nil)
			})
			if n := checkCharts(t, name, string(summary)); n != 1 {
				t.Errorf("%q: got %d charts, want 1:\n%s", name, n, summary)
			}
		})
	}
}

// checkCharts holds each chart in text to mermaid's grammar, as far as we use it:
// a name without what separates its parts, known kinds, and an end after the start.
// https://mermaid.js.org/syntax/gantt.html
func checkCharts(t *testing.T, where, text string) (charts int) {
	t.Helper()
	setting := regexp.MustCompile(`^    (dateFormat|axisFormat|todayMarker) \S`)
	section := regexp.MustCompile(`^    section [^:;#]+$`)
	task := regexp.MustCompile(`^    [^:;#]+ \([^:;#]+\) :(?:(?:done|active|crit), )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}), (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})$`)
	const layout = "2006-01-02 15:04:05.000"
	for _, rest := range strings.Split(text, "```mermaid\n")[1:] {
		charts++
		chart, _, closed := strings.Cut(rest, "\n```\n")
		if !closed || !strings.HasPrefix(chart, "gantt\n") {
			t.Errorf("%s: no gantt chart, or no end of it:\n%s", where, chart)
		}
		sections := 0
		for _, line := range strings.Split(chart, "\n")[1:] {
			if section.MatchString(line) {
				sections++
				continue
			}
			if setting.MatchString(line) {
				continue
			}
			m := task.FindStringSubmatch(line)
			if m == nil || sections == 0 {
				t.Errorf("%s: mermaid does not read %q here", where, line)
				continue
			}
			begin, beginErr := time.Parse(layout, m[1])
			end, endErr := time.Parse(layout, m[2])
			if beginErr != nil || endErr != nil || !begin.Before(end) {
				t.Errorf("%s: %q does not begin before it ends", where, line)
			}
		}
	}
	return charts
}
