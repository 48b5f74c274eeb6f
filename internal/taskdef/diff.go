package taskdef

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// masked stands where a value might be a secret.
const masked = "***"

// Change is one difference between two documents.
type Change struct {
	// Path names the place: containerDefinitions[web].environment[LEVEL].
	Path string
	// Before and After are the values, strings in Go's quotes, or "" where
	// there is none. Values that look like secrets are "***".
	Before, After string
}

// Diff lists what differs from d to other, by path. It is empty exactly if
// the two are Equal.
func (d Document) Diff(other Document) []Change {
	diff := differ{
		secretName: regexp.MustCompile(`(?i:secret|passw|passphrase|pwd|token|credential|private|api.?key|access.?key|signing|dsn|webhook|cookie|[_.-]key$|(^|[_.-])auth([_.-]|$))|[a-z]Key$`),
		secretText: regexp.MustCompile(`(AKIA|ASIA)[A-Z0-9]{16}|-----BEGIN|eyJ[\w-]{8,}\.|gh[pousr]_\w{20}|github_pat_|xox[abprs]-|sk-\w{16}|://[^/\s@]*:[^/\s@]+@|(?i:(password|passwd|pwd|secret|token|api[-_]?key)\s*[=:]|(bearer|basic)\s+\S{8})`),
	}
	diff.compare(spot{}, canonical(d), canonical(other))
	return diff.changes
}

type differ struct {
	changes []Change

	secretName, secretText *regexp.Regexp
}

// A spot is a place in a document, and whether a name on the way there says
// that what lies below is secret.
type spot struct {
	path   string
	secret bool
}

func (d *differ) member(at spot, key string) spot {
	switch key {
	case "secrets", "secretOptions", "repositoryCredentials", "credentialSpecs":
		// They say where a secret lies.
		at.secret = false
	default:
		at.secret = at.secret || d.secretName.MatchString(key)
	}
	if at.path != "" {
		at.path += "."
	}
	at.path += key
	return at
}

func (s spot) item(name string) spot {
	s.path += "[" + name + "]"
	return s
}

// compare takes nil for a value that is not there.
func (d *differ) compare(at spot, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	beforeObject, ok1 := before.(map[string]any)
	afterObject, ok2 := after.(map[string]any)
	if (ok1 || before == nil) && (ok2 || after == nil) && len(beforeObject)+len(afterObject) > 0 {
		for _, key := range sortedKeys(beforeObject, afterObject) {
			d.compare(d.member(at, key), beforeObject[key], afterObject[key])
		}
		return
	}
	beforeList, ok1 := before.([]any)
	afterList, ok2 := after.([]any)
	if (ok1 || before == nil) && (ok2 || after == nil) && len(beforeList)+len(afterList) > 0 {
		d.compareLists(at, beforeList, afterList)
		return
	}
	d.add(at, before, after)
}

// compareLists matches entries by their names where all of them have one.
func (d *differ) compareLists(at spot, before, after []any) {
	from := len(d.changes)
	key := commonKey(before, after)
	if key == "" {
		for i := range max(len(before), len(after)) {
			d.compare(at.item(strconv.Itoa(i)), entry(before, i), entry(after, i))
		}
	} else {
		d.compareNamed(at, key, before, after)
	}
	if len(d.changes) == from {
		// The same entries in another order, where order counts, or nulls.
		d.changes = append(d.changes, Change{at.path, order(before, key), order(after, key)})
	}
}

func (d *differ) compareNamed(at spot, key string, before, after []any) {
	others := map[string]any{}
	for _, a := range after {
		others[label(a, key)] = a
	}
	for _, b := range before {
		name := label(b, key)
		d.compareEntry(at, key, b, others[name])
		delete(others, name)
	}
	for _, a := range after {
		if name := label(a, key); others[name] != nil {
			d.compareEntry(at, key, nil, a)
		}
	}
}

// compareEntry shows an entry that is only a name and a value as its value.
// The name of a value, unlike that of a container, tells whether it is secret.
func (d *differ) compareEntry(at spot, key string, before, after any) {
	name := label(before, key)
	if before == nil {
		name = label(after, key)
	}
	at = at.item(name)
	if holdsValue(before) || holdsValue(after) {
		at.secret = at.secret || d.secretName.MatchString(name)
	}
	for _, value := range []string{"value", "valueFrom"} {
		if isPair(before, key, value) && isPair(after, key, value) {
			d.compare(at, pairValue(before, value), pairValue(after, value))
			return
		}
	}
	d.compare(at, before, after)
}

func holdsValue(v any) bool {
	o, _ := v.(map[string]any)
	return o["value"] != nil
}

func isPair(v any, key, value string) bool {
	if v == nil {
		return true
	}
	o, ok := v.(map[string]any)
	return ok && len(o) == 2 && o[key] != nil && o[value] != nil
}

func pairValue(v any, value string) any {
	o, _ := v.(map[string]any)
	return o[value]
}

// entry gives nil past the end.
func entry(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// commonKey is the member, name or key, that every entry of both lists has
// and that tells the entries of each list apart; or "".
func commonKey(lists ...[]any) string {
	for _, key := range []string{"name", "key"} {
		if distinct(key, lists...) {
			return key
		}
	}
	return ""
}

func distinct(key string, lists ...[]any) bool {
	for _, list := range lists {
		seen := map[string]bool{}
		for _, entry := range list {
			name := label(entry, key)
			if name == "" || seen[name] {
				return false
			}
			seen[name] = true
		}
	}
	return true
}

// order writes the entries' names in their order, or how many there are.
func order(list []any, key string) string {
	if key == "" {
		return fmt.Sprintf("%d entries", len(list))
	}
	var names []string
	for _, entry := range list {
		names = append(names, label(entry, key))
	}
	return strings.Join(names, ", ")
}

func (d *differ) add(at spot, before, after any) {
	d.changes = append(d.changes, Change{Path: at.path, Before: d.show(at, before), After: d.show(at, after)})
}

// show writes a value. An ARN is where a secret lies, not the secret.
func (d *differ) show(at spot, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if !strings.HasPrefix(v, "arn:") && (at.secret || d.secretText.MatchString(v)) {
			return masked
		}
		return fmt.Sprintf("%q", v)
	case map[string]any:
		return "{}"
	case []any:
		return "[]"
	default:
		if at.secret {
			return masked
		}
		return fmt.Sprint(v)
	}
}
