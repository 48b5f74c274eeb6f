package step

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

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
	if s.settings.Registry.CreateRepository {
		opts.Create = s.repositoryTags
	}
	if s.session != nil {
		opts.ECR = registry.NewECR(s.session.Config)
	}
	s.registry = registry.New(opts)
	return nil
}

// findTargets turns the tags into full references, and asks for each ECR
// repository once.
func (s *Step) findTargets(ctx context.Context) error {
	uris := map[string]string{}
	failed := map[string]bool{}
	find := func(repository string) (string, error) {
		if uri, ok := uris[repository]; ok {
			return uri, nil
		}
		uri, err := s.registry.RepositoryURI(ctx, repository)
		if err == nil {
			uris[repository] = uri
		}
		return uri, err
	}
	var errs []error
	for _, tag := range s.settings.Build.Tags {
		if !s.settings.Build.Push {
			s.refs = append(s.refs, tag.String())
			continue
		}
		repository := tag.Repository.String()
		if failed[repository] {
			continue
		}
		uri, err := find(repository)
		if err != nil {
			failed[repository] = true
			errs = append(errs, err)
			continue
		}
		s.refs = append(s.refs, uri+":"+tag.Tag)
	}
	for _, repository := range s.settings.Build.DigestRepositories {
		uri, err := find(repository.String())
		errs = append(errs, err)
		s.repositories = append(s.repositories, uri)
	}
	if s.settings.Merges() && errors.Join(errs...) == nil {
		errs = append(errs, s.merge(ctx, find))
	}
	return errors.Join(errs...)
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
		s.report.Say("note", "image "+image+" is deployed by its tag", err.Error())
	}
	return nil
}
