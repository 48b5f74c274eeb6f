package inputs

import (
	"errors"
	"fmt"
	"strings"
)

// crossChecks finds inputs that are right by themselves but not together. It
// goes by what was given rather than by what could be read, so that one mistake
// is not reported twice.
func (p *parser) crossChecks(s Settings) {
	ecs := p.given("service") || p.given("task-definition")
	tagged := p.given("tags") || p.given("repository")
	switch {
	case p.given("image"):
		if names := p.givenAmong("context", "file", "target", "build-args", "labels", "secrets", "secret-envs", "secret-files", "tags", "push", "platforms", "sandbox"); names != "" {
			p.failf("image", s.Task.Image, "Remove \"image\" to build one, or remove "+names+".", "nothing is built when an image is given, but there is also %s", names)
		}
	case ecs && !tagged:
		p.nothingToDeploy(s)
	case ecs && p.given("push") && !s.Build.Push:
		p.failf("push", p.values["push"], "Remove it, or remove \"service\" and \"task-definition\".", "an image that is not pushed cannot be deployed")
	}
	if !ecs {
		for _, input := range []string{"image", "container-name"} {
			if p.given(input) {
				p.failf(input, p.values[input], "Set \"service\", or \"task-definition\".", "there is no task definition to put an image into")
			}
		}
	}
	if p.given("cluster") && !p.given("service") {
		p.failf("service", "", "Set \"service\", or remove \"cluster\".", "empty, but \"cluster\" is set: nothing would be deployed")
	}
}

// nothingToDeploy finds a service or task definition without an image: right
// only with a task definition from a file, deployed as it stands.
func (p *parser) nothingToDeploy(s Settings) {
	const fix = "Set \"repository\" (and perhaps \"tags\") to build and push an image, or \"image\" to deploy one that is there."
	if names := p.givenAmong("context", "file", "target", "build-args", "labels", "secrets", "secret-envs", "secret-files", "platforms"); names != "" {
		p.fail("repository", "", fix, fmt.Errorf("empty, but an image has to be pushed to be deployed, and there is %s to build one", names))
		return
	}
	if !p.given("task-definition") {
		p.fail("service", s.Deployment.Service, fix, errors.New("there is nothing to deploy to it"))
	}
}

// givenAmong lists the names of the inputs that are given, in quotes.
func (p *parser) givenAmong(names ...string) string {
	var found []string
	for _, name := range names {
		if p.given(name) {
			found = append(found, fmt.Sprintf("%q", name))
		}
	}
	return strings.Join(found, ", ")
}
