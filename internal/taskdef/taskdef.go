// Package taskdef treats an ECS task definition as a JSON document.
//
// Nothing here knows the list of fields: what AWS adds tomorrow survives from
// DescribeTaskDefinition's answer to RegisterTaskDefinition's request, in its
// order and with every token as it was written. Only what the user asked for
// is changed. The package is pure: it reads no file and calls no service.
package taskdef

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/internal/problem"
)

// outputOnly lists the members of the API's TaskDefinition that
// RegisterTaskDefinition does not take.
func outputOnly() []string {
	return []string{
		"compatibilities", "deleteRequestedAt", "deregisteredAt", "registeredAt", "registeredBy",
		"requiresAttributes", "revision", "status", "taskDefinitionArn",
	}
}

// Document is a task definition that can be registered. It is immutable and
// safe for concurrent use. The zero value is an empty definition that ECS
// would refuse; use Parse or Described.
type Document struct {
	root node
}

// Container is what the other rooms need to know of a container definition.
type Container struct {
	Name string
	// Image is the reference as it is written, or "" if there is none.
	Image string
	// Essential is true unless the definition says false, as in ECS.
	Essential bool
}

// Parse reads a file: a bare task definition, or what
// `aws ecs describe-task-definition` prints, whose taskDefinition and tags are
// taken. Members that exist only in ECS's answers are left out. The error is a
// *problem.Error with Line set; the caller, who knows the name, sets File.
func Parse(data []byte) (Document, error) {
	data = bytes.TrimPrefix(bytes.Clone(data), []byte("\ufeff"))
	root, err := read(data)
	if err == nil {
		root, err = registerable(root)
	}
	if err == nil {
		err = check(root)
	}
	if err == nil {
		return Document{root: root}, nil
	}
	fix := "Correct the file at this place."
	if first := bytes.TrimSpace(data); len(first) == 0 || first[0] != '{' {
		fix = "Give a JSON file: a task definition, or the output of `aws ecs describe-task-definition --include TAGS`. YAML is read from files that end in .yaml or .yml."
	}
	return Document{}, fileProblem(data, err, fix)
}

