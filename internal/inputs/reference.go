package inputs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Repository is a place for images.
type Repository struct {
	// Host is a registry's address; empty: the account's ECR registry.
	Host string
	// Name is the path in the registry; empty: no repository.
	Name string
}

// ECR says whether the repository is in a private ECR registry.
func (r Repository) ECR() bool {
	return r.Name != "" && (r.Host == "" || ECRRegion(r.Host) != "")
}

// String is HOST/NAME, or NAME in the account's ECR registry.
func (r Repository) String() string {
	if r.Host == "" {
		return r.Name
	}
	return r.Host + "/" + r.Name
}

// Tag is a tag in a repository.
type Tag struct {
	Repository
	Tag string
}

// String is REPOSITORY:TAG.
func (t Tag) String() string { return t.Repository.String() + ":" + t.Tag }

// ECRRegion is the region of a private ECR registry by its host, in every
// partition and endpoint variant; empty for any other host.
func ECRRegion(host string) string {
	label, rest, ok := strings.Cut(host, ".")
	if !ok || !matches(`^[0-9]{12}$`, label) {
		return ""
	}
	for _, prefix := range []string{"dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."} {
		after, ok := strings.CutPrefix(rest, prefix)
		if !ok {
			continue
		}
		region, suffix, _ := strings.Cut(after, ".")
		if isRegion(region) && slices.Contains([]string{
			"amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "on.aws", "on.amazonwebservices.com.cn",
			"on.amazonwebservices.eu", "c2s.ic.gov", "sc2s.sgov.gov", "cloud.adc-e.uk", "csp.hci.ic.gov",
		}, suffix) {
			return region
		}
	}
	return ""
}

func isRegion(region string) bool { return matches(`^[a-z]+(-[a-z]+)+-[0-9]+$`, region) }

// hostOf is the registry of a reference, empty if it names none.
func hostOf(reference string) string {
	host, _, ok := strings.Cut(reference, "/")
	if !ok && !strings.Contains(reference, ".") || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return ""
	}
	return host
}

// arnRegion is the region of an ARN, empty for anything else.
func arnRegion(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return ""
	}
	return parts[3]
}

func submatches(pattern, text string) []string {
	return regexp.MustCompile(pattern).FindStringSubmatch(text)
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

const namePattern = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`

// checkPath says what is wrong with a repository's path.
func checkPath(path string) error {
	if len(path) > 255 {
		return fmt.Errorf("%d characters, more than 255", len(path))
	}
	if !matches(`^`+namePattern+`(?:/`+namePattern+`)*$`, path) {
		return fmt.Errorf("%q is not a repository name: lower-case letters and digits, separated by . _ - or /", path)
	}
	return nil
}

// parseRepository takes an ECR repository's name or a full URI. As in every
// reference, a first part with a dot or a port, or localhost, is a host.
func parseRepository(value string) (Repository, error) {
	value = strings.TrimPrefix(value, "https://")
	path := value[strings.LastIndexByte(value, '/')+1:]
	if strings.Contains(path, "@") || strings.Contains(path, ":") {
		return Repository{}, errors.New("has a tag or a digest")
	}
	host := ""
	if first, rest, ok := strings.Cut(value, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		registry, err := name.NewRegistry(first)
		if err != nil {
			return Repository{}, err
		}
		host, path = registry.RegistryStr(), rest
	} else {
		path = value
	}
	if err := checkPath(path); err != nil {
		return Repository{}, err
	}
	return Repository{Host: host, Name: path}, nil
}

// isBare says whether item is a tag alone rather than a reference.
func isBare(item string) bool { return !strings.ContainsAny(item, "/:@") }

// parseTag takes a bare tag, which goes on repository, or a full reference. One
// to be pushed has a registry: without, it would mean Docker's own images.
func parseTag(item string, repository Repository, push bool) (Tag, error) {
	switch {
	case isBare(item):
		if !matches(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`, item) {
			return Tag{}, errors.New("not a tag: up to 128 of A-Z a-z 0-9 _ . -, not starting with . or -")
		}
		return Tag{Repository: repository, Tag: item}, nil
	case strings.Contains(item, "@"):
		return Tag{}, errors.New("a digest cannot be chosen")
	}
	tag, err := name.NewTag(item)
	if err != nil {
		return Tag{}, err
	}
	path := tag.RepositoryStr()
	if err := checkPath(path); err != nil {
		return Tag{}, err
	}
	if push && !strings.Contains(item, "/") {
		return Tag{}, errors.New("no registry, which means Docker's own images on Docker Hub")
	}
	return Tag{Repository: Repository{Host: tag.RegistryStr(), Name: path}, Tag: tag.TagStr()}, nil
}
