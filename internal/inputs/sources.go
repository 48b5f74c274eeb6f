package inputs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towline/towline/internal/problem"
)

// SSHKeys are the keys of one id of "ssh".
type SSHKeys struct {
	// Socket is an agent's, or empty.
	Socket string
	// Keys are private keys as in their files: those that the input holds and,
	// after ReadSecretFiles, those of Paths.
	Keys [][]byte
	// Paths are files with a key, or an agent's socket, until ReadSecretFiles.
	Paths []string
}

// githubToken is the default of github-token, which the runner replaces.
const githubToken = "${{ github.token }}" //nolint:gosec // the word for one

// sources reads what a build may read besides the workspace.
func (p *parser) sources(b *Build) {
	p.context(b)
	b.Contexts = map[string]string{}
	p.pairs("build-contexts", false, "NAME=folder, docker-image://REFERENCE, oci-layout://FOLDER:TAG or the URL of a git repository or file", func(name, value string, _ bool) error {
		value = strings.TrimSpace(value)
		layout, isLayout := strings.CutPrefix(value, "oci-layout://")
		switch {
		case value == "":
			return fmt.Errorf("the context %q is empty", name)
		case strings.HasPrefix(value, "target:"):
			return fmt.Errorf("the context %q: targets are a matter of docker buildx bake", name)
		case isLayout:
			value = "oci-layout://" + p.path(layout)
		case !strings.HasPrefix(value, "docker-image://") && !isRemoteContext(value):
			value = p.path(value)
		}
		b.Contexts[name] = value
		return nil
	})
	if v := p.single("github-token", "Give one token."); v != githubToken {
		b.GitHubToken = v
	}
	if server, err := url.Parse(p.env("GITHUB_SERVER_URL")); err == nil {
		b.GitHubHost = server.Host
	}
	if b.GitHubHost == "" {
		b.GitHubHost = "github.com"
	}
	p.ssh(b)
}

// context reads the build context and the path of the Dockerfile, which is one
// inside the context where that is no folder.
func (p *parser) context(b *Build) {
	v := p.single("context", "Name one folder.")
	known := func(scheme string) bool { return strings.HasPrefix(v, scheme) }
	switch {
	case isRemoteContext(v) && slices.ContainsFunc([]string{"https://", "http://", "git://", "ssh://", "git@"}, known):
		b.Context, b.ContextHoldsFile = v, true
	case isRemoteContext(v), strings.Contains(v, "{{"), v == "-":
		p.failf("context", hidePassword(v), "Name a folder or a tar of the workspace, such as \".\", or the https:// URL of a git repository (it ends in .git) or of a tar.", "not a context")
	default:
		b.Context = p.path(v)
		b.ContextHoldsFile = slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"}, func(end string) bool { return strings.HasSuffix(v, end) })
	}
	b.File = "Dockerfile"
	if v := p.single("file", "Name one file; the text of a Dockerfile cannot stand here."); v != "" {
		b.File = v
		if !b.ContextHoldsFile {
			b.File = p.path(v)
		}
	} else if !b.ContextHoldsFile {
		b.File = filepath.Join(b.Context, b.File)
	}
}

// GitLogin is the user and the token for an https host of git: GitHub's own.
func (b Build) GitLogin(host string) (user, token string) {
	if b.GitHubToken == "" || !strings.EqualFold(host, b.GitHubHost) {
		return "", ""
	}
	return "x-access-token", b.GitHubToken
}

// ContextName is the context as messages show it.
func (b Build) ContextName() string { return hidePassword(b.Context) }

func hidePassword(v string) string {
	if u, err := url.Parse(v); err == nil && u.User != nil && u.Host != "" {
		u.User = nil
		return u.String()
	}
	return v
}

