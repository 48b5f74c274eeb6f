package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// maxNames is how many names one call of ssm:DescribeParameters takes.
const maxNames = 50

const describeParameters = "ssm:DescribeParameters"

// parameter is one that a definition names.
type parameter struct {
	from string
	// names are what it may be called: an ARN hides whether a name without
	// folders begins with a slash.
	names []string
	paths []string
}

// parameters gives the reads of parameters, those of a region together.
func (l *looker) parameters(all named) []func(context.Context) Result {
	byRegion := map[string][]parameter{}
	var regions []string
	var reads []func(context.Context) Result
	for _, from := range all.order {
		p := parameter{from: from, names: parameterNames(from), paths: all.paths[from]}
		if parsed, err := arn.Parse(from); err == nil && parsed.AccountID != l.opts.Account {
			reads = append(reads, func(context.Context) Result {
				return Result{Unread: []Unread{{Action: describeParameters, What: "parameter " + from, Why: "it is of another account"}}}
			})
			continue
		}
		region := l.region(from)
		if byRegion[region] == nil {
			regions = append(regions, region)
		}
		byRegion[region] = append(byRegion[region], p)
	}
	for _, region := range regions {
		for some := range slices.Chunk(byRegion[region], maxNames/2) {
			reads = append(reads, func(ctx context.Context) Result { return l.describe(ctx, region, some) })
		}
	}
	return reads
}

// parameterNames are the names that from may stand for; a version or label may
// follow.
func parameterNames(from string) []string {
	name := from
	parsed, err := arn.Parse(from)
	if err == nil {
		name = strings.TrimPrefix(parsed.Resource, "parameter/")
	}
	name, _, _ = strings.Cut(name, ":")
	switch {
	case err != nil:
		return []string{name}
	case strings.Contains(name, "/"):
		return []string{"/" + name}
	}
	return []string{name, "/" + name}
}

// describe asks which of some parameters there are. No value is read.
func (l *looker) describe(ctx context.Context, region string, some []parameter) Result {
	client := ssm.NewFromConfig(l.opts.Config, func(o *ssm.Options) {
		o.Region, o.Retryer = region, retry.AddWithMaxAttempts(o.Retryer, attempts)
	})
	var asked []string
	for _, p := range some {
		asked = append(asked, p.names...)
	}
	in := &ssm.DescribeParametersInput{
		MaxResults:       aws.Int32(maxNames),
		ParameterFilters: []ssmtypes.ParameterStringFilter{{Key: aws.String("Name"), Option: aws.String("Equals"), Values: asked}},
	}
	there := map[string]bool{}
	for pages := ssm.NewDescribeParametersPaginator(client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			var all Result
			for _, p := range some {
				all.Unread = append(all.Unread, UnreadOf(ctx, describeParameters, "parameter "+p.names[0], err))
			}
			return all
		}
		for _, found := range page.Parameters {
			there[aws.ToString(found.Name)] = true
		}
	}
	var all Result
	for _, p := range some {
		if slices.ContainsFunc(p.names, func(name string) bool { return there[name] }) {
			all.Read = append(all.Read, "parameter "+p.names[0])
			continue
		}
		missing := l.finding(p.paths, fmt.Errorf("there is no parameter %s in %s", p.names[len(p.names)-1], region),
			fmt.Sprintf("Create it (aws ssm put-parameter --region %s --type SecureString --name %s --value ...), or correct valueFrom.", region, p.names[len(p.names)-1]))
		all.Findings = append(all.Findings, missing.Findings...)
	}
	return all
}
