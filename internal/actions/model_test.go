package actions

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// processed is a command that the runner would carry out.
type processed struct {
	Name  string
	Props string
	Data  string
}

// runnerLines splits like the runner's reader: at LF, CR and CRLF.
func runnerLines(stream string) []string {
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	return strings.Split(strings.TrimSuffix(stream, "\n"), "\n")
}

// shapes drops what a comparison by culture does not see, which is more than
// the runner's really drops.
func shapes(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.In(c, unicode.C, unicode.M) {
			return -1
		}
		return c
	}, s)
}

// commandIn reads one line as the runner does: a `::name ...::data` after
// blanks, else a legacy `##[name ...]data` anywhere. known says which names count.
func commandIn(line string, known func(string) bool) (processed, bool) {
	line = shapes(line)
	if rest, ok := strings.CutPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::"); ok {
		if info, data, found := strings.Cut(rest, "::"); found {
			name, props, _ := strings.Cut(info, " ")
			if known(name) {
				return processed{name, props, unescape(data)}, true
			}
		}
	}
	if _, rest, ok := strings.Cut(line, "##["); ok {
		if info, data, found := strings.Cut(rest, "]"); found {
			name, props, _ := strings.Cut(info, " ")
			if known(name) {
				return processed{name, props, unescape(data)}, true
			}
		}
	}
	return processed{}, false
}

func unescape(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "%0D", "\r"), "%0A", "\n")
	return strings.ReplaceAll(s, "%25", "%")
}

// runStream gives the commands that the runner carries out, and what it shows
// as text. It fails the test when the stream ends with commands stopped.
func runStream(t *testing.T, stream string) (commands []processed, text []string) {
	t.Helper()
	token := ""
	known := func(name string) bool {
		switch strings.ToLower(name) {
		case "debug", "notice", "warning", "error", "group", "endgroup", "add-mask", "add-matcher",
			"remove-matcher", "stop-commands", "echo", "set-output", "save-state", "set-env", "add-path":
			return true
		}
		return token != "" && strings.EqualFold(name, token)
	}
	for _, line := range runnerLines(stream) {
		c, ok := commandIn(line, known)
		switch {
		case !ok:
			text = append(text, line)
		case token != "" && strings.EqualFold(c.Name, token):
			token = ""
		case token != "":
			text = append(text, line)
		case c.Name == "stop-commands":
			token = c.Data
		default:
			commands = append(commands, c)
		}
	}
	if token != "" {
		t.Errorf("the stream ends with commands stopped:\n%s", stream)
	}
	return commands, text
}

// fileOutputs reads a file of outputs as the runner does.
func fileOutputs(file string) (map[string]string, error) {
	found := map[string]string{}
	lines := strings.SplitAfter(file, "\n")
	for len(lines) > 0 {
		line := strings.TrimSuffix(lines[0], "\n")
		lines = lines[1:]
		if line == "" {
			continue
		}
		equals, here := strings.Index(line, "="), strings.Index(line, "<<")
		if equals >= 0 && (here < 0 || equals < here) {
			found[line[:equals]] = line[equals+1:]
			continue
		}
		name, delimiter, ok := strings.Cut(line, "<<")
		if !ok || name == "" || delimiter == "" {
			return nil, fmt.Errorf("invalid format %q", line)
		}
		var value strings.Builder
		for {
			if len(lines) == 0 {
				return nil, fmt.Errorf("matching delimiter not found %q", delimiter)
			}
			line, lines = lines[0], lines[1:]
			if strings.TrimSuffix(line, "\n") == delimiter {
				break
			}
			value.WriteString(line)
		}
		found[name] = strings.TrimSuffix(value.String(), "\n")
	}
	return found, nil
}
