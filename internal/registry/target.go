package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/problem"
)

// publicHost is ECR Public, where everything of everybody is below an alias.
const publicHost = "public.ecr.aws"

// maxDescribed is how many names DescribeRepositories takes at once.
const maxDescribed = 100

// Target is a repository that images go to.
type Target struct {
	// Asked is the repository as it was named: bare, or HOST/NAME.
	Asked string
	// URI is HOST/NAME; of a bare name that was not found it is empty.
	URI string
	// Settings are what ECR says of it. Nil: another registry, or Unread says why.
	Settings *Repository
	// Unread is the refusal of a role that may not look: no failure, as it may
	// be allowed to push.
	Unread error
	// Created: it was missing, and was created.
	Created bool
	// Missing: there is no such repository. Err says so, with the remedy.
	Missing bool
	// Err is why nothing can go there, a *problem.Error of input "repository".
	Err error

	place Place
	name  string
}

// Targets finds repositories, with one call for all of one ECR registry and the
// registries side by side. Each has its own error. Other registries' are given
// back as they are: nobody is asked.
func (c *Client) Targets(ctx context.Context, repositories []string) []Target {
	targets := make([]Target, len(repositories))
	groups := map[Place][]*Target{}
	for i, repository := range repositories {
		t := &targets[i]
		*t = c.locate(ctx, repository)
		if t.Err == nil && t.name != "" {
			groups[t.place] = append(groups[t.place], t)
		}
	}
	var wait sync.WaitGroup
	for place, group := range groups {
		for part := range slices.Chunk(group, maxDescribed) {
			wait.Go(func() { c.describe(ctx, place, part) })
		}
	}
	wait.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range targets {
		if t.Settings != nil {
			c.settings[t.URI] = t.Settings
		}
	}
	return targets
}

// splitHost takes the host off a repository's name, if there is one.
func splitHost(repository string) (host, name string, isHost bool) {
	host, name, _ = strings.Cut(repository, "/")
	if name == "" || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", repository, false
	}
	return host, name, true
}

// locate says which registry a repository is in; one that is not ECR's has no name.
func (c *Client) locate(ctx context.Context, repository string) Target {
	t := Target{Asked: repository}
	host, rest, isHost := splitHost(repository)
	if isHost {
		t.URI = repository
		if host == publicHost && c.opts.ECR != nil && !c.logins.known(host).given {
			c.logins.know(host, hostLogin{ecr: true, place: Place{Public: true}})
			t.place = Place{Public: true}
			_, t.name, _ = strings.Cut(rest, "/")
			return t
		}
		login, err := c.logins.of(ctx, host)
		if err != nil {
			t.Err = err
		}
		if login.ecr && c.opts.ECR != nil {
			t.place, t.name = login.place, rest
		}
		return t
	}
	if c.opts.ECR == nil {
		t.Err = &problem.Error{
			Op: "find repository", Input: "repository", Value: repository,
			Err: errors.New("an ECR repository needs AWS credentials"),
			Fix: "Set role-to-assume and aws-region, or name the repository with its registry's host.",
		}
		return t
	}
	t.name, t.place = repository, Place{Public: c.opts.Public}
	if t.place.Public {
		c.logins.know(publicHost, hostLogin{ecr: true, place: t.place})
	}
	return t
}

// describe asks for all targets of one registry at once, and for each by itself
// when one of them spoils the answer for all.
func (c *Client) describe(ctx context.Context, place Place, targets []*Target) {
	var names []string
	for _, t := range targets {
		if !slices.Contains(names, t.name) {
			names = append(names, t.name)
		}
	}
	err := c.logins.reachable(place)
	var found []Repository
	if err == nil {
		found, err = c.opts.ECR.Repositories(ctx, place, names)
	}
	if err != nil && len(names) > 1 && ctx.Err() == nil {
		var wait sync.WaitGroup
		for _, name := range names {
			same := slices.DeleteFunc(slices.Clone(targets), func(t *Target) bool { return t.name != name })
			wait.Go(func() { c.describe(ctx, place, same) })
		}
		wait.Wait()
		return
	}
	for _, t := range targets {
		i := slices.IndexFunc(found, func(r Repository) bool { return r.Name == t.name || strings.HasSuffix(r.URI, "/"+t.name) })
		switch {
		case err == nil && i < 0:
			t.Err = &problem.Error{Op: "find repository", Input: "repository", Value: t.Asked, Err: errors.New("DescribeRepositories answered without the repository")}
		case err == nil && place.Public && t.URI != "" && found[i].URI != t.URI:
			t.Unread = fmt.Errorf("%s is not below an alias of the account's own", t.URI)
		case err == nil:
			t.URI = cmp.Or(t.URI, found[i].URI)
			t.Settings = &found[i]
		default:
			c.undescribed(ctx, t, err)
		}
	}
}

