package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/problem"
)

// ECRTokens is what this package asks of Amazon ECR. NewECR makes one from an
// AWS configuration.
type ECRTokens interface {
	// Region is the session's region, or empty.
	Region() string
	// Token answers ecr:GetAuthorizationToken in region; empty means Region.
	Token(ctx context.Context, region string) (Token, error)
	// Repository answers ecr:DescribeRepositories for one repository. An empty
	// region means Region, an empty account the caller's own.
	Repository(ctx context.Context, region, account, repository string) (Repository, error)
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
	// URI is HOST/NAME.
	URI string
	// TagMutability is MUTABLE, IMMUTABLE, MUTABLE_WITH_EXCLUSION or
	// IMMUTABLE_WITH_EXCLUSION.
	TagMutability string
	// TagExclusions are the wildcards of the tags for which the opposite holds.
	TagExclusions []string
}

// immutable says whether tag cannot be moved once it is set.
func (r Repository) immutable(tag string) bool {
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

// hostLogin is what is known of one registry host.
type hostLogin struct {
	// given: the user named a login for it; ECR's is not used.
	given bool
	// ecr: ECR's token for region is its login.
	ecr       bool
	region    string
	plainHTTP bool
}

// logins knows which hosts take ECR's tokens, and keeps the tokens.
type logins struct {
	ecr  ECRTokens
	mask func(string)

	mu     sync.Mutex
	hosts  map[string]hostLogin
	tokens map[string]*ecrToken
}

// ecrToken is one region's token. The mutex is held while it is fetched, so
// that many layers ask once.
type ecrToken struct {
	mu    sync.Mutex
	token Token
}

func newLogins(ecr ECRTokens, mask func(string)) *logins {
	return &logins{ecr: ecr, mask: mask, hosts: map[string]hostLogin{}, tokens: map[string]*ecrToken{}}
}

func (l *logins) know(host string, login hostLogin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[host] = login
}

// known gives what was found out about host, without asking anybody.
func (l *logins) known(host string) hostLogin {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hosts[host]
}

// of finds out how to log in to host. ECR's hosts show by name; any other
// host might be what a stand-in for ECR names as the account's registry.
func (l *logins) of(ctx context.Context, host string) (hostLogin, error) {
	l.mu.Lock()
	login, ok := l.hosts[host]
	l.mu.Unlock()
	if ok {
		return login, nil
	}
	if l.ecr == nil || host == name.DefaultRegistry {
		l.know(host, login)
		return login, nil
	}
	if _, region, isECR := ECRHost(host); isECR {
		login = hostLogin{ecr: true, region: region}
		l.know(host, login)
		return login, nil
	}
	token, err := l.token(ctx, "", "")
	if ctx.Err() != nil {
		return login, context.Cause(ctx)
	}
	// A session that may not ask for ECR's tokens can still pull from elsewhere.
	if err == nil {
		endpoint, parseErr := url.Parse(token.Endpoint)
		if parseErr == nil && endpoint.Host == host {
			login = hostLogin{ecr: true, plainHTTP: endpoint.Scheme == "http"}
		}
	}
	l.know(host, login)
	return login, nil
}

// token gives region's token, at least ten minutes before its end. refused is
// the password that a registry did not take, or empty: that token is not used
// again.
func (l *logins) token(ctx context.Context, region, refused string) (Token, error) {
	l.mu.Lock()
	entry, ok := l.tokens[region]
	if !ok {
		entry = &ecrToken{}
		l.tokens[region] = entry
	}
	l.mu.Unlock()

	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.token.Password != "" && entry.token.Password != refused && time.Until(entry.token.Expires) > 10*time.Minute {
		return entry.token, nil
	}
	token, err := l.ecr.Token(ctx, region)
	if err != nil {
		return Token{}, &problem.Error{
			Op: "log in to Amazon ECR", Err: err,
			Fix: `Allow ecr:GetAuthorizationToken on resource "*" to the role.`,
		}
	}
	if token.Password == "" {
		return Token{}, &problem.Error{Op: "log in to Amazon ECR", Err: errors.New("ecr:GetAuthorizationToken answered without a token")}
	}
	l.mask(token.Password)
	l.mask(basic(token))
	entry.token = token
	return token, nil
}

// basic is the token as HTTP's Basic authentication spells it.
func basic(t Token) string {
	return base64.StdEncoding.EncodeToString([]byte(t.User + ":" + t.Password))
}

// RepositoryURI gives HOST/NAME of an ECR repository, which may be named by
// its bare name or already by its URI. A missing repository is a
// *problem.Error with the command that creates it. A URI on another registry
// is given back as it is.
func (c *Client) RepositoryURI(ctx context.Context, repository string) (string, error) {
	var account, region string
	bare := repository
	host, rest, _ := strings.Cut(repository, "/")
	if isHost := rest != "" && (strings.ContainsAny(host, ".:") || host == "localhost"); isHost {
		login, err := c.logins.of(ctx, host)
		if err != nil {
			return "", err
		}
		if !login.ecr {
			return repository, nil
		}
		account, _, _ = ECRHost(host)
		region, bare = login.region, rest
	}
	if c.opts.ECR == nil {
		return "", &problem.Error{
			Op: "find repository", Input: "repository", Value: repository,
			Err: errors.New("an ECR repository needs AWS credentials"),
			Fix: "Set role-to-assume and aws-region, or name the repository with its registry's host.",
		}
	}
	found, err := c.opts.ECR.Repository(ctx, region, account, bare)
	switch {
	case err == nil:
		return found.URI, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errorCode(err) == "RepositoryNotFoundException":
		return "", missingRepository(bare, cmp.Or(region, c.opts.ECR.Region()), err)
	case bare != repository && isDenied(err):
		// Only the registry itself can tell: another account's repository, or
		// a role that may push but not describe.
		return repository, nil
	case isDenied(err):
		return "", &problem.Error{
			Op: "find repository", Input: "repository", Value: repository, Err: err,
			Fix: "Allow ecr:DescribeRepositories to the role, or give the repository's full URI.",
		}
	}
	return "", &problem.Error{Op: "find repository", Input: "repository", Value: repository, Err: err}
}

func missingRepository(repository, region string, err error) *problem.Error {
	command := "aws ecr create-repository --repository-name " + repository
	if region != "" {
		command += " --region " + region
	}
	return &problem.Error{
		Op: "find repository", Input: "repository", Value: repository, Err: err,
		Fix: fmt.Sprintf("Create it: %s", command),
	}
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
