package taskdef

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/internal/problem"
)

// ECS's limits.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/use-environment-file.html
const (
	maxSize       = 64 << 10 // bytes of a task definition's JSON
	maxContainers = 10
	maxEnvFiles   = 10 // in a container
	maxTags       = 50
)

// Check finds what ECS would refuse, as far as that does not depend on what ECS
// may learn to take. It gives every mistake that it finds, each a *problem.Error.
func (d Document) Check() error {
	c := checker{family: d.Family()}
	containers := d.root.get("containerDefinitions").items
	if len(containers) > maxContainers {
		c.add("task-definition", "Move some into a task definition of their own.", "it has %d containers, ECS takes at most %d", len(containers), maxContainers)
	}
	essential := false
	for _, container := range d.Containers() {
		essential = essential || container.Essential
		if container.Image == "" {
			c.add("container-name", "Name it in container-name, or give it an image in the task definition.", "container %s has no image", container.Name)
		}
	}
	if !essential && len(containers) > 0 {
		c.add("task-definition", "Set essential to true on the container that the task is there for.", "none of its containers is essential")
	}
	for _, name := range []string{"cpu", "memory"} {
		if value := d.root.get(name); value.kind == number {
			c.add("task-definition", fmt.Sprintf("Write \"%s\": \"%s\".", name, value.raw), "%s is a number, ECS takes a string there", name)
		}
	}
	for _, container := range containers {
		c.container(container)
	}
	if n := len(d.root.get("tags").items); n > maxTags {
		c.add("task-definition-tags", "Leave some out.", "it has %d tags, ECS takes at most %d", n, maxTags)
	}
	c.size(d)
	return errors.Join(c.faults...)
}

// checker collects mistakes.
type checker struct {
	family string
	faults []error
}

func (c *checker) add(input, fix, format string, args ...any) {
	c.faults = append(c.faults, &problem.Error{
		Op: "check task definition " + c.family, Input: input, Err: fmt.Errorf(format, args...), Fix: fix,
	})
}

func (c *checker) container(container node) {
	name := container.get("name").str()
	sources := map[string]string{}
	for _, list := range []struct{ member, value, input string }{
		{"environment", "value", "environment-variables"}, {"secrets", "valueFrom", "container-secrets"},
	} {
		for _, entry := range container.get(list.member).items {
			variable := entry.get("name").str()
			switch value := entry.get(list.value); {
			case value.kind == number, value.kind == boolean:
				c.add(list.input, "Put it in quotes.", "%s %s of container %s is %s, ECS takes a string there", list.member, variable, name, value.kind)
			case list.member == "secrets" && variable != "" && sources[variable] != "":
				c.add(list.input, "Keep one of them: remove-environment-variables and remove-secrets take one out.",
					"%s stands twice in container %s, in %s and in secrets", variable, name, sources[variable])
			}
			sources[variable] = list.member
		}
	}
	files := container.get("environmentFiles").items
	if len(files) > maxEnvFiles {
		c.add("env-files", "Put what they hold into fewer files.", "container %s has %d environment files, ECS takes at most %d", name, len(files), maxEnvFiles)
	}
}

// size says what is too large, and which parts are the largest.
func (c *checker) size(d Document) {
	total := len(d.JSON())
	if total <= maxSize {
		return
	}
	type part struct {
		name  string
		bytes int
	}
	var parts []part
	for _, container := range d.root.get("containerDefinitions").items {
		for _, m := range container.members {
			parts = append(parts, part{m.key + " of container " + container.get("name").str(), len(m.value.write(nil))})
		}
	}
	for _, m := range d.root.members {
		if m.key != "containerDefinitions" {
			parts = append(parts, part{m.key, len(m.value.write(nil))})
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return b.bytes - a.bytes })
	const most = 3
	var largest []string
	for _, p := range parts[:min(most, len(parts))] {
		largest = append(largest, fmt.Sprintf("%s: %d", p.name, p.bytes))
	}
	c.add("task-definition", "Move long values into files in S3 (input env-files), into secrets, or into the image.",
		"its JSON has %d bytes, ECS takes at most %d. The largest parts: %s", total, maxSize, strings.Join(largest, ", "))
}
