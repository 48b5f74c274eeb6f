package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/internal/problem"
)

const (
	// noDigest is no content's, so that nothing can ever be stored under it.
	noDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	// noUpload is an upload that nobody has begun.
	noUpload = "00000000-0000-0000-0000-000000000000"
	// probeTries is how often a probe asks: a push has more patience.
	probeTries = 2
	// cancelLimit bounds how long the end of a probe's upload is waited for.
	cancelLimit = 5 * time.Second
)

// Login gets ECR's tokens for the registries of uris (HOST/NAME, or a bare name
// in the session's own), side by side, so that a denied login shows before
// anything else. Errors are *problem.Error.
func (c *Client) Login(ctx context.Context, uris []string) error {
	places := map[Place]bool{}
	for _, uri := range uris {
		host, _, isHost := splitHost(uri)
		if !isHost {
			if c.opts.ECR != nil {
				places[Place{Public: c.opts.Public}] = true
			}
			continue
		}
		login, err := c.logins.of(ctx, host)
		if err != nil {
			return err
		}
		if login.ecr && !login.given {
			login.place.Account = ""
			places[login.place] = true
		}
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for place := range places {
		wait.Go(func() {
			if _, err := c.logins.token(ctx, place, ""); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wait.Wait()
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Probe finds out whether images can be pushed into the repository uri
// (HOST/NAME), and leaves nothing there. Errors are *problem.Error.
//
// An upload is begun, which is the one question that every registry answers, and
// cancelled at once. ECR has a right for each part of a push. Those are asked for
// with requests that cannot succeed: for a digest that no content has, or with an
// upload that nobody has begun. IAM is asked before the request is looked at, so
// a refusal that names its action is a missing right, and any other is none.
func (c *Client) Probe(ctx context.Context, uri string) error { return c.probe(ctx, uri, probeImage) }

// ProbeMissing is Probe for a repository of ECR that is still to be created: what
// shows before it is there is that a right is missing, and nothing else.
func (c *Client) ProbeMissing(ctx context.Context, uri string) error {
	return c.probe(ctx, uri, probeMissing)
}

// ProbeIndex is Probe for an index all of whose images are in the repository: of
// ECR only the right to put a manifest is asked for.
func (c *Client) ProbeIndex(ctx context.Context, uri string) error {
	return c.probe(ctx, uri, probeIndex)
}

// probed is what a probe is for.
type probed int

const (
	probeImage probed = iota
	probeIndex
	probeMissing
)

func (c *Client) probe(ctx context.Context, uri string, what probed) error {
	parsed, err := c.parse(ctx, uri)
	if err != nil {
		return err
	}
	repo := parsed.Context()
	login := c.logins.known(repo.RegistryStr())
	client, err := c.probeClient(ctx, repo, login)
	if err != nil {
		return explain(err, "check push", repo)
	}
	if !login.ecr || login.given || login.place.Public {
		if what == probeMissing {
			return nil
		}
		return explain(c.probeUpload(ctx, client, repo), "check push", repo)
	}
	asks := []func() error{
		func() error { return c.probeUpload(ctx, client, repo) },
		func() error { return c.probeLayer(ctx, repo, login) },
		func() error { return probeWrite(ctx, client, http.MethodPatch, repo, "blobs/uploads/"+noUpload, "?") },
		func() error {
			return probeWrite(ctx, client, http.MethodPut, repo, "blobs/uploads/"+noUpload+"?digest="+noDigest, "")
		},
		func() error { return probeWrite(ctx, client, http.MethodPut, repo, "manifests/"+noDigest, "{}") },
	}
	refused := make([]error, len(asks))
	var wait sync.WaitGroup
	for i, ask := range asks {
		if what == probeIndex && i < len(asks)-1 {
			continue
		}
		wait.Go(func() { refused[i] = ask() })
	}
	wait.Wait()
	return c.judgeProbe(ctx, repo, login, what, refused)
}

// judgeProbe makes one error of what ECR refused: the first question is whether
// uploads work, the second is the only one that tells of a missing repository.
func (c *Client) judgeProbe(ctx context.Context, repo name.Repository, login hostLogin, what probed, refused []error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, err := range refused {
		if known, ok := errors.AsType[*problem.Error](err); ok {
			return known // no login
		}
	}
	layer := refused[1]
	if errorCode(layer) == "RepositoryNotFoundException" && what != probeMissing {
		return missingRepository(repo.RepositoryStr(), login.place, c.opts.ECR.Region(), layer)
	}
	if err := refused[0]; what != probeMissing && err != nil && deniedAction(err, layer == nil) == "" {
		return explain(err, "check push", repo)
	}
	var actions []string
	var first error
	for i, err := range refused {
		action := deniedAction(err, i == 0 && what != probeMissing)
		if i == 1 && isDenied(err) {
			action = "ecr:BatchCheckLayerAvailability"
		}
		if action == "" {
			continue // anything else says nothing of rights, and a push tries again
		}
		if first == nil {
			first = err
		}
		actions = append(actions, action)
	}
	if first == nil {
		return nil
	}
	account, region, _ := ECRHost(repo.RegistryStr())
	return &problem.Error{
		Op: "check push to " + displayName(repo), Input: "repository", Value: displayName(repo), Err: first,
		Fix: fixActions(actions, first.Error(), repo, account, region),
	}
}

// deniedAction is the IAM action that a refusal names, or empty. In a repository
// that is there, ECR may also end the connection in place of refusing an upload.
func deniedAction(err error, uploading bool) string {
	if answer, ok := errors.AsType[*transport.Error](err); ok && namesAction(answer) {
		return ecrAction(answer.Request)
	}
	if uploading && isClosed(err) {
		return "ecr:InitiateLayerUpload"
	}
	return ""
}

// namesAction says whether a refusal is IAM's.
func namesAction(answer *transport.Error) bool {
	return answer.StatusCode == http.StatusForbidden && strings.Contains(answer.Error(), "not authorized to perform")
}

// probeClient sends requests to repo's registry with its login.
func (c *Client) probeClient(ctx context.Context, repo name.Repository, login hostLogin) (*http.Client, error) {
	base := &wire{base: c.opts.Transport, logins: c.logins}
	if login.ecr && !login.given && !login.place.Public {
		return &http.Client{Transport: base}, nil
	}
	auth, err := c.keys.Resolve(repo)
	if err != nil {
		return nil, err
	}
	var authorized http.RoundTripper
	err = tryFor(ctx, probeTries, func(ctx context.Context) error {
		authorized, err = transport.NewWithContext(ctx, repo.Registry, auth, base, []string{repo.Scope(transport.PushScope)})
		return err
	})
	return &http.Client{Transport: authorized}, err
}

// probeUpload begins an upload and cancels it.
func (c *Client) probeUpload(ctx context.Context, client *http.Client, repo name.Repository) error {
	var location *url.URL
	err := tryFor(ctx, probeTries, func(ctx context.Context) error {
		resp, err := probeDo(ctx, client, http.MethodPost, repositoryURL(repo, "blobs/uploads/"), "")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if err = transport.CheckError(resp, http.StatusAccepted, http.StatusCreated); err != nil {
			return err
		}
		location, _ = resp.Location()
		return nil
	})
	if err != nil || location == nil {
		return err
	}
	// A registry that cannot cancel forgets an upload that never ends.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cancelLimit, errors.New("the registry did not cancel an upload"))
	defer cancel()
	if resp, err := probeDo(ctx, client, http.MethodDelete, location.String(), ""); err == nil {
		_ = resp.Body.Close()
	}
	return nil
}

// probeLayer asks ECR for a layer that cannot be there.
func (c *Client) probeLayer(ctx context.Context, repo name.Repository, login hostLogin) error {
	return c.opts.ECR.CheckLayer(ctx, login.place, repo.RepositoryStr(), noDigest)
}

// probeWrite sends what the registry is bound to refuse, and gives the refusal.
func probeWrite(ctx context.Context, client *http.Client, method string, repo name.Repository, object, body string) error {
	return tryFor(ctx, probeTries, func(ctx context.Context) error {
		resp, err := probeDo(ctx, client, method, repositoryURL(repo, object), body)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		err = transport.CheckError(resp, http.StatusCreated, http.StatusAccepted)
		if isStatus(err, http.StatusNotFound) {
			return nil // there is no such upload; a push would begin it anew, and wait
		}
		return err
	})
}

func probeDo(ctx context.Context, client *http.Client, method, to, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "towline")
	switch {
	case strings.Contains(req.URL.Path, "/manifests/"):
		req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	case body != "":
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if method == http.MethodDelete {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	}
	return resp, nil
}

func repositoryURL(repo name.Repository, object string) string {
	return fmt.Sprintf("%s://%s/v2/%s/%s", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr(), object)
}

// HeldTag is a tag that names an image and cannot be moved to another.
type HeldTag struct {
	// Ref is HOST/NAME:TAG.
	Ref string
	// Digest is what it names.
	Digest v1.Hash
}

// Held finds the tags among refs (HOST/NAME:TAG) that exist and are immutable, by
// the settings that Targets has read. Pushing another image under one is bound to
// fail; the same image is fine. What the role may not read is not held.
func (c *Client) Held(ctx context.Context, refs []string) ([]HeldTag, error) {
	found := make([]*HeldTag, len(refs))
	errs := make([]error, len(refs))
	var wait sync.WaitGroup
	for i, ref := range refs {
		wait.Go(func() { found[i], errs[i] = c.held(ctx, ref) })
	}
	wait.Wait()
	var held []HeldTag
	for _, each := range found {
		if each != nil {
			held = append(held, *each)
		}
	}
	return held, errors.Join(errs...)
}

func (c *Client) held(ctx context.Context, ref string) (*HeldTag, error) {
	parsed, err := c.parse(ctx, ref)
	if err != nil {
		return nil, err
	}
	tag, ok := parsed.(name.Tag)
	c.mu.Lock()
	settings := c.settings[displayName(parsed.Context())]
	c.mu.Unlock()
	if !ok || settings == nil || !settings.Immutable(tag.TagStr()) {
		return nil, nil //nolint:nilnil // nothing is held
	}
	have, err := c.head(ctx, tag)
	if err != nil || have == nil {
		return nil, explain(err, "check push", tag.Context())
	}
	return &HeldTag{Ref: display(tag), Digest: *have}, nil
}
