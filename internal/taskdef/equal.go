package taskdef

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Equal says whether registering other would make the same task definition.
//
// Order of members, of environment, of secrets and of tags does not count;
// null, an empty list and nothing are the same, and so are 443 and 443.0, and
// a value that ECS fills in where it is left out and that value written down.
// Everything else does count, images above all: at worst a revision too many
// is registered.
func (d Document) Equal(other Document) bool {
	return reflect.DeepEqual(canonical(d), canonical(other))
}

// numeral is a number in normal form.
type numeral string

// canonical turns a document into maps, slices, strings, numerals and bools
// of which equal ones mean the same.
func canonical(d Document) map[string]any {
	root, _ := plain(d.root, "").(map[string]any)
	if root == nil {
		return nil
	}
	awsvpc := root["networkMode"] == "awsvpc"
	for _, c := range objects(root["containerDefinitions"]) {
		if c["essential"] == true {
			delete(c, "essential")
		}
		if c["cpu"] == numeral("0") {
			delete(c, "cpu")
		}
		for _, p := range objects(c["portMappings"]) {
			if p["protocol"] == "tcp" {
				delete(p, "protocol")
			}
			if awsvpc && p["hostPort"] == p["containerPort"] {
				delete(p, "hostPort")
			}
		}
	}
	for _, v := range objects(root["volumes"]) {
		if host, ok := v["host"].(map[string]any); ok && len(host) == 0 {
			delete(v, "host")
		}
	}
	return root
}

func objects(list any) []map[string]any {
	items, _ := list.([]any)
	var found []map[string]any
	for _, item := range items {
		if o, ok := item.(map[string]any); ok {
			found = append(found, o)
		}
	}
	return found
}

// plain decodes a node; name is that of the member that holds it.
func plain(n node, name string) any {
	switch n.kind {
	case object:
		o := make(map[string]any, len(n.members))
		for _, m := range n.members {
			v := plain(m.value, m.key)
			if list, ok := v.([]any); v == nil || ok && len(list) == 0 {
				continue
			}
			o[m.key] = v
		}
		return o
	case array:
		list := make([]any, 0, len(n.items))
		for _, item := range n.items {
			list = append(list, plain(item, ""))
		}
		if by := keyOf(name); by != "" {
			slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(label(a, by), label(b, by)) })
		}
		return list
	case text:
		return n.str()
	case number:
		return normal(string(n.raw))
	case boolean:
		return string(n.raw) == "true"
	default:
		return nil
	}
}

// same says whether two values mean the same.
func same(a, b node) bool { return reflect.DeepEqual(plain(a, ""), plain(b, "")) }

// keyOf names the member by which a list is sorted whose order means nothing.
// Entries with the same key keep their order, for the last one may win.
func keyOf(list string) string {
	switch list {
	case "environment", "secrets":
		return "name"
	case "tags":
		return "key"
	}
	return ""
}

// label is the string member of an object, or "".
func label(v any, member string) string {
	o, _ := v.(map[string]any)
	s, _ := o[member].(string)
	return s
}

// normal gives numbers of equal value the same text, without arithmetic: an
// exponent may be huge.
func normal(raw string) numeral {
	s, negative := strings.CutPrefix(raw, "-")
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(s[i+1:]); err != nil || exponent > 1<<30 || exponent < -1<<30 {
			return numeral(raw)
		}
		mantissa = s[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	if digits == "" {
		return "0"
	}
	short := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(short)
	const plainest = 21 // digits that are still written without an exponent
	switch {
	case exponent >= 0 && len(short)+exponent <= plainest:
		short += strings.Repeat("0", exponent)
	case exponent < 0 && -exponent < plainest:
		if missing := -exponent - len(short) + 1; missing > 0 {
			short = strings.Repeat("0", missing) + short
		}
		short = short[:len(short)+exponent] + "." + short[len(short)+exponent:]
	default:
		short += "e" + strconv.Itoa(exponent)
	}
	if negative {
		short = "-" + short
	}
	return numeral(short)
}

// sortedKeys lists the names of both objects, sorted.
func sortedKeys(a, b map[string]any) []string {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
