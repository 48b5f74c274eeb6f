package taskdef

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/towline/towline/internal/problem"
)

// Pair is a name with its value.
type Pair struct{ Name, Value string }

// Edits says what is to be different. What is zero stays as it is.
type Edits struct {
	// Images has the image of each container that gets another.
	Images map[string]string
	// Containers are those that the following are for.
	Containers []string
	// Environment and Secrets are set. A name has one source: setting it as the
	// one takes it out of the other, since ECS refuses both.
	Environment, Secrets []Pair
	// RemoveEnvironment and RemoveSecrets are taken out where they are.
	RemoveEnvironment, RemoveSecrets []string
	// EnvFiles replaces environmentFiles, with files in S3.
	EnvFiles []string
	// LogDriver, where it is another one, takes the options of the former away.
	LogDriver                string
	LogOptions, DockerLabels []Pair
	Command                  []string

	// TaskRole and ExecutionRole are ARNs or names.
	TaskRole, ExecutionRole string
	// Tags replaces the tags.
	Tags []Pair
}

// ofContainers says whether anything is for Containers.
func (e Edits) ofContainers() bool {
	return len(e.Environment)+len(e.Secrets)+len(e.RemoveEnvironment)+len(e.RemoveSecrets)+len(e.EnvFiles)+
		len(e.LogOptions)+len(e.DockerLabels)+len(e.Command) > 0 || e.LogDriver != ""
}

// With gives a document with these edits; everything else keeps its bytes. A
// container that does not exist, or a member of another kind than ECS's, is a
// *problem.Error that names the input.
func (d Document) With(e Edits) (Document, error) {
	d, err := d.WithImages(e.Images)
	if err != nil {
		return Document{}, err
	}
	if e.ofContainers() {
		if d, err = d.withContainers(e); err != nil {
			return Document{}, err
		}
	}
	root := d.root
	if e.TaskRole != "" {
		root = root.withText("taskRoleArn", e.TaskRole)
	}
	if e.ExecutionRole != "" {
		root = root.withText("executionRoleArn", e.ExecutionRole)
	}
	if len(e.Tags) > 0 {
		tags := node{kind: array}
		for _, tag := range e.Tags {
			tags.items = append(tags.items, objectNode(Pair{"key", tag.Name}, Pair{"value", tag.Value}))
		}
		root = root.with("tags", tags)
	}
	return Document{root: root}, nil
}

func (d Document) withContainers(e Edits) (Document, error) {
	definitions := d.root.get("containerDefinitions")
	definitions.items = slices.Clone(definitions.items)
	found := map[string]bool{}
	for i, c := range definitions.items {
		name := c.get("name").str()
		if !slices.Contains(e.Containers, name) {
			continue
		}
		found[name] = true
		changed, err := e.apply(c)
		if err != nil {
			fault, _ := errors.AsType[*problem.Error](err)
			fault.Op = "render task definition"
			fault.Err = fmt.Errorf("container %s of task definition %s: %w", name, d.Family(), fault.Err)
			fault.Fix = cmp.Or(fault.Fix, "Correct the task definition that it begins with.")
			return Document{}, fault
		}
		definitions.items[i] = changed
	}
	for _, name := range e.Containers {
		if !found[name] {
			return Document{}, d.unknownContainer(name)
		}
	}
	return Document{root: d.root.with("containerDefinitions", definitions)}, nil
}

// apply changes one container. Errors lack Op.
func (e Edits) apply(c node) (node, error) {
	var err error
	for _, list := range []struct {
		input, member, value string
		set                  []Pair
		remove               []string
		other                []Pair // set elsewhere, and so taken out here
	}{
		{"environment-variables", "environment", "value", e.Environment, e.RemoveEnvironment, e.Secrets},
		{"container-secrets", "secrets", "valueFrom", e.Secrets, e.RemoveSecrets, e.Environment},
	} {
		remove := slices.Clone(list.remove)
		for _, pair := range list.other {
			remove = append(remove, pair.Name)
		}
		if c, err = c.withNamed(list.member, list.value, list.set, remove); err != nil {
			return node{}, blamed(list.input, err)
		}
	}
	if len(e.EnvFiles) > 0 {
		files := node{kind: array}
		for _, file := range e.EnvFiles {
			files.items = append(files.items, objectNode(Pair{"value", file}, Pair{"type", "s3"}))
		}
		c = c.withUnlessSame("environmentFiles", files)
	}
	if c, err = e.applyLog(c); err != nil {
		return node{}, blamed("log-configuration-options", err)
	}
	if c, err = c.withTexts("dockerLabels", e.DockerLabels); err != nil {
		return node{}, blamed("docker-labels", err)
	}
	if len(e.Command) > 0 {
		command := node{kind: array}
		for _, word := range e.Command {
			command.items = append(command.items, stringNode(word))
		}
		c = c.withUnlessSame("command", command)
	}
	return c, nil
}

