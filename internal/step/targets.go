package step

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/preflight"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/registry"
)

// openRegistry makes the registry client, once. It contacts nobody.
func (s *Step) openRegistry() error {
	if s.registry != nil {
		return nil
	}
	dir, err := s.folder()
	if err != nil {
		return err
	}
	logins := map[string]authn.AuthConfig{}
	var tentative []string
	for host, login := range s.settings.Registry.RegistryCredentials {
		if login.Tentative {
			tentative = append(tentative, host)
		}
		logins[host] = authn.AuthConfig{Username: login.User, Password: login.Password}
	}
	opts := registry.Options{
		Transport: s.opts.Transport, Mirrors: s.settings.Registry.RegistryMirrors,
		Credentials: logins, Tentative: tentative, Public: s.settings.Registry.Public, Mask: s.runner.Mask, Events: s.report.Registry, CacheDir: filepath.Join(dir, "blobs"),
	}
	if s.session != nil {
		opts.ECR = registry.NewECR(s.session.Config)
	}
	s.registry = registry.New(opts)
	return nil
}

// askedRepositories are those that images go to, or are merged in, each once.
func (s *Step) askedRepositories() []string {
	var names []string
	if s.settings.Build.Push {
		for _, tag := range s.settings.Build.Tags {
			names = append(names, tag.Repository.String())
		}
	}
	for _, repository := range s.settings.Build.DigestRepositories {
		names = append(names, repository.String())
	}
	for _, d := range s.settings.Build.MergeDigests {
		names = append(names, d.Repository.String())
	}
	return distinct(names)
}

// logIn gets ECR's passwords while the repositories are looked for.
func (s *Step) logIn(ctx context.Context) error {
	return s.registry.Login(ctx, s.askedRepositories())
}

// findTargets finds the repositories, and turns the tags into full references.
func (s *Step) findTargets(ctx context.Context) error {
	s.targets = s.registry.Targets(ctx, s.askedRepositories())
	uris := map[string]string{}
	var errs []error
	s.forgiveMissing(ctx)
	for _, target := range s.targets {
		if target.Err == nil {
			uris[target.Asked] = target.URI
		} else {
			errs = append(errs, target.Err)
		}
		if target.Unread != nil {
			s.unread(preflight.UnreadOf(ctx, "ecr:DescribeRepositories", "repository "+target.Asked, target.Unread))
		}
	}
	for _, tag := range s.settings.Build.Tags {
		if !s.settings.Build.Push {
			s.refs = append(s.refs, tag.String())
		} else if uri := uris[tag.Repository.String()]; uri != "" {
			s.refs = append(s.refs, uri+":"+tag.Tag)
		}
	}
	for _, repository := range s.settings.Build.DigestRepositories {
		if uri := uris[repository.String()]; uri != "" {
			s.repositories = append(s.repositories, uri)
		}
	}
	if s.settings.Merges() && errors.Join(errs...) == nil {
		errs = append(errs, s.merge(ctx, uris))
	}
	return errors.Join(errs...)
}

// tryTargets finds out whether the image may be pushed to each repository. A dry
// run does not try: it begins no upload, and its role need not be able to.
func (s *Step) tryTargets(ctx context.Context) error {
	if !s.settings.Pushes() || s.settings.DryRun {
		return nil
	}
	uris := s.layerTargets()
	if s.mergesInPlace() {
		uris = nil // an index of what is there takes no upload
	}
	errs := make([]error, len(uris)+1)
	var group errgroup.Group
	for i, uri := range uris {
		group.Go(func() error { errs[i] = s.tryTarget(ctx, uri); return nil })
	}
	group.Go(func() error { errs[len(uris)] = s.findHeld(ctx); return nil })
	_ = group.Wait() // all are told
	return errors.Join(errs...)
}

// mergesInPlace says whether an index is made in the repositories of its parts.
func (s *Step) mergesInPlace() bool {
	return s.settings.Merges() && !slices.ContainsFunc(s.settings.Build.Tags, func(tag inputs.Tag) bool {
		return slices.ContainsFunc(s.settings.Build.MergeDigests, func(d inputs.Digest) bool { return d.Repository != tag.Repository })
	})
}

// tryTarget probes one repository. A registry that is in trouble now may be well
// when the image is ready; the push has more patience than the probe.
func (s *Step) tryTarget(ctx context.Context, uri string) error {
	probe := s.registry.Probe
	if s.isMissing(uri) {
		probe = s.registry.ProbeMissing
	}
	err := probe(ctx, uri)
	if answer, ok := errors.AsType[*transport.Error](err); ok && (answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests) {
		s.unread(preflight.Unread{Action: "an upload", What: "the right to push to " + uri, Why: http.StatusText(answer.StatusCode)})
		return nil
	}
	return err
}

// findHeld tells of tags that cannot be moved: a push of another image than
// theirs will be refused, and of an index that is known to be another it is now.
func (s *Step) findHeld(ctx context.Context) error {
	held, err := s.registry.Held(ctx, s.refs)
	for _, tag := range held {
		if s.product != nil && s.product.descriptor.Digest == tag.Digest {
			continue
		}
		s.note("note", "tag "+tag.Ref+" cannot be moved", "it names "+tag.Digest.String()+": the push will be refused unless this image is the same")
	}
	return err
}

// findImages pins the images of ECR that are to be deployed by their digests, and
// refuses those that are not there. Other registries may be closed to us and yet
// open to the tasks.
func (s *Step) findImages(ctx context.Context) error {
	s.pinned = map[string]string{}
	images := []string{s.settings.Task.Image}
	for _, each := range s.settings.Task.Images {
		images = append(images, each.Value)
	}
	var errs []error
	for _, image := range distinct(images) {
		errs = append(errs, s.findImage(ctx, image))
	}
	s.deployable = s.pinned[s.settings.Task.Image]
	return errors.Join(errs...)
}

func (s *Step) findImage(ctx context.Context, image string) error {
	host, _, _ := strings.Cut(image, "/")
	if _, _, isECR := registry.ECRHost(host); !isECR || strings.Contains(image, "@") {
		return nil
	}
	found, err := s.registry.Resolve(ctx, image, v1.Platform{})
	var answer *transport.Error
	switch {
	case err == nil:
		s.pinned[image] = image + "@" + found.Digest.String()
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		known, _ := errors.AsType[*problem.Error](err)
		return &problem.Error{Op: "find image", Input: "image", Value: image, Err: known.Err, Fix: "Check the image's name and tag; Towline can also build and push it (input \"repository\")."}
	default: // a role need not be able to pull
		s.note("note", "image "+image+" is deployed by its tag", err.Error())
	}
	return nil
}
