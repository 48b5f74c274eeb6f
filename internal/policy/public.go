package policy

import (
	"strings"

	"github.com/towline/towline/internal/inputs"
)

// public allows what is done in ECR Public, whose repositories everybody may
// read. Their ARNs have neither a region nor the alias.
// https://docs.aws.amazon.com/AmazonECR/latest/public/public-repository-policies.html
func (b *builder) public() {
	s := b.settings
	if _, given := s.Registry.RegistryCredentials[inputs.PublicHost]; given {
		return
	}
	var resources []string
	for _, r := range targets(s) {
		if _, name, ok := strings.Cut(r.Name, "/"); ok && r.Host == inputs.PublicHost && s.Pushes() {
			resources = append(resources, b.arnIn(b.account, "", "ecr-public", "repository/"+name))
		}
	}
	resources = distinct(resources)
	if len(resources) == 0 && !s.Registry.Public {
		return
	}
	b.allow(Statement{Sid: "PublicLogin", Actions: []string{"ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"}, Resources: []string{"*"}})
	if len(resources) == 0 {
		return
	}
	push := Statement{Sid: "PushPublicImage", Resources: resources}
	for _, action := range append(uploadActions(), "ecr:PutImage") {
		push.Actions = append(push.Actions, strings.Replace(action, "ecr:", "ecr-public:", 1))
	}
	b.allow(push)
	if s.Registry.CreateRepository {
		b.allow(Statement{Sid: "CreatePublicRepository", Actions: []string{"ecr-public:CreateRepository"}, Resources: resources})
	}
	b.allow(Statement{
		Sid: "OptionalPublicRepository", Actions: []string{"ecr-public:DescribeRepositories"}, Resources: resources,
		Loss: "a repository that is missing is noticed only when its first upload is refused",
	})
}
