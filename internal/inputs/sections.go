package inputs

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

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
	p.attestations(b)
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
