package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

func (p *parser) registry(r *Registry) {
	if v := p.single("repository", "Name one repository, and put several tags in \"tags\"."); v != "" {
		repository, err := parseRepository(v)
		if err != nil {
			p.fail("repository", v, "Write the repository's name, or its URI without a tag; tags belong in \"tags\".", err)
		}
		r.Repository = repository
	}
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

func (p *parser) build(b *Build) {
	p.sources(b)
	b.Target = p.single("target", "Name one stage.")
	b.BuildArgs = map[string]string{}
	p.pairs("build-args", false, "NAME=value", func(key, value string, found bool) error {
		if !found { // as with Docker: from the environment, if it is there
			if value = p.env(key); value == "" {
				return nil
			}
		}
		b.BuildArgs[key] = value
		return nil
	})
	b.Labels = map[string]string{}
	p.pairs("labels", false, "NAME=value", func(key, value string, _ bool) error {
		b.Labels[key] = value
		return nil
	})
	p.buildSecrets(b)
	p.platforms(b)
	b.Sandbox = p.text("sandbox")
	if known := []string{SandboxAuto, SandboxNamespaces, SandboxInPlace, SandboxChroot}; !slices.Contains(known, b.Sandbox) {
		p.failf("sandbox", b.Sandbox, "Write one of "+strings.Join(known, ", ")+".", "not a sandbox")
	}
}

func (p *parser) buildSecrets(b *Build) {
	b.Secrets, b.SecretFiles = map[string][]byte{}, map[string]string{}
	from := map[string]string{}
	claim := func(input, id string) error {
		if before, twice := from[id]; twice {
			return fmt.Errorf("the secret %q is also in %q", id, before)
		}
		from[id] = input
		return nil
	}
	p.pairs("secrets", false, "ID=value", func(id, value string, _ bool) error {
		if value == "" {
			return fmt.Errorf("the secret %q is empty (as is every secret that this run may not see)", id)
		}
		if len(value) > maxSecret {
			return fmt.Errorf("the secret %q has %d bytes, more than %d", id, len(value), maxSecret)
		}
		b.Secrets[id] = []byte(value)
		return claim("secrets", id)
	})
	p.pairs("secret-envs", true, "ID=VARIABLE", func(id, variable string, _ bool) error {
		variable = strings.TrimSpace(variable)
		if !matches(`^[A-Za-z_][A-Za-z0-9_]*$`, variable) {
			return fmt.Errorf("the secret %q: no name of a variable", id)
		}
		value := p.env(variable)
		if value == "" {
			return fmt.Errorf("the secret %q: %s is not in the step's environment, or empty", id, variable)
		}
		b.Secrets[id] = []byte(value)
		return claim("secret-envs", id)
	})
	p.pairs("secret-files", false, "ID=path", func(id, path string, _ bool) error {
		if path = strings.TrimSpace(path); path == "" {
			return fmt.Errorf("the secret %q: no path", id)
		}
		b.SecretFiles[id] = p.path(path)
		return claim("secret-files", id)
	})
}

// platforms are what to build for.
func (p *parser) platforms(b *Build) {
	for _, entry := range p.list("platforms", true) {
		platform, known := parsePlatform(entry.text)
		switch {
		case !known:
			p.failf("platforms", entry.text, "Write one of "+strings.Join(knownPlatforms(), ", ")+".", "not a platform")
		case !slices.Contains(b.Platforms, platform):
			b.Platforms = append(b.Platforms, platform)
		}
	}
	if len(b.Platforms) == 0 {
		b.Platforms = []string{"linux/" + runtime.GOARCH}
	}
}

func knownPlatforms() []string {
	return []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x"}
}

// parsePlatform gives a platform its usual name.
func parsePlatform(text string) (platform string, known bool) {
	alias := map[string]string{
		"linux/x86_64": "linux/amd64", "linux/aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "linux/arm": "linux/arm/v7",
	}
	v := strings.ToLower(text)
	v = cmp.Or(alias[v], v)
	return v, slices.Contains(knownPlatforms(), v)
}

const arnPrefix = `^arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:`

// clusterOf takes the cluster that the service's ARN shows.
func (p *parser) clusterOf(d *Deployment, cluster string) {
	if !p.given("cluster") {
		d.Cluster = cluster
		return
	}
	if given := d.Cluster[strings.LastIndexByte(d.Cluster, '/')+1:]; given != cluster {
		p.failf("cluster", d.Cluster, "Leave it empty: the service's ARN shows its cluster.", "the service is in the cluster %q", cluster)
	}
}
