package registry

import (
	"context"
	"fmt"
)

// Tags lists the tags of a repository (HOST/NAME), in no order. ECR wants
// ecr:ListImages for it.
func (c *Client) Tags(ctx context.Context, repository string) (tags []string, err error) {
	parsed, err := c.parse(ctx, repository)
	if err != nil {
		return nil, err
	}
	repo := parsed.Context()
	err = try(ctx, func(ctx context.Context) error {
		tags, err = c.puller.List(ctx, repo)
		return err
	})
	if err != nil {
		return nil, explain(fmt.Errorf("tags: %w", err), "list tags of "+displayName(repo), repo)
	}
	return tags, nil
}
