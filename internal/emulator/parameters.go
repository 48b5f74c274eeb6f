package emulator

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// AddParameter adds a secure parameter of Systems Manager's Parameter Store and
// gives its ARN. Its value is nowhere.
func (c *Cloud) AddParameter(name string) (arn string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parameters[name] = time.Now()
	return c.parameterARN(name)
}

func (c *Cloud) parameterARN(name string) string {
	return c.arn("ssm", "parameter/"+strings.TrimPrefix(name, "/"))
}

func (c *Cloud) parameterOperations() map[string]operation {
	return map[string]operation{
		"DescribeParameters": {resource: func(*request) string { return c.arn("ssm", "*") }, serve: c.describeParameters},
	}
}

func (c *Cloud) describeParameters(q *request) (any, error) {
	var in struct {
		ParameterFilters []struct {
			Key, Option string
			Values      []string
		}
		MaxResults int
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if in.MaxResults < 0 || in.MaxResults > 50 {
		return nil, refuse("ValidationException", "1 validation error detected: Value '%d' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 50", in.MaxResults)
	}
	found := []any{}
	for _, name := range slices.Sorted(maps.Keys(c.parameters)) {
		wanted := true
		for _, f := range in.ParameterFilters {
			if f.Key != "Name" || f.Option != "Equals" {
				return nil, refuse("InvalidFilterOption", "The filter %s with option %s is not played.", f.Key, f.Option)
			}
			wanted = wanted && slices.Contains(f.Values, name)
		}
		if wanted {
			found = append(found, map[string]any{
				"Name": name, "ARN": c.parameterARN(name), "Type": "SecureString", "Version": 1,
				"Tier": "Standard", "DataType": "text", "LastModifiedDate": epoch(c.parameters[name]),
			})
		}
	}
	return map[string]any{"Parameters": found}, nil
}
