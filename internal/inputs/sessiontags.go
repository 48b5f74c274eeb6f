package inputs

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// SessionTag is a tag of a role's session.
type SessionTag struct {
	Key, Value string
	// Optional ones may be left out.
	Optional bool
}

// maxSessionTags is how many STS takes.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const maxSessionTags = 50

// workflowTags tell of the workflow, by the names that
// aws-actions/configure-aws-credentials gives them.
func (p *parser) workflowTags() []SessionTag {
	var tags []SessionTag
	for _, t := range []struct {
		key, variable string
		optional      bool
	}{
		{"Repository", "GITHUB_REPOSITORY", false},
		{"Workflow", "GITHUB_WORKFLOW", false},
		{"Action", "GITHUB_ACTION", false},
		{"Actor", "GITHUB_ACTOR", false},
		{"Commit", "GITHUB_SHA", false},
		{"Branch", "GITHUB_REF", false},
		{"EventName", "GITHUB_EVENT_NAME", true},
		{"BaseRef", "GITHUB_BASE_REF", true},
		{"HeadRef", "GITHUB_HEAD_REF", true},
		{"RunId", "GITHUB_RUN_ID", true},
		{"Job", "GITHUB_JOB", true},
		{"TriggeringActor", "GITHUB_TRIGGERING_ACTOR", true},
	} {
		if value := p.env(t.variable); value != "" {
			tags = append(tags, SessionTag{t.key, cleanTag(value), t.optional})
		}
	}
	if len(tags) == 0 { // not a workflow
		return nil
	}
	return append([]SessionTag{{Key: "GitHub", Value: "Actions"}}, tags...)
}

// tagPattern is what STS takes in a tag's name or value.
const tagPattern = `[^\p{L}\p{Z}\p{N}_.:/=+\-@]`

// cleanTag makes any text a tag's value.
func cleanTag(value string) string {
	runes := []rune(regexp.MustCompile(tagPattern).ReplaceAllString(value, "_"))
	return string(runes[:min(len(runes), 256)])
}

func (p *parser) sessionTags(c *Credentials) {
	skip := p.boolean("role-skip-session-tagging", false)
	custom, transitive := p.customTags(), p.list("transitive-tag-keys", false)
	if skip {
		for _, name := range []string{"custom-tags", "transitive-tag-keys"} {
			if p.given(name) {
				p.failf(name, "", "Remove \"role-skip-session-tagging\", or \""+name+"\".", "there are no session tags where \"role-skip-session-tagging\" is true")
			}
		}
		return
	}
	tags := p.workflowTags()
	for _, tag := range custom {
		i := slices.IndexFunc(tags, func(known SessionTag) bool { return strings.EqualFold(known.Key, tag.Key) })
		switch {
		case i < 0:
			tags = append(tags, tag)
		case tags[i].Optional:
			tags[i] = tag
		default:
			p.failf("custom-tags", tag.Key, "Choose another name.", "the tag %s tells of the workflow", tags[i].Key)
		}
	}
	for over := len(tags) - maxSessionTags; over > 0; over-- {
		i := slices.IndexFunc(tags, func(tag SessionTag) bool { return tag.Optional })
		if i < 0 {
			p.failf("custom-tags", "", "Leave some out.", "%d session tags, with those that tell of the workflow, are more than the %d that AWS takes", len(tags), maxSessionTags)
			break
		}
		tags = slices.Delete(tags, i, i+1)
	}
	c.SessionTags = tags
	for _, entry := range transitive {
		if !slices.ContainsFunc(tags, func(tag SessionTag) bool { return tag.Key == entry.text }) && !slices.Contains(workflowTagNames(), entry.text) {
			p.failf("transitive-tag-keys", entry.text, "Name a tag of \"custom-tags\", or one of "+strings.Join(workflowTagNames(), ", ")+".", "there is no such session tag")
		}
		c.TransitiveTags = append(c.TransitiveTags, entry.text)
	}
}

// workflowTagNames are all that there can be; a run need not have each.
func workflowTagNames() []string {
	every := &parser{env: func(string) string { return "x" }}
	var names []string
	for _, tag := range every.workflowTags() {
		names = append(names, tag.Key)
	}
	return names
}

// customTags reads a JSON object.
func (p *parser) customTags() []SessionTag {
	const name, fix = "custom-tags", `Write a JSON object, such as {"team": "shop", "tier": 2}.`
	v := p.text(name)
	if v == "" {
		return nil
	}
	var object map[string]any
	decoder := json.NewDecoder(strings.NewReader(v))
	decoder.UseNumber() // as it is written
	if err := decoder.Decode(&object); err != nil {
		p.failf(name, "", fix, "not a JSON object: %w", err)
		return nil
	}
	var tags []SessionTag
	for _, key := range slices.Sorted(maps.Keys(object)) {
		var value string
		switch each := object[key].(type) {
		case string:
			value = each
		case json.Number, bool:
			value = fmt.Sprint(each)
		default:
			p.failf(name, key, fix, "the value of %q is neither a text, a number, true nor false", key)
			continue
		}
		switch bad := regexp.MustCompile(tagPattern); {
		case key == "" || len([]rune(key)) > 128 || bad.MatchString(key):
			p.failf(name, key, "Write 1 to 128 letters, digits, blanks and _ . : / = + - @.", "not the name of a tag")
		case len([]rune(value)) > 256 || bad.MatchString(value):
			p.failf(name, key, "Write up to 256 letters, digits, blanks and _ . : / = + - @.", "the value is not one of a tag")
		default:
			tags = append(tags, SessionTag{Key: key, Value: value})
		}
	}
	return tags
}
