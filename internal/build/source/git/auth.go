package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

// authorized is the transport with the Authorization header for remote, which
// goes to that server and path alone, wherever redirects lead.
func (f *Fetcher) authorized(r Repository, remote, user, password string) http.RoundTripper {
	next := f.Transport
	if next == nil {
		next = http.DefaultTransport //nolint:forbidigo // the default, which knows the proxies
	}
	u, err := url.Parse(remote)
	if err != nil {
		return next
	}
	header := ""
	if within(remote, scopeOf(r.Remote)) {
		header = f.secretHeader(r, hostOf(r.Remote))
	}
	if header == "" && password != "" {
		header = basic(user, password)
	}
	if header == "" && f.Login != nil && u.Scheme == "https" {
		if login, token := f.Login(u.Host); token != "" {
			header = basic(login, token)
		}
	}
	if header == "" {
		return next
	}
	return &scoped{next: next, scope: scopeOf(remote), header: header}
}

// secretHeader looks the secrets through, those for the host first.
func (f *Fetcher) secretHeader(r Repository, host string) string {
	if f.Secret == nil {
		return ""
	}
	for _, suffix := range []string{"." + host, ""} {
		if r.HeaderSecret != "" {
			if value, ok := f.Secret(r.HeaderSecret + suffix); ok {
				return strings.TrimSpace(string(value))
			}
		}
		if r.TokenSecret != "" {
			if value, ok := f.Secret(r.TokenSecret + suffix); ok {
				return basic("x-access-token", strings.TrimSpace(string(value)))
			}
		}
	}
	return ""
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func hostOf(remote string) string {
	u, err := url.Parse(remote)
	if err != nil {
		return ""
	}
	return u.Host
}

// scopeOf is where the credentials for remote may be shown: there, and on
// github.com everywhere, as actions/checkout does it for submodules.
func scopeOf(remote string) string {
	u, err := url.Parse(remote)
	if err != nil {
		return remote
	}
	u.User = nil
	if u.Scheme == "https" && (u.Host == "github.com" || u.Host == "www.github.com") {
		u.Path = "/"
	}
	return u.String()
}

// within says whether raw is scope or below it.
func within(raw, scope string) bool {
	a, errA := url.Parse(raw)
	b, errB := url.Parse(scope)
	if errA != nil || errB != nil || a.Scheme != b.Scheme || !strings.EqualFold(a.Host, b.Host) {
		return false
	}
	inner, outer := path.Clean("/"+a.Path), path.Clean("/"+b.Path)
	return outer == "/" || inner == outer || strings.HasPrefix(inner, outer+"/")
}

// scoped adds a header to the requests below a URL.
type scoped struct {
	next          http.RoundTripper
	scope, header string
}

// RoundTrip sends a copy of the request.
func (s *scoped) RoundTrip(req *http.Request) (*http.Response, error) {
	if within(req.URL.String(), s.scope) {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", s.header)
	}
	return s.next.RoundTrip(req)
}

// sshTimeout bounds the beginning of an ssh connection.
const sshTimeout = 30 * time.Second

// sshAuth makes ssh use the keys that the source names.
func (f *Fetcher) sshAuth(ctx context.Context, r Repository, user string) (gitssh.AuthMethod, func(), error) {
	missing := func(err error) error {
		return &problem.Error{
			Op: "read " + r.Name(), Input: "ssh", Err: err,
			Fix: `Give the key: input "ssh" with default=PATH, or "default=${{ secrets.KEY }}" in double quotes. Or use the https:// URL.`,
		}
	}
	if f.Signers == nil {
		return nil, nil, missing(errors.New("the repository is reached by ssh, and there is no key"))
	}
	signers, done, err := f.Signers(ctx, r.SSH)
	if err != nil {
		return nil, nil, missing(err)
	}
	keys, err := knownHosts(r)
	if err != nil {
		done()
		return nil, nil, err
	}
	if user == "" {
		user = "git"
	}
	auth := &gitssh.PublicKeysCallback{User: user, Callback: func() ([]ssh.Signer, error) { return signers, nil }}
	auth.HostKeyCallback = keys
	return &limited{auth}, done, nil
}

// limited gives a connection a time to come about in.
type limited struct{ gitssh.AuthMethod }

// ClientConfig is the method's own with a limit.
func (l *limited) ClientConfig() (*ssh.ClientConfig, error) {
	config, err := l.AuthMethod.ClientConfig()
	if err == nil {
		config.Timeout = sshTimeout
	}
	return config, err
}

// knownHosts accepts the keys that the source lists.
func knownHosts(r Repository) (ssh.HostKeyCallback, error) {
	if r.KnownHosts == "" {
		return nil, &problem.Error{
			Op: "read " + r.Name(), Err: errors.New("the server's ssh key could not be found out"),
			Fix: "See that the server is reachable by ssh from the runner, or use the https:// URL.",
		}
	}
	// In place, a file in the folder for temporary files would be in the image.
	fd, err := unix.MemfdCreate("known-hosts", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	file := os.NewFile(uintptr(fd), "known-hosts")
	defer file.Close() //nolint:errcheck // memory
	if _, err = file.WriteString(r.KnownHosts); err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	callback, err := knownhosts.New(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	return callback, nil
}
