package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/problem"
)

// hostLogin is what is known of one registry host.
type hostLogin struct {
	// given: the user named a login for it; ECR's is not used.
	given bool
	// tentative: nobody asked for that login, and it may be left out.
	tentative bool
	// ecr: ECR's token for place is its login.
	ecr       bool
	place     Place
	plainHTTP bool
}

// logins knows which hosts take ECR's tokens, and keeps the tokens.
type logins struct {
	ecr  ECRTokens
	mask func(string)

	mu     sync.Mutex
	hosts  map[string]hostLogin
	tokens map[Place]*ecrToken
}

// ecrToken is one region's token. The mutex is held while it is fetched, so
// that many layers ask once.
type ecrToken struct {
	mu    sync.Mutex
	token Token
}

func newLogins(ecr ECRTokens, mask func(string)) *logins {
	return &logins{ecr: ecr, mask: mask, hosts: map[string]hostLogin{}, tokens: map[Place]*ecrToken{}}
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

// of finds out how to log in to host. ECR's hosts show by name; one with a port
// might be what a stand-in for ECR names as the account's registry.
func (l *logins) of(ctx context.Context, host string) (hostLogin, error) {
	l.mu.Lock()
	login, ok := l.hosts[host]
	l.mu.Unlock()
	if ok {
		return login, nil
	}
	if l.ecr == nil {
		l.know(host, login)
		return login, nil
	}
	if account, region, isECR := ECRHost(host); isECR {
		login = hostLogin{ecr: true, place: Place{Region: region, Account: account}}
		l.know(host, login)
		return login, nil
	}
	if !strings.Contains(host, ":") && host != "localhost" && !strings.Contains(host, ".dkr.ecr.") {
		l.know(host, login)
		return login, nil
	}
	token, err := l.token(ctx, Place{}, "")
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

// token gives place's token, at least ten minutes before its end. refused is
// the password that a registry did not take, or empty: that token is not used
// again. A token is good for every account's registry in its region.
func (l *logins) token(ctx context.Context, place Place, refused string) (Token, error) {
	place.Account = ""
	if !place.Public {
		place.Region = cmp.Or(place.Region, l.ecr.Region())
	}
	l.mu.Lock()
	entry, ok := l.tokens[place]
	if !ok {
		entry = &ecrToken{}
		l.tokens[place] = entry
	}
	l.mu.Unlock()

	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.token.Password != "" && entry.token.Password != refused && time.Until(entry.token.Expires) > 10*time.Minute {
		return entry.token, nil
	}
	if err := l.reachable(place); err != nil {
		return Token{}, err
	}
	token, err := l.ecr.Token(ctx, place)
	if err == nil && token.Password == "" {
		err = errors.New("the answer has no token")
	}
	if err != nil {
		return Token{}, explainLogin(ctx, err, place)
	}
	l.mask(token.Password)
	l.mask(basic(token))
	entry.token = token
	return token, nil
}

// reachable refuses a registry in another partition: its IAM knows nothing of
// the session.
func (l *logins) reachable(place Place) error {
	there := partition(place.Region)
	if place.Public {
		there = "aws"
	}
	here := l.ecr.Region()
	if here == "" || !place.Public && place.Region == "" || partition(here) == there {
		return nil
	}
	what := "region " + place.Region
	if place.Public {
		what = "ECR Public"
	}
	return &problem.Error{
		Op:  "log in to Amazon ECR",
		Err: fmt.Errorf("%s is in the partition %s, and the session, of region %s, in %s", what, there, here, partition(here)),
		Fix: "Use one step for each partition, with a role of that partition, or give the registry's login in registry-credentials.",
	}
}

// explainLogin says why there is no token.
func explainLogin(ctx context.Context, err error, place Place) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p := &problem.Error{Op: "log in to Amazon ECR", Err: err}
	if place.Public {
		p.Op = "log in to Amazon ECR Public"
	} else if place.Region != "" {
		p.Op += " in " + place.Region
	}
	switch code := errorCode(err); {
	case isDenied(err) && place.Public:
		p.Fix = `Allow ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken on resource "*" to the role.`
	case isDenied(err):
		p.Fix = `Allow ecr:GetAuthorizationToken on resource "*" to the role.`
	case code == "UnrecognizedClientException" || code == "InvalidClientTokenId":
		p.Fix = "Check that the region is enabled for the account, and that the credentials are still valid."
	}
	return p
}

// IsECR says whether host takes ECR's login, private or public.
func (c *Client) IsECR(ctx context.Context, host string) (bool, error) {
	login, err := c.logins.of(ctx, host)
	return login.ecr && !login.given, err
}

// Host is the registry of an account, which is an ID or empty for the session's
// own, in the session's region. A host is given back.
func (c *Client) Host(ctx context.Context, account string) (string, error) {
	if strings.ContainsAny(account, ".:") {
		return account, nil
	}
	token, err := c.logins.token(ctx, Place{}, "")
	if err != nil {
		return "", err
	}
	endpoint, err := url.Parse(token.Endpoint)
	if err != nil {
		return "", fmt.Errorf("registry of ecr:GetAuthorizationToken: %w", err)
	}
	own, _, isECR := ECRHost(endpoint.Host)
	if account == "" || !isECR {
		return endpoint.Host, nil
	}
	return account + strings.TrimPrefix(endpoint.Host, own), nil
}

// Token is the login at a registry of ECR, private or public.
func (c *Client) Token(ctx context.Context, host string) (Token, error) {
	login, err := c.logins.of(ctx, host)
	if err != nil {
		return Token{}, err
	}
	return c.logins.token(ctx, login.place, "")
}

// basic is the token as HTTP's Basic authentication spells it.
func basic(t Token) string {
	return base64.StdEncoding.EncodeToString([]byte(t.User + ":" + t.Password))
}
