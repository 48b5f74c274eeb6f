package emulator

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	// publicHost is ECR Public's registry; everything in it is below an alias.
	publicHost = "public.ecr.aws"
	// publicRegion is where ECR Public's API is.
	publicRegion = "us-east-1"
)

// home is one registry of ECR: an account's in a region, or its part of ECR
// Public.
type home struct {
	account, region string
	public          bool
}

// repositoryKey names a repository. In ECR Public the name begins with the alias.
type repositoryKey struct {
	home home
	name string
}

// own is the registry of the cloud's own account and region.
func (c *Cloud) own() home { return home{account: c.opts.Account, region: c.opts.Region} }

// partition is the part of AWS that a region is in, and its domain.
func partition(region string) (name, domain string) {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn", "amazonaws.com.cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov", "amazonaws.com"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc", "amazonaws.eu"
	}
	return "aws", "amazonaws.com"
}

// host is ECR's own name for the registry.
func (h home) host() string {
	if h.public {
		return publicHost
	}
	_, domain := partition(h.region)
	return fmt.Sprintf("%s.dkr.ecr.%s.%s", h.account, h.region, domain)
}

// arn names a repository of the registry. In ECR Public the alias is no part of it.
func (h home) arn(repository string) string {
	if h.public {
		_, name, _ := strings.Cut(repository, "/")
		return "arn:aws:ecr-public::" + h.account + ":repository/" + cmp.Or(name, repository)
	}
	partition, _ := partition(h.region)
	return fmt.Sprintf("arn:%s:ecr:%s:%s:repository/%s", partition, h.region, h.account, repository)
}

// isAWS says whether a host is one of AWS's own names, not that of a stand-in.
func isAWS(host string) bool {
	host = bareHost(host)
	return host == publicHost || slices.ContainsFunc([]string{
		".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws", ".on.aws", ".amazonwebservices.com.cn",
	}, func(domain string) bool { return strings.HasSuffix(host, domain) })
}

// hostRegion is the region in one of AWS's names, or empty.
func hostRegion(host string) string {
	if !isAWS(host) {
		return ""
	}
	if m := regexp.MustCompile(`\.([a-z]+(?:-[a-z]+)+-\d)\.`).FindStringSubmatch(bareHost(host)); m != nil {
		return m[1]
	}
	return ""
}

// signedRegion is the region that requests to a service at host are signed for.
// ECR is in every region; everything else is in the cloud's.
func (c *Cloud) signedRegion(host, service string) string {
	switch service {
	case "ecr-public":
		return publicRegion
	case "ecr":
		return cmp.Or(hostRegion(host), c.opts.Region)
	}
	return c.opts.Region
}

// apiHome is the registry that a call of ECR's API is about: the caller's own,
// in the region of the host, unless it names another account's.
func (c *Cloud) apiHome(q *request) home {
	account := cmp.Or(q.member("registryId"), q.who.account())
	if q.service == "ecr-public" {
		return home{account: account, region: publicRegion, public: true}
	}
	return home{account: account, region: cmp.Or(hostRegion(q.host), c.opts.Region)}
}

// registryHome is the registry that is behind a host of the registry's protocol,
// in its standard, FIPS and dual-stack forms; a stand-in's is the cloud's own. An
// empty account is ECR Public's, before an alias is known.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
func (c *Cloud) registryHome(host string) home {
	host = bareHost(host)
	if host == publicHost {
		return home{region: publicRegion, public: true}
	}
	m := regexp.MustCompile(`^(\d{12})\.dkr(?:\.ecr(?:-fips)?|-ecr(?:-fips)?)\.([a-z]+(?:-[a-z]+)+-\d)\.`).FindStringSubmatch(host)
	if m == nil || !isAWS(host) {
		return c.own()
	}
	return home{account: m[1], region: m[2]}
}

// registryHost is the name of a registry for a client that calls host: ECR's own,
// unless the cloud is reached as something else. c.mu is held.
func (c *Cloud) registryHost(h home, host string) string {
	name := c.opts.RegistryHost
	if name == "" {
		if isAWS(host) || host == "" {
			return h.host()
		}
		name = host
	}
	if h != c.own() {
		return h.host()
	}
	c.reg.hosts[name] = true
	return name
}

// alias is what an account's repositories in ECR Public are below.
func (c *Cloud) alias(account string) string {
	return cmp.Or(c.aliases[account], "p"+account[:7])
}

// repositoryAt finds the repository that a path of a registry names. c.mu is held.
func (c *Cloud) repositoryAt(h home, name string) (home, *repository) {
	if h.public {
		alias, _, _ := strings.Cut(name, "/")
		h.account = c.opts.Account
		for account, its := range c.aliases {
			if its == alias {
				h.account = account
			}
		}
	}
	return h, c.reg.repos[repositoryKey{h, name}]
}
