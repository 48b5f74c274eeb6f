package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitproto "github.com/go-git/go-git/v5/plumbing/transport/git"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"golang.org/x/crypto/ssh"

	"github.com/towline/towline/internal/problem"
)

// Fetcher reaches repositories.
type Fetcher struct {
	// Transport carries http and https. Default: http.DefaultTransport.
	Transport http.RoundTripper
	// Secret finds the build secret of a name. Default: there is none.
	Secret func(name string) (value []byte, ok bool)
	// Login gives the user and the token for an https host, after what secrets
	// and the URL say, or two empty strings. Default: none.
	Login func(host string) (user, token string)
	// Signers gives the ssh keys of an id, and a function that ends their use.
	// Default: there are none.
	Signers func(ctx context.Context, id string) ([]ssh.Signer, func(), error)
}

// Commit is what a reference of a repository names.
type Commit struct {
	// Ref is the reference's whole name, or the commit's where that was given.
	Ref string
	// Hash is the name of a commit or, with an annotated tag, of the tag.
	Hash string
	// Peeled is the commit that an annotated tag names, where the server said so.
	Peeled string
}

// Resolve asks the server which commit a reference names now. A commit needs no
// asking.
func (f *Fetcher) Resolve(ctx context.Context, r Repository) (Commit, error) {
	if isCommit(r.Ref) {
		return Commit{Ref: r.Ref, Hash: r.Ref}, nil
	}
	if r.FetchByCommit {
		ref := r.Ref
		switch {
		case ref == "":
			ref = r.Checksum
		case !strings.HasPrefix(ref, "refs/"):
			ref = "refs/heads/" + ref
		}
		return Commit{Ref: ref, Hash: r.Checksum}, nil
	}
	c, err := f.open(ctx, r, r.Remote)
	if err != nil {
		return Commit{}, err
	}
	defer c.close()
	return pick(r, c.refs)
}

// pick finds the commit among what a server offers: a whole name comes before a
// branch, and a branch before a tag.
func pick(r Repository, refs *packp.AdvRefs) (Commit, error) {
	ref := r.Ref
	if ref == "" || ref == "HEAD" {
		if refs.Head == nil {
			return Commit{}, &problem.Error{
				Op: "read " + r.Name(), Err: errors.New("the repository has no default branch"),
				Fix: "Add the branch to the URL: #BRANCH.",
			}
		}
		ref = "HEAD"
		for _, symbolic := range refs.Capabilities.Get(capability.SymRef) {
			if target, ok := strings.CutPrefix(symbolic, "HEAD:"); ok {
				ref = target
			}
		}
		if ref == "HEAD" {
			return checked(r, Commit{Ref: ref, Hash: refs.Head.String()})
		}
	}
	whole := "refs/" + strings.TrimPrefix(ref, "refs/")
	head := "refs/heads/" + strings.TrimPrefix(ref, "refs/heads/")
	tag := "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/")
	for _, name := range []string{whole, head, tag} {
		hash, ok := refs.References[name]
		if !ok {
			continue
		}
		found := Commit{Ref: name, Hash: hash.String()}
		if peeled, ok := refs.Peeled[name]; ok && name == tag {
			found.Peeled = peeled.String()
		}
		return checked(r, found)
	}
	return Commit{}, &problem.Error{
		Op: "read " + r.Name(), Err: fmt.Errorf("repository does not contain ref %s", ref),
		Fix: "Correct what follows # in the URL: a branch, a tag, or all digits of a commit.",
	}
}

func checked(r Repository, c Commit) (Commit, error) {
	if r.Checksum == "" || strings.HasPrefix(c.Hash, r.Checksum) || c.Peeled != "" && strings.HasPrefix(c.Peeled, r.Checksum) {
		return c, nil
	}
	if c.Peeled != "" {
		return c, r.mismatch(c.Hash, c.Peeled)
	}
	return c, r.mismatch(c.Hash)
}

// errNoCommit is the error for a commit that no reference of the server leads to.
var errNoCommit = errors.New("the repository does not contain commit")

// conn is a conversation with a server, which has told its references.
type conn struct {
	session transport.UploadPackSession
	refs    *packp.AdvRefs
	close   func()
	// explain makes an error of the conversation one that a user understands.
	explain func(error) error
}

