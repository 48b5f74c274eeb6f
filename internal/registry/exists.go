package registry

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Digest gives what ref (HOST/NAME:TAG) names in its registry: the digest of an
// image or an index. It is nil where there is nothing that may be seen.
func (c *Client) Digest(ctx context.Context, ref string) (*v1.Hash, error) {
	parsed, err := c.parse(ctx, ref)
	if err != nil {
		return nil, err
	}
	found, err := c.head(ctx, parsed)
	return found, explain(err, "read tag", parsed.Context())
}