// ssh reads lines of ID, ID=PATH[,PATH] or, in quotes, ID=KEY; commas also
// separate several of the first two.
func (p *parser) ssh(b *Build) {
	b.SSH = map[string]SSHKeys{}
	const fix = "Write lines of ID=PATH of a key or of an agent's socket, or \"ID=${{ secrets.KEY }}\" in double quotes; the ID is mostly default."
	for _, entry := range p.list("ssh", false) {
		_, value, found := strings.Cut(entry.text, "=")
		parts := []string{entry.text}
		if !found || !strings.HasPrefix(strings.TrimSpace(value), "-----BEGIN") {
			parts = strings.Split(entry.text, ",")
		}
		last := ""
		for _, part := range parts {
			id, value, found := strings.Cut(part, "=")
			if id = strings.TrimSpace(id); !found && last != "" && strings.Contains(id, "/") {
				id, value, found = last, id, true // a further path
			}
			if err := p.addSSH(b, id, strings.TrimSpace(value), found); err != nil {
				p.fail("ssh", "", fix, fmt.Errorf("line %d: %w", entry.line, err))
			}
			last = id
		}
	}
}

func (p *parser) addSSH(b *Build, id, value string, found bool) error {
	set := b.SSH[id]
	switch {
	case !matches(`^[\w.@-]+$`, id):
		return errors.New("it does not begin with an ID")
	case !found:
		if set.Socket = p.env("SSH_AUTH_SOCK"); set.Socket == "" {
			return fmt.Errorf("%q has no key, and there is no agent: SSH_AUTH_SOCK is not in the step's environment", id)
		}
	case value == "":
		return fmt.Errorf("the key %q is empty (as is every secret that this run may not see)", id)
	case strings.HasPrefix(value, "-----BEGIN"):
		set.Keys = append(set.Keys, []byte(value+"\n"))
	default:
		set.Paths = append(set.Paths, p.path(mapHostPaths(value, p.workspace, p.env("RUNNER_TEMP"))))
	}
	b.SSH[id] = set
	return nil
}

// readSSHKeys reads the files of Build.SSH.
func (s *Settings) readSSHKeys() error {
	var failed []error
	for _, id := range slices.Sorted(maps.Keys(s.Build.SSH)) {
		set := s.Build.SSH[id]
		for _, path := range set.Paths {
			info, err := os.Stat(path)
			var content []byte
			switch {
			case err != nil:
			case info.Mode()&os.ModeSocket != 0:
				set.Socket = path
				continue
			case info.Size() > maxSecret:
				err = fmt.Errorf("%s is too large to be a key", path)
			default:
				content, err = os.ReadFile(path) //nolint:gosec // the user names the file
			}
			if err == nil && !bytes.Contains(content, []byte("PRIVATE KEY-----")) {
				err = fmt.Errorf("%s is neither a private key nor an agent's socket", path)
			}
			if err != nil {
				failed = append(failed, &problem.Error{
					Op: opRead, Input: "ssh", Value: id + "=" + path, Err: err,
					Fix: "Name a file of the workspace, or give the key itself: \"" + id + "=${{ secrets.KEY }}\". An agent of another step cannot be reached from this step's container.",
				})
				continue
			}
			set.Keys = append(set.Keys, content)
		}
		if set.Socket != "" && len(set.Keys) > 0 {
			failed = append(failed, &problem.Error{
				Op: opRead, Input: "ssh", Value: id, Err: errors.New("it has both keys and an agent"), Fix: "Give the agent another ID.",
			})
		}
		set.Paths = nil
		s.Build.SSH[id] = set
	}
	return errors.Join(failed...)
}

// sourceSecrets are what to mask of Build's sources.
func (b Build) sourceSecrets() []string {
	all := []string{b.GitHubToken}
	for _, context := range append(slices.Collect(maps.Values(b.Contexts)), b.Context) {
		if u, err := url.Parse(context); err == nil && u.User != nil && u.Host != "" {
			password, _ := u.User.Password()
			all = append(all, password)
		}
	}
	for _, set := range b.SSH {
		for _, key := range set.Keys {
			all = append(all, string(key))
		}
	}
	return all
}