// blamed is the fault of an input, unless that is known better already.
func blamed(input string, err error) error {
	if known, ok := errors.AsType[*problem.Error](err); ok {
		return known
	}
	return &problem.Error{Input: input, Err: err}
}

func (e Edits) applyLog(c node) (node, error) {
	if e.LogDriver == "" && len(e.LogOptions) == 0 {
		return c, nil
	}
	log := c.get("logConfiguration")
	switch log.kind {
	case absent, null:
		log = node{kind: object}
	case object:
	default:
		return node{}, fmt.Errorf("its logConfiguration is %s, not an object", log.kind)
	}
	former := log.get("logDriver").str()
	if e.LogDriver == "" && former == "" {
		return node{}, &problem.Error{
			Input: "log-configuration-options", Err: errors.New("it has no log driver that the options could be for"),
			Fix: `Set "log-configuration-log-driver" too.`,
		}
	}
	if e.LogDriver != "" && e.LogDriver != former {
		log = log.without("options", "secretOptions").withText("logDriver", e.LogDriver)
	}
	log, err := log.withTexts("options", e.LogOptions)
	if err != nil {
		return node{}, fmt.Errorf("logConfiguration: %w", err)
	}
	return c.with("logConfiguration", log), nil
}

// withNamed sets and takes out entries of a list of objects with a name and a
// value. Entries keep their place and whatever else they hold.
func (n node) withNamed(member, value string, set []Pair, remove []string) (node, error) {
	if len(set) == 0 && len(remove) == 0 {
		return n, nil
	}
	list := n.get(member)
	switch list.kind {
	case array:
	case absent, null:
		if len(set) == 0 {
			return n, nil
		}
		list = node{kind: array}
	default:
		return node{}, fmt.Errorf("its %s is %s, not a list", member, list.kind)
	}
	list.items = slices.DeleteFunc(slices.Clone(list.items), func(item node) bool {
		return slices.Contains(remove, item.get("name").str()) && item.kind == object
	})
	for _, pair := range set {
		there := false
		for i, item := range list.items {
			if item.kind == object && item.get("name").str() == pair.Name {
				there = true
				list.items[i] = item.withText(value, pair.Value)
			}
		}
		if !there {
			list.items = append(list.items, objectNode(Pair{"name", pair.Name}, Pair{value, pair.Value}))
		}
	}
	return n.with(member, list), nil
}

// withTexts sets members of a member that is an object of strings.
func (n node) withTexts(member string, set []Pair) (node, error) {
	if len(set) == 0 {
		return n, nil
	}
	texts := n.get(member)
	switch texts.kind {
	case object:
	case absent, null:
		texts = node{kind: object}
	default:
		return node{}, fmt.Errorf("its %s is %s, not an object", member, texts.kind)
	}
	for _, pair := range set {
		texts = texts.withText(pair.Name, pair.Value)
	}
	return n.with(member, texts), nil
}

// withText is with for a string, and leaves one alone that is the same already,
// with the escapes that it was written with.
func (n node) withText(key, value string) node {
	if now := n.get(key); now.kind == text && now.str() == value {
		return n
	}
	return n.with(key, stringNode(value))
}

// withUnlessSame is with, and leaves a member alone that means the same.
func (n node) withUnlessSame(key string, value node) node {
	if same(n.get(key), value) {
		return n
	}
	return n.with(key, value)
}

func objectNode(pairs ...Pair) node {
	n := node{kind: object}
	for _, pair := range pairs {
		n = n.with(pair.Name, stringNode(pair.Value))
	}
	return n
}
