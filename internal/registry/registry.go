// Package registry pulls and pushes images: names and mirrors, logins that
// live in memory only, layers fetched once, blobs that are mounted or left
// where they are instead of uploaded again, tags that may be immutable.
//
// The protocol is go-containerregistry's; see
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
package registry

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Options say how registries are reached. The zero value pulls anonymously.
type Options struct {
	// Transport carries every request. Default: proxy from the environment,
	// HTTP/2, limits on connecting and on waiting for an answer.
	Transport http.RoundTripper
	// Mirrors maps a registry ("docker.io") to HOST[/PREFIX], which is asked
	// first. What it cannot give comes from the registry itself.
	Mirrors map[string]string
	// Credentials holds logins by host.
	Credentials map[string]authn.AuthConfig
	// Tentative are hosts among Credentials whose registry is asked again without
	// the login when it refuses to exchange it. Default: none.
	Tentative []string
	// ECR gives access to Amazon ECR. Default: AWS is never asked.
	ECR ECRTokens
	// Public: bare names of repositories are of ECR Public, and images are pulled
	// from there with its login. Default: private ECR; ECR Public gets a login
	// only where something is pushed to it.
	Public bool
	// Mask is told each secret before its first use.
	Mask func(secret string)
	// Events receives what was moved and what did not need to be. It is called
	// from several goroutines at once.
	Events func(Event)
	// Jobs bounds how many blobs move at once. Default: 8.
	Jobs int
	// CacheDir keeps the layers that were pulled, each once. Default: none,
	// layers are streamed from the registry whenever they are read.
	CacheDir string
}

// Kind says what happened to an object.
type Kind string

// What can happen to an object.
const (
	// KindPulled: downloaded and verified.
	KindPulled Kind = "pulled"
	// KindPushed: uploaded.
	KindPushed Kind = "pushed"
	// KindMounted: taken over from another repository of the same registry.
	KindMounted Kind = "mounted"
	// KindCreated: a repository that was missing.
	KindCreated Kind = "created"
	// KindExists: it was there already.
	KindExists Kind = "exists"
)

// Event is one object that was moved, or found in its place.
type Event struct {
	Kind Kind
	// Object names it: "layer sha256:9f86d0...", "manifest sha256:...", "tag repo:1.2".
	Object string
	// Repository is HOST/NAME, of the mirror where one was used.
	Repository string
	// Size is in bytes, compressed.
	Size     int64
	Duration time.Duration
}

// Client pulls and pushes. It may be used by several goroutines at once, and
// answers for a tag the same digest as long as it lives.
type Client struct {
	opts    Options
	logins  *logins
	puller  *remote.Puller
	pusher  *remote.Pusher
	blobs   *blobStore
	keys    *keychain
	mirrors map[string]string

	mu       sync.Mutex
	resolved map[string]*resolution
	// settings are those of ECR's repositories that were described, by HOST/NAME.
	settings map[string]*Repository
	// early holds what Upload did, until a Push tells it.
	early map[string]Event
}

// New makes a client. It contacts nobody.
func New(opts Options) *Client {
	if opts.Transport == nil {
		opts.Transport = defaultTransport()
	}
	if opts.Jobs <= 0 {
		opts.Jobs = 8
	}
	if opts.Mask == nil {
		opts.Mask = func(string) {}
	}
	if opts.Events == nil {
		opts.Events = func(Event) {}
	}
	c := &Client{
		opts:     opts,
		logins:   newLogins(opts.ECR, opts.Mask),
		blobs:    &blobStore{dir: opts.CacheDir},
		mirrors:  map[string]string{},
		resolved: map[string]*resolution{}, early: map[string]Event{}, settings: map[string]*Repository{},
	}
	for host, mirror := range opts.Mirrors {
		c.mirrors[canonicalHost(host)] = mirror
	}
	c.keys = &keychain{logins: c.logins, given: map[string]authn.AuthConfig{}}
	for host, config := range opts.Credentials {
		maskLogin(opts.Mask, config)
		c.keys.given[canonicalHost(host)] = config
		c.logins.know(canonicalHost(host), hostLogin{given: true, tentative: slices.Contains(opts.Tentative, host)})
	}
	if opts.Public && opts.ECR != nil && !c.logins.known(publicHost).given {
		c.logins.know(publicHost, hostLogin{ecr: true, place: Place{Public: true}})
	}
	// Retries are ours (see retry.go): go-containerregistry's sleep through a
	// cancelled context and do not heed Retry-After.
	common := []remote.Option{
		remote.WithTransport(&wire{base: opts.Transport, logins: c.logins}),
		remote.WithAuthFromKeychain(c.keys),
		remote.WithJobs(opts.Jobs),
		remote.WithUserAgent("towline"),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryStatusCodes(),
	}
	// Neither fails: the only fallible option is Jobs, checked above.
	c.puller, _ = remote.NewPuller(common...)
	c.pusher, _ = remote.NewPusher(common...)
	return c
}

// keychain holds the logins that a user gave, by host, and knows ECR Public's,
// which is exchanged for another token at the registry. Private ECR's is added
// by the wire.
type keychain struct {
	logins *logins
	given  map[string]authn.AuthConfig
}

// Resolve implements authn.Keychain.
func (k *keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if config, ok := k.given[r.RegistryStr()]; ok {
		return authn.FromConfig(config), nil
	}
	if login := k.logins.known(r.RegistryStr()); login.ecr && login.place.Public {
		return publicLogin{k.logins}, nil
	}
	return authn.Anonymous, nil
}

// publicLogin is ECR Public's token, renewed as it ends.
type publicLogin struct{ logins *logins }

// Authorization implements authn.Authenticator.
func (p publicLogin) Authorization() (*authn.AuthConfig, error) {
	return p.AuthorizationContext(context.Background())
}

// AuthorizationContext implements authn.ContextAuthenticator.
func (p publicLogin) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	token, err := p.logins.token(ctx, Place{Public: true}, "")
	if err != nil {
		return nil, err
	}
	return &authn.AuthConfig{Username: token.User, Password: token.Password}, nil
}

// maskLogin masks every form in which a login's secrets may show.
func maskLogin(mask func(string), config authn.AuthConfig) {
	if config.Username != "" && config.Password != "" {
		mask(base64.StdEncoding.EncodeToString([]byte(config.Username + ":" + config.Password)))
	}
	if config.Password != "" {
		mask(base64.StdEncoding.EncodeToString([]byte(config.Password)))
	}
	for _, secret := range []string{config.Password, config.Auth, config.IdentityToken, config.RegistryToken} {
		if secret != "" {
			mask(secret)
		}
	}
}

// canonicalHost maps the names under which Docker Hub goes to the one that
// go-containerregistry uses.
func canonicalHost(host string) string {
	switch host {
	case "docker.io", "registry-1.docker.io", "registry.hub.docker.com", "https://index.docker.io/v1/", "index.docker.io/v1/":
		return name.DefaultRegistry
	}
	return host
}

// isLoopback says whether host (with or without a port) is this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// login prepares for requests to host: whether ECR's token is for it, and
// whether it speaks plain HTTP.
func (c *Client) login(ctx context.Context, host string) (plainHTTP bool, err error) {
	l, err := c.logins.of(ctx, host)
	if err != nil {
		return false, err
	}
	return l.plainHTTP || isLoopback(host), nil
}
