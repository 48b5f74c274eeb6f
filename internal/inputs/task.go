package inputs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Pair is one line of NAME=value.
type Pair struct{ Name, Value string }

// Task says what the task definition is made of.
type Task struct {
	// TaskDefinition is the path of a file, Registered what DescribeTaskDefinition
	// takes: an ARN, FAMILY or FAMILY:REVISION. At most one of them is set; without
	// both the service's own is meant.
	TaskDefinition, Registered string
	// ContainerNames are those that get the image and the settings; empty: the
	// only, or the obvious, container.
	ContainerNames []string
	// Image is a reference to deploy instead of a built image, or empty. Images has
	// one for each container that is named, Image being empty then.
	Image  string
	Images []Pair
	// Environment and ContainerSecrets are set, those of Remove... taken out.
	Environment, ContainerSecrets         []Pair
	RemoveEnvironment, RemoveSecrets      []string
	EnvFiles                              []string
	LogConfigurationLogDriver             string
	LogConfigurationOptions, DockerLabels []Pair
	Command                               []string
	TaskRoleARN, ExecutionRoleARN         string
	// TaskDefinitionTags replace the base's if there are any.
	TaskDefinitionTags []Pair
	// KeepRevisions is how many revisions stay; 0: all.
	KeepRevisions int
}

// HasBase says whether a task definition to begin with is named.
func (t Task) HasBase() bool { return t.TaskDefinition != "" || t.Registered != "" }

// Edits says whether containers are changed in other ways than by an image.
func (t Task) Edits() bool {
	return len(t.Environment)+len(t.ContainerSecrets)+len(t.RemoveEnvironment)+len(t.RemoveSecrets)+len(t.EnvFiles)+
		len(t.LogConfigurationOptions)+len(t.DockerLabels)+len(t.Command) > 0 || t.LogConfigurationLogDriver != ""
}

const containerPattern = `^[A-Za-z0-9_-]{1,255}$`

func (p *parser) task(t *Task) {
	p.taskBase(t)
	for _, entry := range p.texts("container-name") {
		switch {
		case !matches(containerPattern, entry):
			p.failf("container-name", entry, "Write the name of a container, as the task definition has it.", "not the name of a container")
		case !slices.Contains(t.ContainerNames, entry):
			t.ContainerNames = append(t.ContainerNames, entry)
		}
	}
	p.images(t)
	t.Environment = p.settings("environment-variables", "NAME=value")
	t.ContainerSecrets = p.settings("container-secrets", "NAME=valueFrom")
	for _, secret := range t.ContainerSecrets {
		if strings.TrimSpace(secret.Value) == "" {
			p.failf("container-secrets", secret.Name, "Write lines of NAME=valueFrom.", "does not say where the secret is")
		}
	}
	t.RemoveEnvironment = p.texts("remove-environment-variables")
	t.RemoveSecrets = p.texts("remove-secrets")
	p.contradictions(t)
	for _, entry := range p.texts("env-files") {
		if !matches(`^arn:aws[a-z-]*:s3:::[^/\s]+/\S+\.env$`, entry) {
			p.failf("env-files", entry, "Write ARNs such as arn:aws:s3:::BUCKET/PATH.env.", "not the ARN of an .env file in S3")
		}
		t.EnvFiles = append(t.EnvFiles, entry)
	}
	t.LogConfigurationLogDriver = p.logDriver()
	t.LogConfigurationOptions = p.settings("log-configuration-options", "NAME=value")
	t.DockerLabels = p.settings("docker-labels", "NAME=value")
	t.Command = p.command("command")
	t.TaskRoleARN = p.role("task-role-arn")
	t.ExecutionRoleARN = p.role("execution-role-arn")
	t.TaskDefinitionTags = p.tagList("task-definition-tags")
	const most = 10000
	if v := p.single("keep-revisions", "Write one number."); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > most {
			p.failf("keep-revisions", v, fmt.Sprintf("Write a whole number from 1 to %d, or nothing to keep all.", most), "not between 1 and %d", most)
		}
		t.KeepRevisions = n
	}
}

// taskBase reads where the task definition comes from.
func (p *parser) taskBase(t *Task) {
	const fix = "Name a JSON or YAML file in the workspace, or leave it empty to start from what the service runs now."
	if v := p.single("task-definition", fix); v != "" {
		switch {
		case strings.HasPrefix(v, "arn:"):
			p.failf("task-definition", v, "Put an ARN into \"task-definition-arn\".", "not a file")
		case !strings.Contains(v, "/") && matches(`^[\w-]+(:[0-9]+)?$`, v):
			p.failf("task-definition", v, "Put a family into \"task-definition-family\", and a revision into \"task-definition-revision\".", "not a file")
		}
		t.TaskDefinition = p.path(v)
	}
	arn := p.single("task-definition-arn", "Name one task definition.")
	if arn != "" && !matches(arnPrefix+`task-definition/[A-Za-z0-9_-]+(:[0-9]+)?$`, arn) {
		p.failf("task-definition-arn", arn, "Write arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION.", "not the ARN of a task definition")
	}
	family := p.single("task-definition-family", "Name one family.")
	if family != "" && !matches(containerPattern, family) {
		p.failf("task-definition-family", family, "Write the family's name, without a revision.", "not a family")
	}
	revision := p.single("task-definition-revision", "Name one revision.")
	if revision != "" && !matches(`^[1-9][0-9]{0,8}$`, revision) {
		p.failf("task-definition-revision", revision, "Write the revision's number.", "not a revision")
	}
	t.Registered = arn
	switch {
	case family != "" && revision != "":
		t.Registered = family + ":" + revision
	case family != "":
		t.Registered = family
	case revision != "":
		p.failf("task-definition-revision", revision, "Set \"task-definition-family\" too.", "a revision of what?")
	}
	var given []string
	for _, input := range []string{"task-definition", "task-definition-arn", "task-definition-family"} {
		if p.given(input) {
			given = append(given, fmt.Sprintf("%q", input))
		}
	}
	if len(given) > 1 {
		p.failf("task-definition", p.values["task-definition"], "Keep one of "+strings.Join(given, " and ")+".", "there is more than one task definition to begin with")
	}
}

