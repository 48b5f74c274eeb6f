package taskdef

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxYAML is how large a file may be, in bytes: comments and all, many times
	// what ECS takes.
	maxYAML = 1 << 20
	// maxAliased is how many values aliases may add.
	maxAliased = 100_000
)

// ParseYAML is Parse for YAML, by its core schema: yes, on and 2026-01-02 are
// strings. A number keeps the form in which it is written. Where ECS takes
// strings only, such as the value of an environment variable, what is not in
// quotes is a string too, so that 0755 and true arrive as they are written.
func ParseYAML(data []byte) (Document, error) {
	data = bytes.TrimPrefix(bytes.Clone(data), []byte("\ufeff"))
	root, err := readYAML(data)
	if err == nil {
		root, err = registerable(root)
	}
	if err == nil {
		err = check(root)
	}
	if err != nil {
		return Document{}, fileProblem(data, err, "Correct the file at this place.")
	}
	return Document{root: root}, nil
}

// readYAML parses one YAML document.
func readYAML(data []byte) (root node, err error) {
	if len(data) > maxYAML {
		return node{}, &placedError{0, fmt.Sprintf("the file has %d bytes, more than %d", len(data), maxYAML)}
	}
	if i := invalidUTF8(data); i >= 0 {
		return node{}, &placedError{i, "text is not valid UTF-8"}
	}
	defer func() { // the parser is not ours, and files are strangers'
		if fault := recover(); fault != nil {
			root, err = node{}, &placedError{0, fmt.Sprintf("the YAML cannot be read: %v", fault)}
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	r := yamlReader{data: data, anchors: map[string]node{}}
	if err != nil {
		return node{}, r.syntax(err)
	}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	switch len(docs) {
	case 0:
		return node{}, &placedError{0, "the file is empty"}
	case 1:
		return r.value(docs[0].Body, place{})
	default:
		return node{}, &placedError{r.offset(docs[1].Body), "a second document begins here; there may be one"}
	}
}

// yamlReader turns YAML into nodes.
type yamlReader struct {
	data    []byte
	anchors map[string]node
	aliased int
	depth   int
}

// place is where a value stands: the names of the members on the way there.
type place []string

func (p place) in(name string) place { return append(slices.Clip(p), name) }

// isText says whether ECS takes nothing but a string there.
func (p place) isText() bool {
	if len(p) == 0 {
		return false
	}
	last, parent := p[len(p)-1], ""
	if len(p) > 1 {
		parent = p[len(p)-2]
	}
	switch parent {
	case "dockerLabels", "options", "labels", "driverOpts", "command", "entryPoint", "links", "dnsServers", "dnsSearchDomains",
		"dockerSecurityOptions", "requiresCompatibilities", "credentialSpecs":
		return true
	}
	switch last {
	case "value", "valueFrom", "name", "key", "image", "family", "hostname", "user", "workingDirectory":
		return true
	case "cpu", "memory":
		return len(p) == 1 || p[0] == "taskDefinition" && len(p) == 2
	}
	return false
}

func (r *yamlReader) offset(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	return r.place(n.GetToken())
}

// place is where a token begins, in bytes: the parser counts lines and characters.
func (r *yamlReader) place(t *token.Token) int {
	if t == nil || t.Position == nil {
		return 0
	}
	at := 0
	for range t.Position.Line - 1 {
		end := bytes.IndexByte(r.data[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	line, _, _ := bytes.Cut(r.data[at:], []byte("\n"))
	runes := []rune(string(line))
	return at + len(string(runes[:min(max(t.Position.Column-1, 0), len(runes))]))
}

// syntax is the parser's error with its place, without the excerpt that it shows.
func (r *yamlReader) syntax(err error) error {
	if syntax, ok := errors.AsType[yaml.Error](err); ok {
		return &placedError{r.place(syntax.GetToken()), syntax.GetMessage()}
	}
	return &placedError{0, err.Error()}
}

func (r *yamlReader) value(n ast.Node, at place) (node, error) {
	const deepest = 1000
	if r.depth++; r.depth > deepest {
		return node{}, &placedError{r.offset(n), "nested too deeply"}
	}
	defer func() { r.depth-- }()
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.mapping(n, n.Values, at)
	case *ast.MappingValueNode:
		return r.mapping(n, []*ast.MappingValueNode{n}, at)
	case *ast.SequenceNode:
		list := node{kind: array, at: r.offset(n)}
		for _, item := range n.Values {
			value, err := r.value(item, at.in(""))
			if err != nil {
				return node{}, err
			}
			list.items = append(list.items, value)
		}
		return list, nil
	case *ast.AnchorNode:
		value, err := r.value(n.Value, at)
		if err == nil {
			r.anchors[n.Name.GetToken().Value] = value
		}
		return value, err
	case *ast.AliasNode:
		return r.alias(n)
	case *ast.TagNode:
		if n.Start.Value == "!!str" {
			return r.scalar(n.Value, place{"value"})
		}
		if slices.Contains([]string{"!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq"}, n.Start.Value) {
			return r.value(n.Value, at)
		}
		return node{}, &placedError{r.offset(n), fmt.Sprintf("tag %s has no meaning here", n.Start.Value)}
	case nil:
		return node{kind: null, raw: []byte("null")}, nil
	default:
		return r.scalar(n, at)
	}
}

func (r *yamlReader) alias(n *ast.AliasNode) (node, error) {
	name := n.Value.GetToken().Value
	value, known := r.anchors[name]
	if !known {
		return node{}, &placedError{r.offset(n), fmt.Sprintf("there is no anchor %q before this", name)}
	}
	if r.aliased += value.size(); r.aliased > maxAliased {
		return node{}, &placedError{r.offset(n), "the aliases stand for too much"}
	}
	return value, nil
}

// size counts the values in a value.
func (n node) size() int {
	size := 1
	for _, m := range n.members {
		size += m.value.size()
	}
	for _, item := range n.items {
		size += item.size()
	}
	return size
}

// mapping reads members; those of "<<" give way to the others.
func (r *yamlReader) mapping(n ast.Node, values []*ast.MappingValueNode, at place) (node, error) {
	o := node{kind: object, at: r.offset(n)}
	if len(values) > 0 { // the parser's token is the colon
		o.at = r.offset(values[0].Key)
	}
	var merged []member
	for _, v := range values {
		if v.Key.IsMergeKey() {
			members, err := r.merge(v.Value, at)
			if err != nil {
				return node{}, err
			}
			merged = append(merged, members...)
			continue
		}
		key, err := r.scalar(v.Key, place{"name"})
		if err != nil {
			return node{}, err
		}
		name := key.str()
		if o.get(name).kind != absent {
			return node{}, &placedError{key.at, fmt.Sprintf("member %q appears twice", name)}
		}
		value, err := r.value(v.Value, at.in(name))
		if err != nil {
			return node{}, err
		}
		o.members = append(o.members, member{key: name, rawKey: key.raw, value: value})
	}
	for _, m := range merged {
		if o.get(m.key).kind == absent {
			o.members = append(o.members, m)
		}
	}
	return o, nil
}

// merge reads what "<<" is given.
func (r *yamlReader) merge(n ast.Node, at place) ([]member, error) {
	from, err := r.value(n, at)
	if err != nil {
		return nil, err
	}
	sources := []node{from}
	if from.kind == array {
		sources = from.items
	}
	var members []member
	for _, source := range sources {
		if source.kind != object {
			return nil, &placedError{r.offset(n), "<< takes an object, or a list of objects"}
		}
		members = append(members, source.members...)
	}
	return members, nil
}

// scalar reads a value that holds no others.
func (r *yamlReader) scalar(n ast.Node, at place) (node, error) {
	offset := r.offset(n)
	quoted := func(written string) (node, error) { return node{kind: text, raw: quote(written), at: offset}, nil }
	switch n := n.(type) {
	case *ast.LiteralNode:
		return quoted(n.Value.Value)
	case *ast.StringNode:
		if t := n.GetToken().Type; t == token.SingleQuoteType || t == token.DoubleQuoteType {
			return quoted(n.Value)
		}
		return r.plain(n.Value, offset, at)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return r.plain(n.GetToken().Value, offset, at)
	default:
		return node{}, &placedError{offset, fmt.Sprintf("%s is not understood here", n.Type())}
	}
}

// plain resolves a scalar that is not in quotes.
func (r *yamlReader) plain(written string, offset int, at place) (node, error) {
	n := node{raw: []byte(written), at: offset}
	switch written {
	case "", "~", "null", "Null", "NULL":
		if at.isText() && at[len(at)-1] == "value" { // nothing behind "value:"
			return node{kind: text, raw: []byte(`""`), at: offset}, nil
		}
		return node{kind: null, raw: []byte("null"), at: offset}, nil
	}
	if at.isText() {
		return node{kind: text, raw: quote(written), at: offset}, nil
	}
	switch written {
	case "true", "True", "TRUE":
		return node{kind: boolean, raw: []byte("true"), at: offset}, nil
	case "false", "False", "FALSE":
		return node{kind: boolean, raw: []byte("false"), at: offset}, nil
	}
	switch {
	case regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`).MatchString(written):
		n.kind = number
		return n, nil
	case regexp.MustCompile(`^[-+]?(0[xob][0-9a-fA-F_]+|[0-9][0-9_]*|[0-9]*\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$`).MatchString(written):
		return node{}, &placedError{offset, fmt.Sprintf("%s can be read as more than one number: write it as a plain number, or in quotes", written)}
	}
	return node{kind: text, raw: quote(written), at: offset}, nil
}
