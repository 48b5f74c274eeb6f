package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// ECR Public is one registry, whose API is in one region.
const (
	PublicHost   = "public.ecr.aws"
	publicRegion = "us-east-1"
)

// Registry says where images are.
type Registry struct {
	// Repository is the zero value if there is none.
	Repository Repository
	// CreateRepository creates those of ECR that are missing.
	CreateRepository bool
	// Public logs in to ECR Public for pulls too.
	Public bool
	// Registries are account IDs, in the session's region, and hosts of private ECR
	// registries.
	Registries []string
	// RegistryCredentials has a login for each host, as in a reference:
	// "index.docker.io" is Docker Hub.
	RegistryCredentials map[string]Login
	// RegistryMirrors has HOST or HOST/PREFIX for each such host.
	RegistryMirrors map[string]string
	// OutputDockerCredentials gives ECR's logins to later steps.
	OutputDockerCredentials bool
}

// Login is a user of a registry.
type Login struct {
	User, Password string
	// Tentative is a login that nobody asked for: a registry that refuses it is
	// asked again without.
	Tentative bool
}

// String hides the password.
func (l Login) String() string { return l.User + ":***" }

func (p *parser) registry(r *Registry) {
	if v := p.single("repository", "Name one repository, and put several tags in \"tags\"."); v != "" {
		repository, err := parseRepository(v)
		if err != nil {
			p.fail("repository", v, "Write the repository's name, or its URI without a tag; tags belong in \"tags\".", err)
		}
		r.Repository = repository
	}
	r.CreateRepository = p.boolean("create-repository", false)
	r.OutputDockerCredentials = p.boolean("output-docker-credentials", false)
	p.registries(r)
	r.RegistryCredentials = map[string]Login{}
	p.pairs("registry-credentials", false, "HOST=USER:PASSWORD", func(key, value string, _ bool) error {
		host, err := registryHost(key)
		if err != nil {
			return err
		}
		user, password, found := strings.Cut(value, ":")
		if !found || user == "" || password == "" {
			return fmt.Errorf("no user and password for %s (a secret that this run may not see is empty)", host)
		}
		if _, twice := r.RegistryCredentials[host]; twice {
			return fmt.Errorf("%s twice", host)
		}
		r.RegistryCredentials[host] = Login{User: user, Password: password}
		return nil
	})
	p.mirrors(r)
}

func (p *parser) mirrors(r *Registry) {
	r.RegistryMirrors = map[string]string{}
	p.pairs("registry-mirrors", false, "docker.io=HOST[/PREFIX]", func(key, value string, _ bool) error {
		host, err := registryHost(key)
		if err != nil {
			return err
		}
		mirror := strings.Trim(strings.TrimSpace(strings.TrimPrefix(value, "https://")), "/")
		mirrorHost, prefix, hasPrefix := strings.Cut(mirror, "/")
		if _, err := registryHost(mirrorHost); err != nil {
			return fmt.Errorf("mirror of %s: %w", host, err)
		}
		if hasPrefix {
			if err := checkPath(prefix); err != nil {
				return fmt.Errorf("mirror of %s: %w", host, err)
			}
		}
		if _, twice := r.RegistryMirrors[host]; twice {
			return fmt.Errorf("%s twice", host)
		}
		r.RegistryMirrors[host] = mirror
		return nil
	})
}

// registryHost is the host as references have it: docker.io is index.docker.io.
func registryHost(v string) (string, error) {
	v = strings.TrimSuffix(strings.TrimPrefix(v, "https://"), "/")
	if v == "" || !strings.ContainsAny(v, ".:") && v != "localhost" {
		return "", errors.New("not the address of a registry")
	}
	registry, err := name.NewRegistry(v)
	if err != nil {
		return "", err
	}
	return registry.RegistryStr(), nil
}

// registries reads where ECR's login is wanted.
func (p *parser) registries(r *Registry) {
	switch v := p.text("registry-type"); v {
	case "private":
	case "public":
		r.Public = true
	default:
		p.failf("registry-type", v, "Write private or public.", "not a type of registry")
	}
	const fix = "Write account IDs, 12 digits each and in quotes, or hosts such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com."
	for _, entry := range p.list("registries", true) {
		if host := strings.TrimSuffix(strings.TrimPrefix(entry.text, "https://"), "/"); ECRRegion(host) != "" || matches(`^[0-9]{12}$`, host) {
			r.Registries = append(r.Registries, host)
			continue
		}
		p.failf("registries", entry.text, fix, "neither an account ID nor the host of a private ECR registry")
	}
	if v := p.values["repository"]; r.Public && r.Repository.Name != "" && r.Repository.Host == "" {
		p.failf("repository", v, "Write public.ecr.aws/ALIAS/NAME, as the repository's page has it.", "with \"registry-type\" public the repository's whole URI is needed, as only that shows its alias")
	}
}

// githubRegistry adds the login at GitHub's own registry that the job has, unless
// another one is given; see
// https://docs.github.com/en/packages/working-with-a-github-packages-registry/working-with-the-container-registry.
func (p *parser) githubRegistry(s *Settings) {
	host := "ghcr.io"
	if s.Build.GitHubHost != "github.com" {
		host = "containers." + s.Build.GitHubHost
	}
	if _, given := s.Registry.RegistryCredentials[host]; given || s.Build.GitHubToken == "" {
		return
	}
	s.Registry.RegistryCredentials[host] = Login{
		User: cmp.Or(p.env("GITHUB_ACTOR"), "x-access-token"), Password: s.Build.GitHubToken, Tentative: true,
	}
}

// checkRepositories refuses what does not go with the repositories that there are.
func (p *parser) checkRepositories(s Settings) {
	if !s.Registry.CreateRepository {
		return
	}
	for _, r := range append(s.repositories(), s.Registry.Repository) {
		if r.ECR() || r.Host == PublicHost {
			return
		}
	}
	p.failf("create-repository", "true", "Set \"repository\", or remove it.", "there is no repository of ECR among \"repository\" and \"tags\"")
}

// repositories are all that images come from and go to, by the inputs.
func (s Settings) repositories() []Repository {
	var all []Repository
	for _, t := range s.Build.Tags {
		all = append(all, t.Repository)
	}
	all = append(all, s.Build.DigestRepositories...)
	for _, d := range s.Build.MergeDigests {
		all = append(all, d.Repository)
	}
	return all
}

// LogsIn says whether a registry is logged in to for its own sake.
func (s Settings) LogsIn() bool {
	r := s.Registry
	return !s.Asks() && (len(r.Registries) > 0 || r.OutputDockerCredentials)
}

// loggedIn says whether the user gave a login for the registry.
func (s Settings) loggedIn(r Repository) bool {
	_, given := s.Registry.RegistryCredentials[r.Host]
	return given
}
