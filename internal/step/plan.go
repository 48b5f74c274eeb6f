package step

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/towline/towline/internal/rollout"
	"github.com/towline/towline/internal/taskdef"
)

// toCome stands for a digest that is not known before the build.
const toCome = "@sha256:(of the new image)"

// plan says, in place of doing it, what would be built, pushed, registered and
// updated.
func (s *Step) plan(ctx context.Context) error {
	s.planBuild()
	s.planRepositories()
	if err := s.planPush(ctx); err != nil {
		return err
	}
	s.planCache()
	for _, e := range s.editions {
		if err := s.planDefinition(e); err != nil {
			return err
		}
	}
	for _, thing := range s.looks.read {
		s.report.Say("has", thing)
	}
	if s.settings.RunsTask() {
		s.report.Say("run", "one-off task of "+s.editions[0].base.Family())
	}
	s.planDeployments()
	s.planRevisions()
	s.report.Say("nothing", "was written: this is a dry run")
	s.report.Fact("Dry run", "nothing was written")
	return nil
}

func (s *Step) planBuild() {
	b := s.settings.Build
	if s.settings.Builds() {
		on := strings.Join(b.Platforms, ", ")
		if len(s.stages) == 0 {
			s.report.Say("build", s.relative(b.ContextName()), on)
		}
		for _, stage := range s.stages {
			platform := ""
			if stage.Platform != "" {
				platform = "--platform=" + stage.Platform
			}
			s.report.Say("build", "stage "+stage.Name, "FROM "+stage.Base, cmp.Or(platform, on))
		}
		for _, e := range b.Exports {
			s.report.Say("export", e.Type, s.relative(e.Dest))
		}
	}
	if s.settings.Merges() {
		s.report.Say("merge", plural(len(s.merged), "image")+" into an index", s.product.descriptor.Digest.String())
	}
}

// planPush says for each tag what it names now.
func (s *Step) planPush(ctx context.Context) error {
	if !s.settings.Pushes() {
		return nil
	}
	for _, ref := range s.refs {
		if s.isMissing(taskdef.Repository(ref)) {
			s.report.Say("push", ref, "a new tag")
			continue
		}
		have, err := s.registry.Digest(ctx, ref)
		if err != nil {
			return err
		}
		how := "a new tag"
		switch held := s.isHeld(ref); {
		case have != nil && s.product != nil && *have == s.product.descriptor.Digest:
			how = "the tag names it already"
		case have != nil && held:
			how = "the tag names " + have.String() + " and cannot be moved"
		case have != nil:
			how = "the tag moves from " + have.String()
		}
		s.report.Say("push", ref, how)
	}
	for _, repository := range s.repositories {
		s.report.Say("push", repository, "without a tag")
	}
	return nil
}

// planCache says where the build's cache goes once the image is where it belongs.
func (s *Step) planCache() {
	if !s.settings.Builds() || !s.settings.Build.Push {
		return
	}
	_, to := s.cachePlaces()
	for _, place := range to {
		s.report.Say("cache", place.Ref, "the build's steps, for the next build")
	}
	for _, place := range s.settings.Build.Cache.OtherTo {
		s.report.Say("cache", placeName(place), "the build's steps, for the next build")
	}
}

// planRevisions says what is done with the older revisions.
func (s *Step) planRevisions() {
	keep := s.settings.Task.KeepRevisions
	if !s.settings.Registers() || keep == 0 {
		return
	}
	for _, e := range s.editions {
		s.report.Say("deregister", "older revisions of "+e.base.Family(), fmt.Sprintf("all but the newest %d, and those that services run", keep))
	}
}

// isHeld says whether a tag's repository lets it not be moved.
func (s *Step) isHeld(ref string) bool {
	for _, target := range s.targets {
		if tag, ours := strings.CutPrefix(ref, target.URI+":"); ours && target.Settings != nil {
			return target.Settings.Immutable(tag)
		}
	}
	return false
}

// planDefinition shows the change of the task definition. Values that look like
// secrets are masked.
func (s *Step) planDefinition(e *edition) error {
	wanted, err := s.wanted(e, s.planImage())
	if err != nil {
		return err
	}
	before, of := taskdef.Document{}, "the first of its family, as far as is known"
	if len(e.known) > 0 {
		before, of = e.known[0].document, "instead of "+lastPart(e.known[0].arn)
	}
	for _, known := range e.known {
		if wanted.Equal(known.document) {
			s.report.Say("unchanged", "task definition "+lastPart(known.arn))
			return nil
		}
	}
	s.report.Say("register", "task definition "+wanted.Family(), of)
	for _, change := range before.Diff(wanted) {
		s.report.Change(change.Path, change.Before, change.After)
	}
	return nil
}

// planImage is the image as the task definition would name it.
func (s *Step) planImage() string {
	targets := append(append([]string(nil), s.refs...), s.repositories...)
	switch {
	case len(targets) == 0:
		return cmp.Or(s.deployable, s.settings.Task.Image)
	case s.product != nil:
		return taskdef.ImageReference(targets[0], "", s.product.descriptor.Digest.String())
	}
	return targets[0] + toCome
}

// planDeployments says what would be updated, wave by wave if there are several.
func (s *Step) planDeployments() {
	d := s.settings.Deployment
	sizes := rollout.Sizes(d.Waves, len(s.services))
	first := 0
	for i, size := range sizes {
		if len(sizes) > 1 {
			bake := ""
			if i > 0 && d.WaveBake > 0 {
				bake = fmt.Sprintf("%d minutes later", int(d.WaveBake.Minutes()))
			}
			s.report.Say("wave", fmt.Sprintf("%d of %d", i+1, len(sizes)), plural(size, "service"), bake)
		}
		for _, svc := range s.services[first : first+size] {
			s.planDeployment(svc)
		}
		first += size
	}
}

func (s *Step) planDeployment(svc *service) {
	if svc.found == nil {
		return
	}
	d := s.settings.Deployment
	tasks := svc.found.Desired
	if d.Update.DesiredCount != nil {
		tasks = *d.Update.DesiredCount
	}
	wait := "not waited for"
	if d.WaitForServiceStability {
		wait = fmt.Sprintf("waited for up to %d minutes", int(d.WaitFor.Minutes()))
	}
	s.report.Say("update", "service "+svc.found.Name, "cluster "+svc.found.ClusterName,
		cmp.Or(d.Strategy.Name, svc.found.Strategy), plural(tasks, "task"), wait)
}
