package emulator

import (
	"strings"
	"time"
)

// Secret is a secret of AWS Secrets Manager. Its value is nowhere.
type Secret struct {
	// Name is the secret's name.
	Name string
	// Suffix is what its ARN ends in, six characters. Default: random ones.
	Suffix string
	// Deleted says that it is scheduled for deletion, and cannot be read.
	Deleted bool
	// Stages are labels of versions besides AWSCURRENT.
	Stages []string
}

type secret struct {
	Secret
	arn     string
	version string
	created time.Time
}

// AddSecret adds or replaces a secret and gives its ARN.
func (c *Cloud) AddSecret(s Secret) (arn string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Suffix == "" {
		s.Suffix = c.unique("secret suffix")[:6]
	}
	arn = c.arn("secretsmanager", "secret:"+s.Name+"-"+s.Suffix)
	c.secrets[s.Name] = &secret{Secret: s, arn: arn, version: uuid(c.unique("secret version")), created: time.Now()}
	return arn
}

func (c *Cloud) secretsOperations() map[string]operation {
	return map[string]operation{
		"DescribeSecret": {resource: func(q *request) string { return q.member("SecretId") }, serve: c.describeSecret},
	}
}

// findSecret takes a name, an ARN, or an ARN without its last six characters.
func (c *Cloud) findSecret(id string) *secret {
	for _, s := range c.secrets {
		if id == s.Name || id == s.arn || id == strings.TrimSuffix(s.arn, "-"+s.Suffix) {
			return s
		}
	}
	return nil
}

func (c *Cloud) describeSecret(q *request) (any, error) {
	s := c.findSecret(q.member("SecretId"))
	if s == nil {
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	out := map[string]any{
		"ARN": s.arn, "Name": s.Name, "CreatedDate": epoch(s.created),
		"VersionIdsToStages": map[string]any{s.version: append([]string{"AWSCURRENT"}, s.Stages...)},
	}
	if s.Deleted {
		out["DeletedDate"] = epoch(s.created)
	}
	return out, nil
}
