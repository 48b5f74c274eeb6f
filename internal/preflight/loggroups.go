package preflight

import (
	"cmp"
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/towline/towline/internal/taskdef"
)

// logGroups gives the reads of log groups, one for each.
func (l *looker) logGroups(groups []taskdef.LogGroup) []func(context.Context) Result {
	type key struct{ name, region string }
	paths := map[key][]string{}
	var order []key
	for _, g := range groups {
		k := key{g.Name, cmp.Or(g.Region, l.opts.Config.Region)}
		if paths[k] == nil {
			order = append(order, k)
		}
		paths[k] = append(paths[k], g.Path)
	}
	var reads []func(context.Context) Result
	for _, k := range order {
		reads = append(reads, func(ctx context.Context) Result { return l.logGroup(ctx, k.name, k.region, paths[k]) })
	}
	return reads
}

func (l *looker) logGroup(ctx context.Context, name, region string, paths []string) Result {
	client := cloudwatchlogs.NewFromConfig(l.opts.Config, func(o *cloudwatchlogs.Options) {
		o.Region, o.Retryer = region, retry.AddWithMaxAttempts(o.Retryer, attempts)
	})
	pages := cloudwatchlogs.NewDescribeLogGroupsPaginator(client, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String(name)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return unread(ctx, "logs:DescribeLogGroups", "log group "+name, err)
		}
		for _, found := range page.LogGroups {
			if aws.ToString(found.LogGroupName) == name {
				return Result{Read: []string{"log group " + name}}
			}
		}
	}
	return l.finding(paths, fmt.Errorf("there is no log group %s in %s", name, region), fmt.Sprintf(
		"Create it (aws logs create-log-group --region %s --log-group-name %s), or set the option awslogs-create-group to \"true\" and allow logs:CreateLogGroup to the execution role.",
		region, name))
}
