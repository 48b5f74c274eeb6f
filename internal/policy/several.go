package policy

import (
	"cmp"
	"slices"
	"strings"
)

// allServices allows what is done to each service. What is allowed for several
// alike is one statement.
func (b *builder) allServices() {
	one, region := b.settings.Deployment, b.region
	for _, target := range one.All() {
		if len(target.Roles) > 0 { // whose policies are their own
			b.allowTarget(target.Roles[0])
			continue
		}
		b.settings.Deployment.Cluster, b.settings.Deployment.Service = target.Cluster, target.Service
		b.region = cmp.Or(target.Region, region)
		b.services()
		b.watching()
	}
	b.settings.Deployment, b.region = one, region
	b.permissions = merged(b.permissions)
}

// allowTarget allows to become the role of a target.
func (b *builder) allowTarget(role string) {
	if !strings.HasPrefix(role, "arn:") {
		role = b.arn("iam", "role/"+role)
	}
	b.allow(Statement{Sid: "AssumeTargets", Actions: []string{"sts:AssumeRole", "sts:TagSession"}, Resources: []string{role}})
}

// merged puts statements together that allow the same to different resources.
func merged(all []Statement) []Statement {
	var out []Statement
	for _, s := range all {
		i := slices.IndexFunc(out, func(o Statement) bool { return o.Sid == s.Sid && slices.Equal(o.Actions, s.Actions) })
		if i < 0 || s.Sid == "" {
			out = append(out, s)
			continue
		}
		out[i].Resources = distinct(slices.Concat(out[i].Resources, s.Resources))
		conditions := slices.Clone(out[i].Conditions)
		for j := range min(len(conditions), len(s.Conditions)) {
			conditions[j].Values = distinct(slices.Concat(conditions[j].Values, s.Conditions[j].Values))
		}
		out[i].Conditions = conditions
	}
	return out
}
