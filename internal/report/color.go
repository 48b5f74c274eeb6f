package report

import "strings"

// Codes of ANSI's colours. They are of the 16 that every theme makes readable.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	blue   = "\x1b[34m"
	purple = "\x1b[35m"
	cyan   = "\x1b[36m"
	gray   = "\x1b[90m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// paint colours text where the log shows that.
func (r *Reporter) paint(code, text string) string {
	if code == "" || text == "" || !r.runner.Colors() {
		return text
	}
	return code + text + plain
}

// paintVerb colours the word that a line of columns begins with.
func (r *Reporter) paintVerb(line string) string {
	verb := strings.TrimRight(line[:min(len(line), verbWidth)], " ")
	return r.paint(colorOf(verb), verb) + line[len(verb):]
}

// colorOf is red for what failed, green for what is done, yellow for what wants
// to be looked at, gray for what happens besides, and cyan for what begins.
func colorOf(verb string) string {
	switch verb {
	case "failed", "why":
		return red
	case "done", "built", "pushed", "registered", "ended", "created", "exported", "deployed":
		return green
	case "rollback", "paused", "alarm", "to do", "note", "left", "left out":
		return yellow
	case "begin", "base", "started", "joined", "change":
		return cyan
	}
	return gray
}

// paintPrefix colours what stands before a step's output, so that steps which
// run side by side can be told apart.
func (r *Reporter) paintPrefix(number int, prefix string) string {
	colors := []string{blue, purple, cyan, yellow, green}
	return r.paint(colors[number%len(colors)], prefix)
}
