package step

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/towline/towline/internal/inputs"
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

// logInto logs in to the registries that the inputs name, and gives the logins to
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
