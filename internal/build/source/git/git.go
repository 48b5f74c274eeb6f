// Package git brings git repositories into a build, without a git program.
//
// What a reference means, which commit it finds and how the files of that commit
// look on disk is as BuildKit's source/git has it, which calls git. It differs
// where git leaves traces of the machine: submodules have no .git file, and a
// .git folder that is kept holds what is needed and no samples. Repositories
// with SHA-256 names, signatures and bundles are refused.
package git

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/moby/buildkit/util/urlutil"

	"github.com/towline/towline/internal/problem"
)

// Repository is a git:// source: a state of a repository.
type Repository struct {
	// Remote is the repository's URL (https, http, ssh, git) or USER@HOST:PATH.
	// It may hold a password: messages show Name instead.
	Remote string
	// Ref is a branch, a tag, a whole name such as refs/pull/1/head, a commit,
	// or empty for the default branch.
	Ref string
	// Subdir is the folder in the repository that is wanted; empty is all of it.
	Subdir string
	// Checksum is how the commit's name must begin, or empty.
	Checksum string
	// KeepGitDir keeps the .git folder. It is not kept where Subdir is set.
	KeepGitDir bool
	// SkipSubmodules leaves submodules empty.
	SkipSubmodules bool
	// FetchByCommit takes Checksum for the commit, and Ref only for its name.
	FetchByCommit bool
	// CommitTime gives every file the commit's time, in place of now.
	CommitTime bool
	// TokenSecret and HeaderSecret name secrets with a token, and with a whole
	// Authorization header. NAME.HOST is looked for before NAME.
	TokenSecret, HeaderSecret string
	// KnownHosts holds lines of known_hosts(5) for ssh.
	KnownHosts string
	// SSH names the keys to use for ssh.
	SSH string
}

// Name is the repository with its reference as messages show it, without
// passwords.
func (r Repository) Name() string {
	name := urlutil.RedactCredentials(r.Remote)
	if r.Ref != "" || r.Subdir != "" {
		name += "#" + r.Ref
	}
	if r.Subdir != "" {
		name += ":" + r.Subdir
	}
	return name
}

// isCommit says whether ref is the whole name of a commit.
func isCommit(ref string) bool { return gitutil.IsCommitSHA(ref) }

// Parse reads the identifier, git://HOST/PATH[#[REF][:SUBDIR]], and the
// attributes of a source vertex.
func Parse(identifier string, attrs map[string]string) (Repository, error) {
	rest, ok := strings.CutPrefix(identifier, "git://")
	if !ok || rest == "" {
		return Repository{}, fmt.Errorf("git source %q: it has no repository", redact(identifier))
	}
	id, err := parseURL(rest)
	if err != nil {
		return Repository{}, err
	}
	r := Repository{
		Remote: id.Remote, Checksum: attrs[pb.AttrGitChecksum],
		KeepGitDir:     attrs[pb.AttrKeepGitDir] == "true",
		SkipSubmodules: attrs[pb.AttrGitSkipSubmodules] == "true",
		FetchByCommit:  attrs[pb.AttrGitFetchByCommit] == "true",
		CommitTime:     attrs[pb.AttrGitMTime] == "commit",
		TokenSecret:    attrs[pb.AttrAuthTokenSecret], HeaderSecret: attrs[pb.AttrAuthHeaderSecret],
		KnownHosts: attrs[pb.AttrKnownSSHHosts], SSH: attrs[pb.AttrMountSSHSock],
	}
	if id.Opts != nil {
		r.Ref, r.Subdir = id.Opts.Ref, strings.TrimPrefix(path.Join("/", id.Opts.Subdir), "/")
	}
	if full := attrs[pb.AttrFullRemoteURL]; full != "" {
		remote, err := parseURL(full)
		if err != nil {
			return Repository{}, err
		}
		if !strings.EqualFold(remote.Host, id.Host) || repositoryPath(remote.Path) != repositoryPath(id.Path) {
			return Repository{}, fmt.Errorf("git source %s: its URL is of another repository", redact(identifier))
		}
		r.Remote = remote.Remote
	}
	for _, attr := range []string{pb.AttrGitBundle, pb.AttrGitCheckoutBundle, pb.AttrGitSignatureVerifyPubKey} {
		if attrs[attr] != "" {
			return Repository{}, fmt.Errorf("git source %s: attribute %s is not supported", redact(identifier), attr)
		}
	}
	return r, r.check()
}

// check refuses what no server has to be asked for.
func (r Repository) check() error {
	switch {
	case strings.HasPrefix(r.Ref, "-") || strings.ContainsAny(r.Ref, "\x00\n\r ~^:?*[\\") || strings.Contains(r.Ref, ".."):
		return &problem.Error{
			Op: "read " + r.Name(), Err: fmt.Errorf("%q is not a name that a branch, tag or commit can have", r.Ref),
			Fix: "Write the repository as URL#REF or URL#REF:FOLDER.",
		}
	case r.Checksum != "" && !regexp.MustCompile(`^[a-fA-F0-9]+$`).MatchString(r.Checksum):
		return &problem.Error{
			Op: "read " + r.Name(), Err: fmt.Errorf("the checksum %q is not a commit's name", r.Checksum),
			Fix: "Give the commit's hexadecimal name as the checksum.",
		}
	case isCommit(r.Ref) && !strings.HasPrefix(r.Ref, r.Checksum):
		return r.mismatch(r.Ref)
	case r.FetchByCommit && !isCommit(r.Ref) && !isCommit(r.Checksum):
		return &problem.Error{
			Op: "read " + r.Name(), Err: errors.New("fetch-by-commit needs the commit"),
			Fix: "Add commit=NAME with all of the commit's 40 digits to the URL's query.",
		}
	case len(r.Ref) == 64 && isCommit(r.Ref) || len(r.Checksum) == 64:
		return &problem.Error{
			Op: "read " + r.Name(), Err: errors.New("repositories with SHA-256 names are not supported"),
			Fix: "Check the repository out in a step before this one (actions/checkout), and use it as a local context.",
		}
	}
	return nil
}

func (r Repository) mismatch(got ...string) error {
	return &problem.Error{
		Op: "read " + r.Name(), Value: r.Checksum, Err: fmt.Errorf("expected checksum to match %s, got %s", r.Checksum, strings.Join(got, " or ")),
		Fix: "Look at what changed in the repository, then correct the checksum or the reference.",
	}
}

// parseURL reads a URL that may have no scheme, and is https then.
func parseURL(remote string) (*gitutil.GitURL, error) {
	if !gitutil.IsGitTransport(remote) {
		remote = "https://" + remote
	}
	u, err := gitutil.ParseURL(remote)
	if err == nil && (u.Host == "" || strings.HasPrefix(u.Host, "-")) {
		err = errors.New("it has no host")
	}
	if err != nil {
		// The parser's own words quote the URL, password and all.
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return nil, fmt.Errorf("git source %s: %w", redact(remote), err)
	}
	return u, nil
}

// repositoryPath is what is the same in all spellings of a repository's path.
func repositoryPath(p string) string {
	return strings.TrimSuffix(path.Join("/", p), ".git")
}

// redact takes what may be a password out of a URL, whether it can be parsed or not.
func redact(remote string) string {
	scheme, rest, ok := strings.Cut(remote, "://")
	if !ok {
		scheme, rest = "", remote
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if at := strings.LastIndex(rest[:end], "@"); at >= 0 && strings.Contains(rest[:at], ":") {
		rest = "xxxxx:xxxxx" + rest[at:]
	}
	if !ok {
		return rest
	}
	return scheme + "://" + rest
}
