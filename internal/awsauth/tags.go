package awsauth

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
)

// tagging is what one role's session is tagged with.
type tagging struct {
	tags       []Tag
	transitive []string
}

// tagging is that of the first role which is assumed with credentials, or of
// one behind it: what was passed on is there already, and may not be set again.
func (o Options) tagging(first bool) tagging {
	t := tagging{tags: o.Tags}
	if !first {
		t.tags = slices.DeleteFunc(slices.Clone(o.Tags), func(tag Tag) bool { return slices.Contains(o.TransitiveTags, tag.Key) })
		return t
	}
	t.transitive = o.TransitiveTags
	return t.consistent()
}

// consistent passes on only what is there.
func (t tagging) consistent() tagging {
	t.transitive = slices.DeleteFunc(slices.Clone(t.transitive), func(key string) bool {
		return !slices.ContainsFunc(t.tags, func(tag Tag) bool { return tag.Key == key })
	})
	return t
}

// smaller gives up what is optional, if there is any.
func (t tagging) smaller() (tagging, bool) {
	needed := slices.DeleteFunc(slices.Clone(t.tags), func(tag Tag) bool { return tag.Optional })
	if len(needed) == len(t.tags) {
		return t, false
	}
	return tagging{needed, t.transitive}.consistent(), true
}

func (t tagging) forSTS() []ststypes.Tag {
	var tags []ststypes.Tag
	for _, tag := range t.tags {
		tags = append(tags, ststypes.Tag{Key: aws.String(tag.Key), Value: aws.String(tag.Value)})
	}
	return tags
}

func policyARNs(arns []string) []ststypes.PolicyDescriptorType {
	var list []ststypes.PolicyDescriptorType
	for _, each := range arns {
		list = append(list, ststypes.PolicyDescriptorType{Arn: aws.String(each)})
	}
	return list
}
