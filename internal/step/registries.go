package step

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/registry"
)

// ecrHosts are the ECR registries that this step works with, each once: those that
// images go to, and those of the inputs.
func (s *Step) ecrHosts(ctx context.Context) ([]string, error) {
	var hosts []string
	for _, repository := range s.layerTargets() {
		host, _, _ := strings.Cut(repository, "/")
		isECR, err := s.registry.IsECR(ctx, host)
		if err != nil {
			return nil, err
		}
		if isECR {
			hosts = append(hosts, host)
		}
	}
	r := s.settings.Registry
	for _, each := range r.Registries {
		host, err := s.registry.Host(ctx, each)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, host)
	}
	if r.Public {
		hosts = append(hosts, inputs.PublicHost)
	}
	if r.OutputDockerCredentials && len(hosts) == 0 {
		own, err := s.registry.Host(ctx, "")
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, own)
	}
	return distinct(hosts), nil
}

// logIn logs in to the registries that the inputs name, and gives the logins to
// later steps if they ask for that.
func (s *Step) logInto(ctx context.Context) error {
	if err := s.openRegistry(); err != nil {
		return err
	}
	hosts, err := s.ecrHosts(ctx)
	if err != nil {
		return err
	}
	if err := s.registry.Login(ctx, hosts); err != nil {
		return err
	}
	for _, host := range hosts {
		s.report.Say("logged in", "registry "+host)
		if s.settings.Registry.OutputDockerCredentials {
			if err := s.handOverLogin(ctx, host); err != nil {
				return err
			}
		}
	}
	return s.outputRegistry(hosts)
}

func (s *Step) outputRegistry(hosts []string) error {
	if len(hosts) == 0 || s.registryTold {
		return nil
	}
	s.registryTold = true
	return s.output(map[string]string{inputs.OutputRegistry: hosts[0]})
}

// handOverLogin sets the outputs that aws-actions/amazon-ecr-login has.
func (s *Step) handOverLogin(ctx context.Context, host string) error {
	token, err := s.registry.Token(ctx, host)
	if err != nil {
		return err
	}
	return errors.Join(
		s.runner.SetOutput(loginOutput("docker_username_", host), token.User),
		s.runner.SetOutput(loginOutput("docker_password_", host), token.Password),
	)
}

// loginOutput is the name of an output for a registry.
func loginOutput(prefix, host string) string {
	return prefix + regexp.MustCompile(`[^a-zA-Z0-9_]+`).ReplaceAllString(host, "_")
}

// createTargets creates the repositories that are missing.
func (s *Step) createTargets(ctx context.Context, missing []registry.Target) ([]registry.Target, error) {
	var made []registry.Target
	var errs []error
	for _, target := range missing {
		var tags []string
		for _, tag := range s.settings.Build.Tags {
			if tag.Repository.String() == target.Asked {
				tags = append(tags, tag.Tag)
			}
		}
		created, err := s.registry.Create(ctx, target, tags)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.did("repository %s was created, nothing was pushed", created.URI)
		s.report.Say("created", "repository "+created.URI, mutabilityWords(created.Settings))
		made = append(made, created)
	}
	return made, errors.Join(errs...)
}

// mutabilityWords says how a repository's tags are.
func mutabilityWords(r *registry.Repository) string {
	switch {
	case r == nil || r.TagMutability == "":
		return ""
	case r.TagMutability == "IMMUTABLE":
		return "tags are immutable"
	case len(r.TagExclusions) > 0:
		return "tags are immutable except " + strings.Join(r.TagExclusions, ", ")
	}
	return "tags can be moved"
}
