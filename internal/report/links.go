package report

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Addresses of AWS's console are made for the partition aws alone: others have
// their own.

// imageURL shows an image of private ECR that is named by digest, or is empty.
func imageURL(ref string) string {
	parts := regexp.MustCompile(`^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+)(?::[^@]*)?@(sha256:[0-9a-f]{64})$`).FindStringSubmatch(ref)
	if parts == nil {
		return ""
	}
	account, region, name, digest := parts[1], parts[2], parts[3], parts[4]
	return fmt.Sprintf("https://%s.console.aws.amazon.com/ecr/repositories/private/%s/%s/_/image/%s/details?region=%s", region, account, name, digest, region)
}

// definitionURL shows a revision of a task definition, or is empty.
func definitionURL(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) != 7 || parts[1] != "aws" || !strings.HasPrefix(parts[5], "task-definition/") {
		return ""
	}
	return fmt.Sprintf("https://%s.console.aws.amazon.com/ecs/v2/task-definitions/%s/%s/containers?region=%s",
		parts[3], url.PathEscape(lastPart(parts[5])), url.PathEscape(parts[6]), parts[3])
}

// definitionLinks is a list of ARNs, each in its short form.
func definitionLinks(list string) string {
	arns := strings.Split(list, ", ")
	for i, arn := range arns {
		arns[i] = linked(code(lastPart(arn)), definitionURL(arn))
	}
	return strings.Join(arns, ", ")
}

// linked is Markdown that leads to an address, if there is one.
func linked(markdown, address string) string {
	if address == "" {
		return markdown
	}
	return "[" + markdown + "](" + address + ")"
}
