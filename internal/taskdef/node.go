package taskdef

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// A node is one JSON value. Scalars keep the bytes they were written with, so
// that numbers keep their form and strings their escapes; objects keep their
// members' order. Nodes are never changed once they are made.
type node struct {
	kind    kind
	raw     []byte // scalars only
	members []member
	items   []node
	at      int // offset of the first byte in the text that was read
}

type member struct {
	key    string
	rawKey []byte
	value  node
}

type kind byte

const (
	absent kind = iota
	object
	array
	text
	number
	boolean
	null
)

func (k kind) String() string {
	return [...]string{"nothing", "an object", "a list", "a string", "a number", "true or false", "null"}[k]
}

// A placedError is a mistake at an offset of the text.
type placedError struct {
	offset int
	msg    string
}

func (e *placedError) Error() string { return e.msg }

// read parses one JSON value and refuses what follows it. The standard
// library judges the grammar (and limits the depth to 10,000), so that the
// reader below may rely on it.
func read(data []byte) (node, error) {
	if i := invalidUTF8(data); i >= 0 {
		return node{}, &placedError{i, "text is not valid UTF-8"}
	}
	var grammar json.RawMessage
	if err := json.Unmarshal(data, &grammar); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return node{}, &placedError{max(0, int(syntax.Offset)-1), syntax.Error()}
		}
		return node{}, &placedError{0, err.Error()}
	}
	r := reader{data: data}
	return r.value()
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// A reader walks over text that is known to be valid JSON.
type reader struct {
	data []byte
	pos  int
}

// next skips white space and the separators, whose places are known to be right.
func (r *reader) next() byte {
	for bytes.IndexByte([]byte(" \t\r\n,:"), r.data[r.pos]) >= 0 {
		r.pos++
	}
	return r.data[r.pos]
}

func (r *reader) value() (node, error) {
	c := r.next()
	n := node{at: r.pos}
	switch c {
	case '{':
		return r.object(n)
	case '[':
		return r.array(n)
	case '"':
		n.kind, n.raw = text, r.quoted()
		return n, nil
	case 't', 'f':
		n.kind = boolean
	case 'n':
		n.kind = null
	default:
		n.kind = number
	}
	for r.pos < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,]}"), r.data[r.pos]) < 0 {
		r.pos++
	}
	n.raw = r.data[n.at:r.pos]
	return n, nil
}

func (r *reader) object(n node) (node, error) {
	n.kind = object
	seen := map[string]bool{}
	for r.pos++; r.next() != '}'; {
		at := r.pos
		m := member{rawKey: r.quoted()}
		m.key = unquote(m.rawKey)
		if seen[m.key] {
			return node{}, &placedError{at, fmt.Sprintf("member %q appears twice", m.key)}
		}
		seen[m.key] = true
		var err error
		if m.value, err = r.value(); err != nil {
			return node{}, err
		}
		n.members = append(n.members, m)
	}
	r.pos++
	return n, nil
}

func (r *reader) array(n node) (node, error) {
	n.kind = array
	for r.pos++; r.next() != ']'; {
		item, err := r.value()
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	r.pos++
	return n, nil
}

// quoted takes a string with its quotes.
func (r *reader) quoted() []byte {
	start := r.pos
	for r.pos++; r.data[r.pos] != '"'; r.pos++ {
		if r.data[r.pos] == '\\' {
			r.pos++
		}
	}
	r.pos++
	return r.data[start:r.pos]
}

// unquote decodes a JSON string that is known to be valid.
func unquote(raw []byte) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return string(raw)
	}
	return s
}

// quote encodes a string. Unlike json.Marshal it leaves <, > and & alone.
func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can always be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func stringNode(s string) node { return node{kind: text, raw: quote(s)} }

// get gives the member with this name, or an absent node.
func (n node) get(key string) node {
	for _, m := range n.members {
		if m.key == key {
			return m.value
		}
	}
	return node{}
}

// str is the string's value, or "" for anything else.
func (n node) str() string {
	if n.kind != text {
		return ""
	}
	return unquote(n.raw)
}

// with gives a copy in which the member has this value; a new one comes last.
func (n node) with(key string, value node) node {
	n.members = slices.Clone(n.members)
	for i := range n.members {
		if n.members[i].key == key {
			n.members[i].value = value
			return n
		}
	}
	n.members = append(n.members, member{key: key, rawKey: quote(key), value: value})
	return n
}

// without gives a copy that lacks the members with these names.
func (n node) without(keys ...string) node {
	n.members = slices.DeleteFunc(slices.Clone(n.members), func(m member) bool {
		return slices.Contains(keys, m.key)
	})
	return n
}

// write appends the value without the white space between tokens and without
// members that are null. Every other token is written as it was read.
func (n node) write(b []byte) []byte {
	switch n.kind {
	case object:
		b = append(b, '{')
		first := true
		for _, m := range n.members {
			if m.value.kind == null {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(append(b, m.rawKey...), ':')
			b = m.value.write(b)
		}
		return append(b, '}')
	case array:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.write(b)
		}
		return append(b, ']')
	default:
		return append(b, n.raw...)
	}
}