// undescribed is for a target that ECR did not describe.
func (c *Client) undescribed(ctx context.Context, t *Target, err error) {
	switch {
	case ctx.Err() != nil:
		t.Err = context.Cause(ctx)
	case errorCode(err) == "RepositoryNotFoundException":
		t.Missing = true
		missing := missingRepository(t.name, t.place, c.opts.ECR.Region(), err)
		missing.Value = t.Asked
		t.Err = missing
	case t.URI != "" && isDenied(err):
		// Only the registry itself can tell: another account's repository, or
		// a role that may push but not describe.
		t.Unread = err
	case isDenied(err):
		t.Err = &problem.Error{
			Op: "find repository", Input: "repository", Value: t.Asked, Err: err,
			Fix: fmt.Sprintf("Allow %s to the role, or give the repository's full URI.", t.place.action("DescribeRepositories")),
		}
	default:
		p, ok := errors.AsType[*problem.Error](err)
		if !ok {
			p = &problem.Error{Op: "find repository", Err: err}
		}
		known := *p
		known.Input, known.Value = "repository", t.Asked
		t.Err = &known
	}
}

// action is the IAM action of an API call there.
func (p Place) action(call string) string {
	if p.Public {
		return "ecr-public:" + call
	}
	return "ecr:" + call
}

func missingRepository(repository string, at Place, sessionRegion string, err error) *problem.Error {
	return &problem.Error{
		Op: "find repository", Input: "repository", Value: repository, Err: err,
		Fix: fmt.Sprintf("Create it: %s; or set create-repository: true.", createCommand(repository, at, sessionRegion)),
	}
}

func createCommand(repository string, at Place, sessionRegion string) string {
	if at.Public {
		return "aws ecr-public create-repository --repository-name " + repository + " --region us-east-1"
	}
	command := "aws ecr create-repository --repository-name " + repository
	if region := cmp.Or(at.Region, sessionRegion); region != "" {
		command += " --region " + region
	}
	return command
}

// RepositoryURI gives HOST/NAME of an ECR repository, which may be named by
// its bare name or already by its URI. A missing repository is a
// *problem.Error with the command that creates it. A URI on another registry
// is given back as it is.
func (c *Client) RepositoryURI(ctx context.Context, repository string) (string, error) {
	t := c.Targets(ctx, []string{repository})[0]
	if t.Err != nil {
		return "", t.Err
	}
	return t.URI, nil
}

// Create makes a target that is missing: images are scanned on push, and tags
// are immutable, except those of tags that are meant to move. Somebody else may
// be quicker: then the repository is theirs. What was created is told as an event.
// Errors are *problem.Error.
func (c *Client) Create(ctx context.Context, missing Target, tags []string) (Target, error) {
	start := time.Now()
	wanted := Repository{Name: missing.name, ScanOnPush: true, TagMutability: "IMMUTABLE"}
	for _, tag := range tags {
		if isMoving(tag) && !slices.Contains(wanted.TagExclusions, tag) {
			wanted.TagMutability = "IMMUTABLE_WITH_EXCLUSION"
			wanted.TagExclusions = append(wanted.TagExclusions, tag)
		}
	}
	if len(wanted.TagExclusions) > maxExclusions {
		wanted.TagMutability, wanted.TagExclusions = "MUTABLE", nil
	}
	if missing.place.Public {
		wanted = Repository{Name: missing.name}
	}
	made, err := c.opts.ECR.Create(ctx, missing.place, wanted)
	if errorCode(err) == "InvalidParameterException" && len(wanted.TagExclusions) > 0 {
		// Not every partition, and not every stand-in, knows exclusions.
		wanted.TagMutability, wanted.TagExclusions = "MUTABLE", nil
		made, err = c.opts.ECR.Create(ctx, missing.place, wanted)
	}
	if ctx.Err() != nil {
		return missing, context.Cause(ctx)
	}
	theirs := errorCode(err) == "RepositoryAlreadyExistsException"
	if theirs {
		var found []Repository
		if found, err = c.opts.ECR.Repositories(ctx, missing.place, []string{missing.name}); err == nil && len(found) > 0 {
			made = found[0]
		}
	}
	if err != nil {
		return missing, c.explainCreate(missing, err)
	}
	made.Name = missing.name
	missing.URI, missing.Settings, missing.Missing, missing.Err = cmp.Or(missing.URI, made.URI), &made, false, nil
	c.mu.Lock()
	c.settings[missing.URI] = missing.Settings
	c.mu.Unlock()
	if missing.Created = !theirs; missing.Created {
		c.opts.Events(Event{Kind: KindCreated, Object: "repository " + missing.name, Repository: missing.URI, Duration: time.Since(start)})
	}
	return missing, nil
}

func (c *Client) explainCreate(missing Target, err error) error {
	p := &problem.Error{Op: "create repository", Input: "create-repository", Value: missing.Asked, Err: err}
	command := createCommand(missing.name, missing.place, c.opts.ECR.Region())
	switch code := errorCode(err); {
	case isDenied(err):
		p.Fix = fmt.Sprintf("Allow %s to the role, or create it yourself: %s", missing.place.action("CreateRepository"), command)
	case code == "LimitExceededException":
		p.Fix = "Delete repositories that nobody needs, or ask for a higher quota of ECR."
	case code == "InvalidParameterException":
		p.Fix = "Choose another name: lower-case letters and digits, separated by . _ - or /."
	}
	return p
}

// maxExclusions is how many filters a repository takes.
const maxExclusions = 5

// isMoving says whether a tag is one that people move from image to image:
// latest, main, v1, 1.2, but not a commit, a whole version or a date.
func isMoving(tag string) bool {
	digits := 0
	for _, c := range tag {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	hex := strings.Trim(tag, "0123456789abcdef") == "" && len(tag) >= 7 && digits > 0
	return digits < 4 && strings.Count(tag, ".") < 2 && !hex
}
