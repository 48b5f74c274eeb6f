package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/actions"
	"github.com/towline/towline/internal/problem"
)

// Outputs shows the action's outputs, if any were set.
func (r *Reporter) Outputs() {
	r.mu.Lock()
	outputs := slices.Clone(r.outputs)
	r.mu.Unlock()
	if len(outputs) == 0 {
		return
	}
	r.runner.Group("Outputs")
	width := 0
	for _, o := range outputs {
		width = max(width, len(o.name))
	}
	for _, o := range outputs {
		for i, line := range strings.Split(o.value, "\n") {
			name := o.name
			if i > 0 {
				name = ""
			}
			r.runner.Line(fmt.Sprintf("%-*s %s", width, name, line))
		}
	}
	r.runner.EndGroup()
}

// Finish writes the job summary. Ok says whether the run succeeded.
func (r *Reporter) Finish(ok bool) error {
	folded := r.runner.Folded(actions.Warning)
	r.mu.Lock()
	text := r.summary(ok, folded > 0)
	r.mu.Unlock()
	return r.runner.Summary(text)
}

// summary is the run in Markdown, what matters most first, for GitHub shows no
// more than 1 MiB. Its warnings are listed when GitHub does not keep them all as
// annotations. r.mu is held.
func (r *Reporter) summary(ok, warnings bool) string {
	var b strings.Builder
	mark := "✅"
	if !ok {
		mark = "❌"
	}
	fmt.Fprintf(&b, "### %s Towline: %s\n\n", mark, escape(r.headline(ok)))
	for _, p := range r.errors {
		b.WriteString(r.caution(p))
	}
	b.WriteString(r.failingTasks())
	b.WriteString(r.factTable())
	b.WriteString(r.serviceTable())
	if warnings {
		fmt.Fprintf(&b, "<details><summary>%s</summary>\n\n", count(len(r.warnings), "warning"))
		for _, w := range r.warnings[:min(len(r.warnings), mostRows)] {
			place := ""
			if w.File != "" {
				place = code(fmt.Sprintf("%s:%d", w.File, w.Line)) + " "
			}
			fmt.Fprintf(&b, "- %s%s\n", place, cell(clip(w.Message, maxLine)))
		}
		b.WriteString("\n</details>\n\n")
	}
	b.WriteString(r.changeList())
	b.WriteString(r.timeline())
	b.WriteString(r.phaseTable())
	b.WriteString(r.stepTable())
	b.WriteString(r.newTasks())
	b.WriteString(r.hints())
	return b.String()
}

// mostRows bounds a table or list of the summary.
const mostRows = 100

// factTable is what a reader looks for first.
func (r *Reporter) factTable() string {
	if len(r.facts) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| | |\n|---|---|\n")
	for _, f := range r.facts {
		text := value(clip(f.value, maxLine))
		switch f.name {
		case "Image":
			text = linked(text, imageURL(f.value))
		case "Task definition":
			text = definitionLinks(f.value)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", f.name, text)
	}
	return b.String() + "\n"
}

// changeList is what is different in the task definition.
func (r *Reporter) changeList() string {
	if len(r.changes) == 0 {
		return ""
	}
	var lines []string
	for _, c := range r.changes[:min(len(r.changes), mostRows)] {
		lines = append(lines, "  "+c.path)
		if c.before != "" {
			lines = append(lines, "- "+short(c.before))
		}
		if c.after != "" {
			lines = append(lines, "+ "+short(c.after))
		}
	}
	if more := len(r.changes) - mostRows; more > 0 {
		lines = append(lines, fmt.Sprintf("  and %s more", count(more, "change")))
	}
	return "#### Changes of the task definition\n\n" + fence("diff", lines) + "\n"
}

// phaseTable is what the chart says, in words.
func (r *Reporter) phaseTable() string {
	if len(r.phases) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| Phase | Time | |\n|---|---:|---|\n")
	for _, p := range r.phases {
		took, how := p.took, "done"
		switch {
		case !p.over:
			took, how = time.Since(p.begin), "not finished"
		case p.failed:
			how = "**failed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(p.title), elapsed(took), how)
	}
	return b.String() + "\n"
}

// stepTable lists the build's steps, folded.
func (r *Reporter) stepTable() string {
	var rows strings.Builder
	cached, ran := 0, 0
	for _, s := range r.order {
		if s.quiet {
			continue
		}
		how := "run"
		switch {
		case s.failed:
			how = "**failed**"
		case s.cached:
			how = "cached"
		case s.base:
			how = "base"
		case !s.over:
			how = "not finished"
		}
		if s.cached {
			cached++
		} else if !s.base {
			ran++
		}
		if s.number > mostRows {
			continue
		}
		layer := ""
		if s.size > 0 {
			layer = size(s.size)
		}
		took := ""
		if s.over && !s.cached {
			took = elapsed(s.took)
		}
		fmt.Fprintf(&rows, "| %d | %s | %s | %s | %s |\n", s.number, code(oneLine(s.name)), how, took, layer)
	}
	if rows.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("<details><summary>Build: %s run, %d cached</summary>\n\n| | Step | | Time | Layer |\n|---:|---|---|---:|---:|\n%s\n</details>\n\n",
		count(ran, "step"), cached, rows.String())
}

// caution is a problem as an alert. What stands on lines of its own is a
// snippet to copy. The lines that belong to it follow, unless they are told with
// the failing tasks.
func (r *Reporter) caution(p *problem.Error) string {
	sentence, snippet, _ := strings.Cut(p.Error(), "\n")
	if p.File != "" {
		place := p.File
		if p.Line > 0 {
			place += fmt.Sprintf(":%d", p.Line)
		}
		sentence = place + ": " + sentence
	}
	var b strings.Builder
	fmt.Fprintf(&b, "> [!CAUTION]\n> %s\n", escape(sentence))
	if snippet != "" {
		block := fence("text", strings.Split(snippet, "\n"))
		fmt.Fprintf(&b, ">\n> %s\n", strings.ReplaceAll(strings.TrimSuffix(block, "\n"), "\n", "\n> "))
	}
	b.WriteString("\n")
	if len(p.Detail) > 0 && (p.File != "" || len(r.tasks) == 0) {
		last := slices.Clone(p.Detail[max(0, len(p.Detail)-mostRows):])
		for i, line := range last {
			last[i] = clip(line, maxLine)
		}
		b.WriteString(fence("text", last) + "\n")
	}
	return b.String()
}

// escape keeps text from being read as Markdown or HTML.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "|", "\\|").Replace(text)
}

// cell is text for one cell of a table.
func cell(text string) string { return strings.Join(strings.Fields(escape(text)), " ") }

// value is a fact's value: an address to follow, or code.
func value(text string) string {
	if strings.HasPrefix(text, "https://") && !strings.ContainsAny(text, " <>|") {
		return "<" + text + ">"
	}
	return code(text)
}

// code is text for one cell of a table, in the typewriter face.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "<code>" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "&#124;", "\n", " ").Replace(text) + "</code>"
}

// fence is a code block that its content cannot end.
func fence(language string, lines []string) string {
	text := strings.Join(lines, "\n")
	ticks := "```"
	for strings.Contains(text, ticks) {
		ticks += "`"
	}
	return ticks + language + "\n" + text + "\n" + ticks + "\n"
}
