package inputs

import (
	"fmt"
	"strings"
)

// item is one entry of a list and the line that it starts on, from 1.
type item struct {
	text string
	line int
}

// list splits value at line ends, and at commas if commas is set. An entry in
// double quotes, from its first to its last character, may hold both; a quote
// inside is doubled. Blanks around entries and empty entries are dropped.
// This is how docker/build-push-action reads its lists, which are CSV.
func list(value string, commas bool) ([]item, error) {
	var items []item
	line := 1
	separators := "\n"
	if commas {
		separators = "\n,"
	}
	for value != "" {
		start := line
		text, rest, quoted, err := quotedEntry(value, separators)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", start, err)
		}
		if !quoted {
			end := strings.IndexAny(value, separators)
			if end < 0 {
				end = len(value)
			}
			text, rest = value[:end], value[end:]
		}
		if text = strings.TrimSpace(text); text != "" {
			items = append(items, item{text: text, line: start})
		}
		if rest != "" {
			rest = rest[1:] // the separator
		}
		line += strings.Count(value[:len(value)-len(rest)], "\n")
		value = rest
	}
	return items, nil
}

// quotedEntry reads an entry in quotes at the start of value; rest starts with
// the separator. It is not quoted if more than blanks follows the second quote.
func quotedEntry(value, separators string) (text, rest string, quoted bool, err error) {
	body, ok := strings.CutPrefix(strings.TrimLeft(value, " \t"), `"`)
	if !ok {
		return "", "", false, nil
	}
	var b strings.Builder
	for {
		inside, after, found := strings.Cut(body, `"`)
		if !found {
			return "", "", false, fmt.Errorf("a double quote is not closed")
		}
		b.WriteString(inside)
		body = after
		if !strings.HasPrefix(body, `"`) {
			break
		}
		b.WriteByte('"')
		body = body[1:]
	}
	rest = strings.TrimLeft(body, " \t\r")
	if rest != "" && !strings.ContainsAny(rest[:1], separators) {
		return "", "", false, nil
	}
	return b.String(), rest, true, nil
}
