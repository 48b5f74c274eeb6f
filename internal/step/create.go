package step

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/registry"
)

// forgiveMissing lets pre-flight go on without the repositories that are created
// when it has found nothing else.
func (s *Step) forgiveMissing(ctx context.Context) {
	for i, target := range s.targets {
		if !target.Missing || !s.settings.Registry.CreateRepository {
			continue
		}
		s.targets[i].Err = nil
		if target.URI != "" {
			continue
		}
		if host, err := s.registry.Host(ctx, ""); err == nil { // else there is no login, which is told
			s.targets[i].URI = host + "/" + target.Asked
		}
	}
}

// isMissing says whether a repository (HOST/NAME) is still to be created.
func (s *Step) isMissing(uri string) bool {
	return slices.ContainsFunc(s.targets, func(t registry.Target) bool { return t.Missing && t.URI == uri })
}

// createMissing creates the repositories that are missing, once nothing else
// stands in the way of the build: an empty one is of no use to anybody. Whether
// it takes images shows only now.
func (s *Step) createMissing(ctx context.Context) error {
	if s.settings.DryRun {
		return nil
	}
	errs := make([]error, len(s.targets))
	made := slices.Clone(s.targets)
	var creating, trying errgroup.Group
	for i, target := range s.targets {
		if target.Missing {
			creating.Go(func() error {
				made[i], errs[i] = s.registry.Create(ctx, target, s.repositoryTags(target.Asked))
				return nil
			})
		}
	}
	_ = creating.Wait() // each keeps its own error
	before := s.targets
	s.targets = made
	for i, target := range made {
		if before[i].Missing && errs[i] == nil {
			trying.Go(func() error { errs[i] = s.tryTarget(ctx, target.URI); return nil })
		}
	}
	_ = trying.Wait() // and again
	return errors.Join(errs...)
}

// repositoryTags are the tags that a repository gets: those of the image, and the
// build cache's.
func (s *Step) repositoryTags(repository string) []string {
	tags := []string{"towline-cache-*"}
	for _, tag := range s.settings.Build.Tags {
		if tag.Repository.String() == repository {
			tags = append(tags, tag.Tag)
		}
	}
	return tags
}

// planRepositories says, for a dry run, which repositories would be created.
func (s *Step) planRepositories() {
	for _, target := range s.targets {
		if target.Missing {
			s.report.Say("create", "repository "+target.URI, "images are scanned on push", "tags stay, but for those that move")
		}
	}
}
