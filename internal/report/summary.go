package report

import (
	"fmt"
	"strings"
	"time"
)

// Finish writes the job summary. Ok says whether the run succeeded.
func (r *Reporter) Finish(ok bool) error {
	r.mu.Lock()
	text := r.summary(ok)
	r.mu.Unlock()
	return r.runner.Summary(text)
}

func (r *Reporter) summary(ok bool) string {
	var b strings.Builder
	heading := "### Towline: done"
	if !ok {
		heading = "### Towline: failed"
	}
	fmt.Fprintf(&b, "%s in %s\n\n", heading, elapsed(time.Since(r.begin)))
	for _, p := range r.errors {
		fmt.Fprintf(&b, "> [!CAUTION]\n> %s\n", strings.ReplaceAll(escape(p.Error()), "\n", "\n> "))
		if len(p.Detail) > 0 {
			fmt.Fprintf(&b, "\n<details><summary>Last lines</summary>\n\n%s\n</details>\n", fence(p.Detail))
		}
		b.WriteString("\n")
	}
	if len(r.facts) > 0 {
		b.WriteString("| | |\n|---|---|\n")
		for _, f := range r.facts {
			fmt.Fprintf(&b, "| %s | %s |\n", f.name, code(f.value))
		}
		b.WriteString("\n")
	}
	if len(r.tasks) > 0 {
		b.WriteString("| Failed task | Why | What to do |\n|---|---|---|\n")
		for _, t := range r.tasks {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", code(t.id), cell(t.summary), cell(t.fix))
		}
		b.WriteString("\n")
	}
	if len(r.phases) > 0 {
		b.WriteString("| Phase | Time |\n|---|---|\n")
		for _, p := range r.phases {
			took := p.took
			if took == 0 {
				took = time.Since(p.begin)
			}
			fmt.Fprintf(&b, "| %s | %s |\n", cell(p.title), elapsed(took))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// escape keeps text from being read as Markdown or HTML.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "|", "\\|").Replace(text)
}

// cell is text for one cell of a table.
func cell(text string) string { return strings.Join(strings.Fields(escape(text)), " ") }

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
