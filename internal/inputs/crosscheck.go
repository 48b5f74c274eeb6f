package inputs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// crossChecks finds inputs that are right by themselves but not together. It
// goes by what was given rather than by what could be read, so that one mistake
// is not reported twice.
func (p *parser) crossChecks(s Settings) {
	ecs := p.deploys() || p.basis() || s.RunTask.Run
	tagged := p.given("tags") || p.given("repository") || s.Build.PushByDigest
	p.checkMerge(s)
	p.checkAnnotations(s)
	p.checkAttestations(s)
	p.checkRepositories(s)
	switch {
	case s.Resumes():
		p.checkResume(s)
		return
	case p.given("image") && len(s.Task.Images) == 0:
		if names := p.givenAmong(append(buildInputs(), "tags", "push", "merge-digests", "sandbox")...); names != "" {
			p.failf("image", s.Task.Image, "Remove \"image\" to build one, or remove "+names+".", "nothing is built when an image is given, but there is also %s", names)
		}
	case ecs && !tagged && !s.Asks():
		p.nothingToDeploy(s)
	case ecs && !s.Build.Push && len(s.Build.Exports) > 0 && !p.given("push"):
		p.failf("outputs", p.values["outputs"], "Set \"push\" to true, or remove \"service\" and \"task-definition\".", "with outputs but no type=image the image is not pushed, so it cannot be deployed")
	case ecs && p.given("push") && !s.Build.Push:
		p.failf("push", p.values["push"], "Remove it, or remove \"service\" and \"task-definition\".", "an image that is not pushed cannot be deployed")
	}
	if !ecs {
		for _, input := range append(definitionInputs(), "image", "container-name", "task-definition-tags", "keep-revisions") {
			if p.given(input) {
				p.failf(input, p.values[input], "Set \"service\", or \"task-definition\".", "there is no task definition to change")
			}
		}
	}
	if s.RunTask.Run && !p.deploys() && !p.basis() {
		p.failf("run-task", "true", "Set \"service\", or \"task-definition\".", "there is no task definition to run a task of")
	}
	p.checkDeployment(s)
}

// nothingToDeploy finds a service or task definition without an image: right
// only with a task definition from a file, deployed as it stands.
func (p *parser) nothingToDeploy(s Settings) {
	const fix = "Set \"repository\" (and perhaps \"tags\") to build and push an image, or \"image\" to deploy one that is there."
	if names := p.givenAmong(buildInputs()...); names != "" {
		p.fail("repository", "", fix, fmt.Errorf("empty, but an image has to be pushed to be deployed, and there is %s to build one", names))
		return
	}
	if !p.basis() && !p.given("image") && !s.RunTask.Run && p.givenAmong(append(definitionInputs(), "task-definition-tags", "force-new-deployment", "desired-count")...) == "" {
		p.fail("service", s.Deployment.Service, fix, errors.New("there is nothing to deploy to it"))
	}
}

// deploys says whether a service is named.
func (p *parser) deploys() bool { return p.given("service") || p.given("targets") }

// basis says whether a task definition to begin with is named.
func (p *parser) basis() bool {
	return p.given("task-definition") || p.given("task-definition-arn") || p.given("task-definition-family")
}

// definitionInputs are those that change a task definition without an image.
func definitionInputs() []string {
	return []string{
		"environment-variables", "remove-environment-variables", "container-secrets", "remove-secrets", "env-files",
		"log-configuration-log-driver", "log-configuration-options", "docker-labels", "command", "task-role-arn", "execution-role-arn",
	}
}

// buildInputs are those that only mean something to a build.
func buildInputs() []string {
	return []string{"context", "file", "target", "build-args", "labels", "secrets", "secret-envs", "secret-files", "build-contexts", "ssh", "platforms", "outputs", "compression", "call", "source-date-epoch"}
}

// checkMerge refuses what does not go with "merge-digests".
func (p *parser) checkMerge(s Settings) {
	if !s.Merges() {
		return
	}
	if names := p.givenAmong(buildInputs()...); names != "" {
		p.failf("merge-digests", p.values["merge-digests"], "Remove \"merge-digests\" to build an image, or remove "+names+".", "nothing is built when digests are merged, but there is also %s", names)
	}
	if !s.Build.Push && len(s.Build.Tags) > 0 {
		p.failf("push", p.values["push"], "Remove it.", "an index of what was pushed has to be pushed too")
	}
	if len(s.Build.Tags) == 0 && !p.given("tags") && !p.given("repository") {
		p.failf("tags", "", "Set \"tags\", or \"repository\" for the default tag.", "empty, so the index would have no name")
	}
	for _, a := range s.Build.Annotations {
		if a.Place != "index" {
			p.failf("annotations", a.Place+":"+a.Key, "Write index:KEY=value here, and the others where the images are built.", "the images are pushed already")
		}
	}
}

// checkAnnotations refuses annotations that have no place.
func (p *parser) checkAnnotations(s Settings) {
	if s.Merges() {
		return
	}
	all := slices.Clone(s.Build.Manifests.Annotations)
	for _, e := range s.Build.Exports {
		all = append(all, e.Manifests.Annotations...)
	}
	told := map[string]bool{}
	for _, a := range all {
		name := a.Place + ":" + a.Key
		switch {
		case told[name]:
		case strings.HasPrefix(a.Place, "index") && len(s.Build.Platforms) == 1:
			p.failf("annotations", name, "Write manifest:KEY=value.", "one platform has no index")
		case a.Platform != "" && !slices.Contains(s.Build.Platforms, a.Platform):
			p.failf("annotations", name, "Name one of \"platforms\".", "nothing is built for %s", a.Platform)
		default:
			continue
		}
		told[name] = true
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
