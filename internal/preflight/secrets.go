package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/towline/towline/internal/taskdef"
)

// named are places of a definition that name the same thing, by the thing.
type named struct {
	order []string
	paths map[string][]string
}

func (n *named) add(thing, path string) {
	if n.paths == nil {
		n.paths = map[string][]string{}
	}
	if n.paths[thing] == nil {
		n.order = append(n.order, thing)
	}
	n.paths[thing] = append(n.paths[thing], path)
}

// secrets gives the reads of what ECS fetches before a task starts. A value
// lies in Secrets Manager or the Parameter Store, which its form tells; see
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Secret.html.
func (l *looker) secrets(needs taskdef.Needs) []func(context.Context) Result {
	var secrets, parameters, others named
	for _, s := range needs.Secrets {
		parsed, err := arn.Parse(s.From)
		switch {
		case err != nil && !strings.HasPrefix(s.From, "arn:"):
			parameters.add(s.From, s.Path)
		case err == nil && parsed.Service == "secretsmanager" && strings.HasPrefix(parsed.Resource, "secret:"):
			secrets.add(s.From, s.Path)
		case err == nil && parsed.Service == "ssm" && strings.HasPrefix(parsed.Resource, "parameter/"):
			parameters.add(s.From, s.Path)
		default:
			others.add(s.From, s.Path)
		}
	}
	var reads []func(context.Context) Result
	for _, from := range others.order {
		reads = append(reads, func(context.Context) Result {
			return l.finding(others.paths[from], fmt.Errorf("%s is neither the ARN of a secret nor that of a parameter", from),
				"Write the ARN of a secret of Secrets Manager, or the ARN or name of a parameter of the Parameter Store.")
		})
	}
	if len(needs.Secrets) > 0 && needs.ExecutionRole == "" {
		reads = append(reads, func(context.Context) Result {
			return l.finding(nil, errors.New("it names secrets, but no executionRoleArn"),
				"Add executionRoleArn: the role with which ECS reads the secrets before the task starts.")
		})
	}
	for _, from := range secrets.order {
		reads = append(reads, func(ctx context.Context) Result { return l.secret(ctx, from, secrets.paths[from]) })
	}
	return append(reads, l.parameters(parameters)...)
}

// secret reads what is known of one secret.
func (l *looker) secret(ctx context.Context, from string, paths []string) Result {
	const action = "secretsmanager:DescribeSecret"
	id, key, stage, version := splitSecret(from)
	region := l.region(id)
	what := "secret " + secretName(id)
	client := secretsmanager.NewFromConfig(l.opts.Config, func(o *secretsmanager.Options) {
		o.Region, o.Retryer = region, retry.AddWithMaxAttempts(o.Retryer, attempts)
	})
	found, err := client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(id)})
	switch {
	case isNot(err, "ResourceNotFoundException"):
		return l.finding(paths, fmt.Errorf("%s in %s: %w", what, region, err),
			fmt.Sprintf("Create the secret, or correct valueFrom: it takes the whole ARN, which ends in a hyphen and six random characters (aws secretsmanager list-secrets --region %s).", region))
	case err != nil:
		return unread(ctx, action, what, err)
	case found.DeletedDate != nil:
		return l.finding(paths, fmt.Errorf("%s in %s is being deleted, and cannot be read", what, region),
			fmt.Sprintf("Restore it: aws secretsmanager restore-secret --region %s --secret-id %s", region, id))
	case version != "" && found.VersionIdsToStages[version] == nil && len(found.VersionIdsToStages) > 0:
		return l.finding(paths, fmt.Errorf("%s in %s has no version %s", what, region, version), "Correct the last part of valueFrom, or leave it out for the current version.")
	case stage != "" && !slices.ContainsFunc(slices.Collect(values(found.VersionIdsToStages)), func(s string) bool { return s == stage }):
		return l.finding(paths, fmt.Errorf("%s in %s has no version with the stage %s", what, region, stage), "Correct valueFrom, or leave the stage out for AWSCURRENT.")
	}
	if key != "" {
		what += " (not its key " + key + ")"
	}
	return Result{Read: []string{what}}
}

// splitSecret takes an ARN apart behind which JSON-KEY:STAGE:VERSION may stand.
func splitSecret(from string) (id, key, stage, version string) {
	parts := strings.Split(from, ":")
	if len(parts) <= 7 {
		return from, "", "", ""
	}
	rest := slices.Concat(parts[7:], []string{"", "", ""})
	return strings.Join(parts[:7], ":"), rest[0], rest[1], rest[2]
}

// secretName is a secret's name without its ARN's random end.
func secretName(id string) string {
	name := id[strings.LastIndexByte(id, ':')+1:]
	if cut := strings.LastIndexByte(name, '-'); cut > 0 && len(name)-cut == 7 {
		return name[:cut]
	}
	return name
}

// values gives all entries of all lists.
func values(lists map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, list := range lists {
			for _, v := range list {
				if !yield(v) {
					return
				}
			}
		}
	}
}
