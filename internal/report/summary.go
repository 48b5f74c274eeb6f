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

// summary is the run in Markdown. Its warnings are listed when GitHub does not
// keep them all as annotations. r.mu is held.
func (r *Reporter) summary(ok, warnings bool) string {
	var b strings.Builder
	heading := "### Towline: done"
	if !ok {
		heading = "### Towline: failed"
	}
	fmt.Fprintf(&b, "%s in %s\n\n", heading, elapsed(time.Since(r.begin)))
	for _, p := range r.errors {
		b.WriteString(caution(p))
	}
	if len(r.facts) > 0 {
		b.WriteString("| | |\n|---|---|\n")
		for _, f := range r.facts {
			fmt.Fprintf(&b, "| %s | %s |\n", f.name, value(f.value))
		}
		b.WriteString("\n")
	}
	b.WriteString(r.taskTable())
	if warnings {
		fmt.Fprintf(&b, "<details><summary>%s</summary>\n\n", count(len(r.warnings), "warning"))
		for _, w := range r.warnings {
			place := ""
			if w.File != "" {
				place = code(fmt.Sprintf("%s:%d", w.File, w.Line)) + " "
			}
			fmt.Fprintf(&b, "- %s%s\n", place, cell(w.Message))
		}
		b.WriteString("\n</details>\n\n")
	}
	b.WriteString(r.phaseTable())
	return b.String()
}

// taskTable lists the failed tasks, those that failed alike together.
func (r *Reporter) taskTable() string {
	if len(r.tasks) == 0 {
		return ""
	}
	alike := map[failedTask][]string{}
	var order []failedTask
	for _, t := range r.tasks {
		key := failedTask{summary: t.summary, fix: t.fix}
		if alike[key] == nil {
			order = append(order, key)
		}
		alike[key] = append(alike[key], t.id)
	}
	var b strings.Builder
	b.WriteString("| Failed | Why | What to do |\n|---|---|---|\n")
	for _, key := range order {
		fmt.Fprintf(&b, "| %s, the last: %s | %s | %s |\n", count(len(alike[key]), "task"), code(alike[key][len(alike[key])-1]), cell(key.summary), cell(key.fix))
	}
	return b.String() + "\n"
}

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
			how = "failed"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(p.title), elapsed(took), how)
	}
	return b.String() + "\n"
}

// caution is a problem as an alert. What stands on lines of its own is a
// snippet to copy; the lines that belong to it are folded.
func caution(p *problem.Error) string {
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
		block := fence(strings.Split(snippet, "\n"))
		fmt.Fprintf(&b, ">\n> %s\n", strings.ReplaceAll(strings.TrimSuffix(block, "\n"), "\n", "\n> "))
	}
	b.WriteString("\n")
	if len(p.Detail) > 0 {
		fmt.Fprintf(&b, "<details><summary>Details</summary>\n\n%s\n</details>\n\n", fence(p.Detail))
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
func fence(lines []string) string {
	text := strings.Join(lines, "\n")
	ticks := "```"
	for strings.Contains(text, ticks) {
		ticks += "`"
	}
	return ticks + "text\n" + text + "\n" + ticks + "\n"
}