// fileProblem is a mistake in a file.
func fileProblem(data []byte, err error, fix string) error {
	fault := &problem.Error{Op: "read task definition", Input: "task-definition", Err: err, Fix: fix}
	if placed, ok := errors.AsType[*placedError](err); ok {
		line, column := position(data, placed.offset)
		fault.Line = line
		fault.Err = fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return fault
}

// Described takes DescribeTaskDefinition's raw answer, asked for with
// include TAGS, and makes it registerable: the nine members that only answers
// have are removed, and the tags, which come beside the definition, are kept.
func Described(answer []byte) (Document, error) {
	root, err := read(bytes.Clone(answer))
	if err == nil && root.get("taskDefinition").kind != object {
		err = &placedError{root.at, "there is no taskDefinition in it"}
	}
	if err == nil {
		root, err = registerable(root)
	}
	if err == nil {
		err = check(root)
	}
	if err != nil {
		return Document{}, fmt.Errorf("answer of DescribeTaskDefinition: %w", err)
	}
	return Document{root: root}, nil
}

// registerable takes the definition out of a describe answer, if it is one:
// what has containers itself is not.
func registerable(root node) (node, error) {
	if root.kind != object {
		return node{}, &placedError{root.at, fmt.Sprintf("a task definition is an object, this is %s", root.kind)}
	}
	definition := root.get("taskDefinition")
	if definition.kind == absent || root.get("containerDefinitions").kind != absent {
		return root.without(outputOnly()...), nil
	}
	if definition.kind != object {
		return node{}, &placedError{definition.at, fmt.Sprintf("taskDefinition is %s, not an object", definition.kind)}
	}
	definition = definition.without(outputOnly()...)
	if tags := root.get("tags"); tags.kind == array && len(tags.items) > 0 {
		definition = definition.with("tags", tags)
	}
	return definition, nil
}

// check holds what this package itself relies on, no more: ECS judges the rest.
func check(root node) error {
	if family := root.get("family"); family.str() == "" {
		return &placedError{max(root.at, family.at), "family is missing: a task definition needs its name"}
	}
	containers := root.get("containerDefinitions")
	if containers.kind != array || len(containers.items) == 0 {
		return &placedError{max(root.at, containers.at), "containerDefinitions is not a list with at least one container"}
	}
	seen := map[string]bool{}
	for i, c := range containers.items {
		name := c.get("name")
		if c.kind != object || name.str() == "" {
			return &placedError{max(c.at, name.at), fmt.Sprintf("containerDefinitions[%d] has no name", i)}
		}
		if seen[name.str()] {
			return &placedError{name.at, fmt.Sprintf("two containers have the name %q", name.str())}
		}
		seen[name.str()] = true
		if image := c.get("image"); image.kind != text && image.kind != null && image.kind != absent {
			return &placedError{image.at, fmt.Sprintf("image of container %q is %s, not a string", name.str(), image.kind)}
		}
	}
	return nil
}

// position gives the line and column, both from 1, of an offset in bytes.
func position(data []byte, offset int) (line, column int) {
	before := data[:min(offset, len(data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, len([]rune(string(before[start:]))) + 1
}

// Family is the definition's family, never empty in a document that was read.
func (d Document) Family() string { return d.root.get("family").str() }

// CPUArchitecture is runtimePlatform's cpuArchitecture as it is written
// ("X86_64", "ARM64"), or "" if the definition leaves it to ECS (X86_64).
func (d Document) CPUArchitecture() string {
	return d.root.get("runtimePlatform").get("cpuArchitecture").str()
}

// Containers lists the container definitions in their order.
func (d Document) Containers() []Container {
	var containers []Container
	for _, c := range d.root.get("containerDefinitions").items {
		containers = append(containers, Container{
			Name:      c.get("name").str(),
			Image:     c.get("image").str(),
			Essential: string(c.get("essential").raw) != "false",
		})
	}
	return containers
}

// WithImages gives a document in which the named containers have these images
// (container name -> image reference) and everything else is as it was. A name
// that does not exist is a *problem.Error for the input container-name.
func (d Document) WithImages(images map[string]string) (Document, error) {
	definitions := d.root.get("containerDefinitions")
	definitions.items = slices.Clone(definitions.items)
	left := make(map[string]bool, len(images))
	for name, image := range images {
		if image == "" {
			return Document{}, &problem.Error{
				Op: "render task definition", Input: "image",
				Err: fmt.Errorf("no image for container %q", name), Fix: "Give an image reference.",
			}
		}
		left[name] = true
	}
	for i, c := range definitions.items {
		name := c.get("name").str()
		if image, ok := images[name]; ok {
			definitions.items[i] = c.with("image", stringNode(image))
			delete(left, name)
		}
	}
	for name := range images {
		if left[name] {
			return Document{}, d.unknownContainer(name)
		}
	}
	return Document{root: d.root.with("containerDefinitions", definitions)}, nil
}

// Pick applies the rule of the input container-name: the container of that
// name or, where none is given, the only one, or the only one whose image is
// of this repository (without tag and digest). Otherwise the *problem.Error
// lists the containers to choose from.
func (d Document) Pick(containerName, repository string) (string, error) {
	containers := d.Containers()
	if containerName != "" {
		for _, c := range containers {
			if c.Name == containerName {
				return c.Name, nil
			}
		}
		return "", d.unknownContainer(containerName)
	}
	if len(containers) == 1 {
		return containers[0].Name, nil
	}
	var same, all []string
	for _, c := range containers {
		if repository != "" && Repository(c.Image) == repository {
			same = append(same, c.Name)
		}
		all = append(all, fmt.Sprintf("container %s  image %s", c.Name, c.Image))
	}
	if len(same) == 1 {
		return same[0], nil
	}
	why := fmt.Sprintf("none of the %d containers of task definition %s has an image of repository %q", len(containers), d.Family(), repository)
	switch {
	case repository == "":
		why = fmt.Sprintf("task definition %s has %d containers", d.Family(), len(containers))
	case len(same) > 1:
		why = fmt.Sprintf("containers %s of task definition %s all have an image of repository %q", strings.Join(same, ", "), d.Family(), repository)
	}
	return "", &problem.Error{
		Op: "choose container", Input: "container-name", Err: errors.New(why), Detail: all,
		Fix: "Set container-name to one of: " + d.names() + ".",
	}
}

func (d Document) unknownContainer(name string) *problem.Error {
	return &problem.Error{
		Op: "render task definition", Input: "container-name", Value: name,
		Err: fmt.Errorf("task definition %s has no such container", d.Family()),
		Fix: "Use one that exists: " + d.names() + ".",
	}
}

func (d Document) names() string {
	var names []string
	for _, c := range d.Containers() {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// Request gives the body for RegisterTaskDefinition, tags included if there
// are any. Members that are null are left out, since ECS refuses them, and so
// is the white space between tokens; every other token is as it was written.
// A body above ECS's quota of 64 KiB is a *problem.Error; see Check for the rest.
func (d Document) Request() ([]byte, error) {
	c := checker{family: d.Family()}
	c.size(d)
	if len(c.faults) > 0 {
		return nil, c.faults[0]
	}
	return d.JSON(), nil
}

// JSON is the document as Request sends it, checked or not.
func (d Document) JSON() []byte { return d.root.write(nil) }

// NetworkMode is the network mode as it is written ("awsvpc"), or "".
func (d Document) NetworkMode() string { return d.root.get("networkMode").str() }
