package policy

import (
	"bytes"
	"encoding/json"
	"strings"
)

// JSON is an IAM policy document of the statements, indented.
func JSON(statements []Statement) string {
	type document struct {
		Version   string
		Statement []jsonStatement
	}
	d := document{Version: "2012-10-17"}
	for _, s := range statements {
		d.Statement = append(d.Statement, toJSON(s))
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		panic(err) // strings always encode
	}
	return out.String()
}

type jsonStatement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Principal map[string]string         `json:",omitempty"`
	Action    any                       `json:",omitempty"`
	Resource  any                       `json:",omitempty"`
	Condition map[string]map[string]any `json:",omitempty"`
}

func toJSON(s Statement) jsonStatement {
	out := jsonStatement{Sid: s.Sid, Effect: "Allow", Action: oneOrMore(s.Actions), Resource: oneOrMore(s.Resources)}
	if s.Principal[0] != "" {
		out.Principal = map[string]string{s.Principal[0]: s.Principal[1]}
	}
	for _, c := range s.Conditions {
		if out.Condition == nil {
			out.Condition = map[string]map[string]any{}
		}
		if out.Condition[c.Test] == nil {
			out.Condition[c.Test] = map[string]any{}
		}
		out.Condition[c.Test][c.Key] = oneOrMore(c.Values)
	}
	return out
}

func oneOrMore(list []string) any {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return list
}

// Terraform writes the plan for the AWS provider, with a comment for what can be
// left out.
func (p Plan) Terraform() string {
	var b strings.Builder
	for i, r := range p.Roles {
		if i > 0 {
			b.WriteString("\n")
		}
		r.terraform(&b)
	}
	for _, r := range p.Repositories {
		b.WriteString("\n# In account " + r.Account + ", region " + r.Region + ".\n")
		label := label(r.Name)
		dataDocument(&b, "repository_"+label, r.Policy)
		block(&b, `resource "aws_ecr_repository_policy" "`+label+`"`, [][2]string{
			{"repository", quote(r.Name)},
			{"policy", "data.aws_iam_policy_document.repository_" + label + ".json"},
		})
	}
	return b.String()
}

func (r Role) terraform(b *strings.Builder) {
	label := label(r.Name)
	resource, owner := "aws_iam_user_policy", [2]string{"user", quote(r.Name)}
	if len(r.Trust) > 0 {
		dataDocument(b, label+"_trust", r.Trust)
		block(b, `resource "aws_iam_role" "`+label+`"`, [][2]string{
			{"name", quote(r.Name)},
			{"assume_role_policy", "data.aws_iam_policy_document." + label + "_trust.json"},
		})
		b.WriteString("\n")
		resource, owner = "aws_iam_role_policy", [2]string{"role", "aws_iam_role." + label + ".name"}
	}
	dataDocument(b, label, r.Permissions)
	block(b, `resource "`+resource+`" "`+label+`"`, [][2]string{
		{"name", quote("towline")},
		owner,
		{"policy", "data.aws_iam_policy_document." + label + ".json"},
	})
}

// label is a name that Terraform takes.
func label(name string) string {
	return strings.ToLower(strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, name))
}

func dataDocument(b *strings.Builder, label string, statements []Statement) {
	b.WriteString(`data "aws_iam_policy_document" "` + label + "\" {\n")
	for i, s := range statements {
		if i > 0 {
			b.WriteString("\n")
		}
		if s.Loss != "" {
			b.WriteString("  # Without it, " + s.Loss + ".\n")
		}
		b.WriteString("  statement {\n")
		pairs := [][2]string{{"sid", quote(s.Sid)}, {"actions", list(s.Actions, "    ")}}
		if len(s.Resources) > 0 {
			pairs = append(pairs, [2]string{"resources", list(s.Resources, "    ")})
		}
		arguments(b, "    ", pairs)
		if s.Principal[0] != "" {
			b.WriteString("\n    principals {\n")
			arguments(b, "      ", [][2]string{{"type", quote(s.Principal[0])}, {"identifiers", list([]string{s.Principal[1]}, "      ")}})
			b.WriteString("    }\n")
		}
		for _, c := range s.Conditions {
			b.WriteString("\n    condition {\n")
			arguments(b, "      ", [][2]string{{"test", quote(c.Test)}, {"variable", quote(c.Key)}, {"values", list(c.Values, "      ")}})
			b.WriteString("    }\n")
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\n\n")
}

func block(b *strings.Builder, head string, pairs [][2]string) {
	b.WriteString(head + " {\n")
	arguments(b, "  ", pairs)
	b.WriteString("}\n")
}

// arguments aligns names and values as terraform fmt does: a value of several
// lines ends what is aligned.
func arguments(b *strings.Builder, indent string, pairs [][2]string) {
	for len(pairs) > 0 {
		end, width := 0, 0
		for end < len(pairs) {
			width = max(width, len(pairs[end][0]))
			if end++; strings.Contains(pairs[end-1][1], "\n") {
				break
			}
		}
		for _, p := range pairs[:end] {
			b.WriteString(indent + p[0] + strings.Repeat(" ", width-len(p[0])) + " = " + p[1] + "\n")
		}
		pairs = pairs[end:]
	}
}

func list(values []string, indent string) string {
	if len(values) == 1 {
		return "[" + quote(values[0]) + "]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for _, v := range values {
		b.WriteString(indent + "  " + quote(v) + ",\n")
	}
	b.WriteString(indent + "]")
	return b.String()
}

// quote writes a string for HCL, in which ${ and %{ begin an expression.
func quote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "$${", "%{", "%%{", "\n", `\n`).Replace(s)
	return `"` + s + `"`
}