// images reads one image, or lines of CONTAINER=IMAGE.
func (p *parser) images(t *Task) {
	const form = "Write one reference such as HOST/NAME:TAG or HOST/NAME@sha256:DIGEST, or lines of CONTAINER=REFERENCE."
	entries := p.list("image", false)
	for _, entry := range entries {
		container, image, named := strings.Cut(entry.text, "=")
		if container, image = strings.TrimSpace(container), strings.TrimSpace(image); !named {
			container, image = "", entry.text
		}
		_, err := name.ParseReference(image)
		switch {
		case err != nil:
			p.fail("image", entry.text, form, err)
		case !named && len(entries) > 1:
			p.failf("image", entry.text, form, "line %d does not say for which container", entry.line)
		case !named:
			t.Image = image
		case !matches(containerPattern, container):
			p.failf("image", entry.text, form, "line %d: %q is not the name of a container", entry.line, container)
		case slices.ContainsFunc(t.Images, func(other Pair) bool { return other.Name == container }):
			p.failf("image", entry.text, form, "line %d: container %q twice", entry.line, container)
		default:
			t.Images = append(t.Images, Pair{container, image})
		}
	}
}

// settings reads lines of NAME=value in their order.
func (p *parser) settings(input, form string) []Pair {
	return p.settingsOf(input, p.list(input, false), form)
}

func (p *parser) settingsOf(input string, entries []item, form string) []Pair {
	var all []Pair
	p.pairsOf(input, entries, form, func(key, value string, found bool) error {
		if !found {
			return errors.New("there is no =")
		}
		all = append(all, Pair{key, value})
		return nil
	})
	return all
}

// contradictions finds names that are both set and taken out, or set twice.
func (p *parser) contradictions(t *Task) {
	names := func(pairs []Pair) []string {
		var all []string
		for _, pair := range pairs {
			all = append(all, pair.Name)
		}
		return all
	}
	environment, secrets := names(t.Environment), names(t.ContainerSecrets)
	for _, pair := range []struct {
		input, other string
		a, b         []string
	}{
		{"remove-environment-variables", "environment-variables", t.RemoveEnvironment, environment},
		{"remove-secrets", "container-secrets", t.RemoveSecrets, secrets},
		{"container-secrets", "environment-variables", secrets, environment},
	} {
		for _, each := range pair.a {
			if slices.Contains(pair.b, each) {
				p.failf(pair.input, each, fmt.Sprintf("Remove it from %q or from %q.", pair.input, pair.other), "is also in %q", pair.other)
			}
		}
	}
}

func (p *parser) logDriver() string {
	v := p.single("log-configuration-log-driver", "Name one driver.")
	known := []string{"awsfirelens", "awslogs", "fluentd", "gelf", "journald", "json-file", "logentries", "none", "splunk", "syslog"}
	if v != "" && !slices.Contains(known, v) {
		p.failf("log-configuration-log-driver", v, "Write one of "+strings.Join(known, ", ")+".", "not a log driver of ECS")
	}
	return v
}

// command reads a command; see words.
func (p *parser) command(input string) []string {
	list, err := words(p.text(input))
	if err != nil {
		p.fail(input, p.values[input], "Quote the command as for a shell, or write a JSON list of strings.", err)
	}
	return list
}

func (p *parser) role(input string) string {
	v := p.single(input, "Name one role.")
	if v != "" && !isRole(v) {
		p.failf(input, v, "Write the role's ARN, arn:aws:iam::123456789012:role/NAME, or its name.", "neither the ARN nor the name of a role")
	}
	return v
}

// tagList reads tags: lines of KEY=value, or the API's JSON.
func (p *parser) tagList(input string) []Pair {
	const most, longestKey, longestValue = 50, 128, 256
	var all []Pair
	if text := p.text(input); strings.HasPrefix(text, "[") {
		var tags []struct{ Key, Value string }
		if err := json.Unmarshal([]byte(text), &tags); err != nil {
			p.fail(input, "", `Write lines of KEY=value, or [{"key": "KEY", "value": "VALUE"}].`, err)
			return nil
		}
		for _, tag := range tags {
			all = append(all, Pair{tag.Key, tag.Value})
		}
	} else {
		entries, err := list(text, false)
		if err != nil {
			p.fail(input, "", "Close the quote, or double it where it belongs to the text.", err)
		}
		all = p.settingsOf(input, entries, "KEY=value")
	}
	if len(all) > most {
		p.failf(input, "", "Leave some out.", "%d tags, more than the %d that ECS takes", len(all), most)
	}
	for _, tag := range all {
		switch {
		case tag.Name == "" || len([]rune(tag.Name)) > longestKey:
			p.failf(input, tag.Name, "Shorten it.", "a tag's key has 1 to %d characters", longestKey)
		case len([]rune(tag.Value)) > longestValue:
			p.failf(input, tag.Name, "Shorten its value.", "a tag's value has up to %d characters", longestValue)
		case strings.HasPrefix(strings.ToLower(tag.Name), "aws:"):
			p.failf(input, tag.Name, "Choose another key.", "keys that begin with aws: are AWS's own")
		}
	}
	return all
}
