package policy

import (
	"slices"
	"strings"
)

// Placeholders says, in comments, what is still to be filled in; it is empty if
// nothing is.
func (p Plan) Placeholders() string {
	if len(p.Unknown) == 0 {
		return ""
	}
	return "# To be filled in:\n#   " + strings.Join(p.Unknown, "\n#   ") + "\n\n"
}

// WithoutTrust leaves out who may assume the roles, and what would have to be
// filled in for that.
func (p Plan) WithoutTrust() Plan {
	p.Roles, p.Unknown = slices.Clone(p.Roles), slices.Clone(p.Unknown)
	for i := range p.Roles {
		p.Roles[i].Trust = nil
	}
	text := p.Text()
	p.Unknown = slices.DeleteFunc(p.Unknown, func(line string) bool {
		placeholder, _, _ := strings.Cut(line, ":")
		return !strings.Contains(text, placeholder)
	})
	return p
}

// Text is the plan as JSON documents, each under a line that says what it is, and
// what is lost without its optional statements.
func (p Plan) Text() string {
	var b strings.Builder
	for _, role := range p.Roles {
		if len(role.Trust) > 0 {
			b.WriteString("# Who may assume " + role.Name + " (its trust policy)\n" + JSON(role.Trust) + "\n")
		}
		b.WriteString("# What " + role.Name + " may do\n")
		losses(&b, role.Permissions)
		b.WriteString(JSON(role.Permissions) + "\n")
	}
	for _, repository := range p.Repositories {
		b.WriteString("# Policy of the repository " + repository.Name + " in account " + repository.Account + ", region " + repository.Region + "\n")
		losses(&b, repository.Policy)
		b.WriteString(JSON(repository.Policy) + "\n")
	}
	return b.String()
}

func losses(b *strings.Builder, statements []Statement) {
	for _, s := range statements {
		if s.Loss != "" {
			b.WriteString("#   without " + s.Sid + ", " + s.Loss + "\n")
		}
	}
}