// open begins a conversation about the repository at remote: r's own or one of
// its submodules.
func (f *Fetcher) open(ctx context.Context, r Repository, remote string) (*conn, error) {
	c := &conn{close: func() {}, explain: func(err error) error { return explain(ctx, r, remote, err) }}
	endpoint, err := transport.NewEndpoint(remote)
	if err != nil {
		return nil, fmt.Errorf("git repository %s: its URL cannot be read", redact(remote))
	}
	user, password := endpoint.User, endpoint.Password
	var client transport.Transport
	var auth transport.AuthMethod
	switch endpoint.Protocol {
	case "http", "https":
		endpoint.User, endpoint.Password = "", ""
		client = githttp.NewClient(&http.Client{Transport: f.authorized(r, remote, user, password)})
	case "ssh":
		method, done, sshErr := f.sshAuth(ctx, r, user)
		if sshErr != nil {
			return nil, sshErr
		}
		c.close = done
		client, auth = gitssh.DefaultClient, method
	case "git":
		client = gitproto.DefaultClient
	default:
		return nil, fmt.Errorf("git repository %s: protocol %q is not supported", redact(remote), endpoint.Protocol)
	}
	c.session, err = client.NewUploadPackSession(endpoint, auth)
	if err != nil {
		c.close()
		return nil, c.explain(err)
	}
	end := c.close
	c.close = func() {
		_ = c.session.Close() // everything wanted has been read, or has failed already
		end()
	}
	if c.refs, err = c.session.AdvertisedReferencesContext(ctx); err != nil {
		c.close()
		return nil, c.explain(err)
	}
	return c, nil
}

// fetch brings an object with all that it consists of into store; of its
// history only where the server gives single commits no other way.
func (c *conn) fetch(ctx context.Context, store *filesystem.Storage, want string) error {
	req := packp.NewUploadPackRequestFromCapabilities(c.refs.Capabilities)
	hash := plumbing.NewHash(want)
	if c.gives(hash) {
		req.Wants = append(req.Wants, hash)
		if c.refs.Capabilities.Supports(capability.Shallow) {
			req.Depth = packp.DepthCommits(1)
			if err := req.Capabilities.Set(capability.Shallow); err != nil {
				return err
			}
		}
	} else {
		seen := map[plumbing.Hash]bool{}
		for _, tip := range c.refs.References {
			if !seen[tip] {
				seen[tip] = true
				req.Wants = append(req.Wants, tip)
			}
		}
	}
	response, err := c.session.UploadPack(ctx, req)
	if err != nil {
		return c.explain(err)
	}
	defer response.Close() //nolint:errcheck // read only
	var pack io.Reader = response
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, response)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, response)
	}
	if err := packfile.UpdateObjectStorage(store, pack); err != nil {
		return c.explain(err)
	}
	if len(response.Shallows) > 0 {
		if err := store.SetShallow(response.Shallows); err != nil {
			return fmt.Errorf("git store: %w", err)
		}
	}
	if err := store.HasEncodedObject(hash); err != nil {
		return c.explain(fmt.Errorf("%w %s", errNoCommit, want))
	}
	return nil
}

// gives says whether the server gives an object that is asked for by its name.
func (c *conn) gives(hash plumbing.Hash) bool {
	caps := c.refs.Capabilities
	if caps.Supports(capability.AllowReachableSHA1InWant) || caps.Supports("allow-any-sha1-in-want") {
		return true
	}
	for _, tip := range c.refs.References {
		if tip == hash {
			return true
		}
	}
	return c.refs.Head != nil && *c.refs.Head == hash
}

// explain says what a server's refusal means.
func explain(ctx context.Context, r Repository, remote string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if known, ok := errors.AsType[*problem.Error](err); ok {
		return known
	}
	if local, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("read %s: %w", r.Name(), local) // such as a full disk, which whoever gave the folder explains
	}
	p := &problem.Error{Op: "read " + r.Name(), Err: errors.New(scrub(err.Error(), r.Remote, remote))}
	if remote != r.Remote {
		p.Op += ", submodule " + redact(remote)
	}
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), errors.Is(err, transport.ErrRepositoryNotFound):
		p.Fix = "Correct the URL. If the repository is private, give a token that may read it: github-token, or a build secret GIT_AUTH_TOKEN.HOST (secrets: GIT_AUTH_TOKEN.github.com=TOKEN)."
	case errors.Is(err, errNoCommit):
		p.Fix = "Correct the commit, or push it: a commit that no branch or tag leads to may be gone."
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		p.Fix = "Push a commit to the repository first."
	case strings.Contains(err.Error(), "knownhosts:"):
		p.Fix = "The server's key is not the one that it had when the build began: try again, and ask its owner if it stays so."
	}
	return p
}

// scrub takes passwords of the remotes out of a message.
func scrub(message string, remotes ...string) string {
	for _, remote := range remotes {
		message = strings.ReplaceAll(message, remote, redact(remote))
		if u, err := url.Parse(remote); err == nil && u.User != nil {
			if password, ok := u.User.Password(); ok && password != "" {
				message = strings.ReplaceAll(strings.ReplaceAll(message, url.QueryEscape(password), "***"), password, "***")
			}
			message = strings.ReplaceAll(message, u.User.String()+"@", "")
		}
	}
	return message
}
