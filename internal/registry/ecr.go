package registry

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"
)

// ECRTokens is what this package asks of Amazon ECR. NewECR makes one from an
// AWS configuration.
type ECRTokens interface {
	// Region is the session's region, or empty.
	Region() string
	// Token answers ecr:GetAuthorizationToken, or ECR Public's.
	Token(ctx context.Context, at Place) (Token, error)
	// Repositories answers ecr:DescribeRepositories, which fails for all when one
	// of them is missing.
	Repositories(ctx context.Context, at Place, names []string) ([]Repository, error)
	// Create answers ecr:CreateRepository.
	Create(ctx context.Context, at Place, r Repository) (Repository, error)
	// CheckLayer answers ecr:BatchCheckLayerAvailability for one layer: nil
	// whether or not it is there.
	CheckLayer(ctx context.Context, at Place, repository, digest string) error
}

// Place is one registry of ECR.
type Place struct {
	// Region is empty for the session's.
	Region string
	// Account is empty for the session's.
	Account string
	// Public is ECR Public, which is the same everywhere.
	Public bool
}

// Token is ECR's login. It is good for every registry in its region.
type Token struct {
	User, Password string
	// Endpoint is the account's own registry as a URL.
	Endpoint string
	// Expires is twelve hours after issue.
	Expires time.Time
}

// Repository is an ECR repository.
type Repository struct {
	// Name is its path in the registry, URI is HOST/NAME.
	Name, URI string
	// TagMutability is MUTABLE, IMMUTABLE, MUTABLE_WITH_EXCLUSION or
	// IMMUTABLE_WITH_EXCLUSION; empty for a public one.
	TagMutability string
	// TagExclusions are the wildcards of the tags for which the opposite holds.
	TagExclusions []string
	// Encryption is AES256, KMS or KMS_DSSE, Key the KMS key's ARN. Blobs are
	// mounted between repositories of equal encryption only.
	Encryption, Key string
	// ScanOnPush says whether each image is scanned when it arrives.
	ScanOnPush bool
}

// Immutable says whether tag cannot be moved once it is set; see
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html.
func (r Repository) Immutable(tag string) bool {
	excluded := false
	for _, pattern := range r.TagExclusions {
		ok, err := path.Match(pattern, tag)
		excluded = excluded || (ok && err == nil)
	}
	switch r.TagMutability {
	case "IMMUTABLE":
		return true
	case "IMMUTABLE_WITH_EXCLUSION":
		return !excluded
	case "MUTABLE_WITH_EXCLUSION":
		return excluded
	}
	return false
}

// ECRHost reads account and region off a private ECR registry's host name, in
// its standard, FIPS and dual-stack forms and in every partition; see
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html.
func ECRHost(host string) (account, region string, ok bool) {
	account, rest, found := strings.Cut(host, ".dkr")
	if !found || len(account) != 12 || strings.Trim(account, "0123456789") != "" {
		return "", "", false
	}
	rest, standard := strings.CutPrefix(rest, ".ecr")
	if !standard {
		if rest, found = strings.CutPrefix(rest, "-ecr"); !found {
			return "", "", false
		}
	}
	if rest, found = strings.CutPrefix(strings.TrimPrefix(rest, "-fips"), "."); !found {
		return "", "", false
	}
	region, suffix, _ := strings.Cut(rest, ".")
	if region == "" || strings.Trim(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", "", false
	}
	switch suffix {
	case "on.aws", "on.amazonwebservices.com.cn":
		ok = !standard
	case "amazonaws.com", "amazonaws.com.cn", "amazonaws.eu",
		"c2s.ic.gov", "sc2s.sgov.gov", "cloud.adc-e.uk", "csp.hci.ic.gov":
		ok = standard
	}
	if !ok {
		return "", "", false
	}
	return account, region, true
}

// errorCode is the code in AWS's own words, or empty.
func errorCode(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	return ""
}

func isDenied(err error) bool {
	code := errorCode(err)
	return strings.HasPrefix(code, "AccessDenied") || code == "UnauthorizedOperation"
}
