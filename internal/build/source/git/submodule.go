package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/config"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/towline/towline/internal/problem"
)

// maxSubmodules is how deep submodules may be nested.
const maxSubmodules = 32

// submodule is a section of .gitmodules.
type submodule struct {
	url string
	// none says that its files are not wanted (update = none).
	none bool
}

// enter fetches the submodule at a path of its parent. It is skipped where the
// source or the repository say so.
func (c *checkout) enter(ctx context.Context, parent *module, in string, hash plumbing.Hash, depth int) (inner *module, skipped bool, err error) {
	if c.repo.SkipSubmodules {
		return nil, true, nil
	}
	if depth >= maxSubmodules {
		return nil, false, fmt.Errorf("%s: too many submodules in submodules", in)
	}
	if !parent.fetched {
		if parent.within, err = listed(parent); err != nil {
			return nil, false, err
		}
		parent.fetched = true
	}
	sub, ok := parent.within[in]
	if !ok {
		return nil, false, fmt.Errorf("no url found for submodule path %q in .gitmodules", in)
	}
	if sub.none {
		return nil, true, nil
	}
	remote, err := resolveURL(parent.remote, sub.url)
	if err != nil {
		return nil, false, &problem.Error{
			Op: "read " + c.repo.Name() + ", submodule " + in, Err: err,
			Fix: "Correct its url in .gitmodules, or leave submodules out: submodules=false in the URL's query.",
		}
	}
	inner = &module{remote: remote}
	if err := c.load(ctx, inner, hash.String()); err != nil {
		inner.close()
		return nil, false, err
	}
	return inner, false, nil
}

// listed reads .gitmodules at the top of a commit.
func listed(m *module) (map[string]submodule, error) {
	entry, err := m.tree.FindEntry(".gitmodules")
	if err != nil || entry.Mode != filemode.Regular && entry.Mode != filemode.Executable && entry.Mode != filemode.Deprecated {
		return nil, nil //nolint:nilnil // none is listed
	}
	blob, err := object.GetBlob(m.store, entry.Hash)
	if err != nil {
		return nil, fmt.Errorf(".gitmodules: %w", err)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf(".gitmodules: %w", err)
	}
	defer r.Close() //nolint:errcheck // read only
	content, err := io.ReadAll(io.LimitReader(r, 4<<20))
	if err != nil {
		return nil, fmt.Errorf(".gitmodules: %w", err)
	}
	return parseModules(content)
}

func parseModules(content []byte) (map[string]submodule, error) {
	parsed := config.New()
	if err := config.NewDecoder(bytes.NewReader(content)).Decode(parsed); err != nil {
		return nil, fmt.Errorf(".gitmodules: %w", err)
	}
	found := map[string]submodule{}
	for _, s := range parsed.Section("submodule").Subsections {
		if at := s.Option("path"); at != "" {
			found[path.Clean(at)] = submodule{url: s.Option("url"), none: s.Option("update") == "none"}
		}
	}
	return found, nil
}

// resolveURL finds a submodule's repository: its URL may be relative to its
// parent's, and it must be one that a server answers to.
func resolveURL(parent, raw string) (string, error) {
	if strings.HasPrefix(raw, "./") || strings.HasPrefix(raw, "../") {
		return relativeURL(parent, raw)
	}
	if strings.Contains(raw, "://") && !gitutil.IsGitTransport(raw) {
		return "", fmt.Errorf("its URL %s has a protocol that is not supported", redact(raw))
	}
	u, err := parseURL(raw)
	switch {
	case raw == "" || strings.HasPrefix(raw, "-"):
		return "", errors.New("it has no URL")
	case err != nil:
		return "", err
	case !strings.Contains(raw, "://") && u.Scheme != "ssh":
		return "", fmt.Errorf("its URL %s is a path on this machine", redact(raw))
	}
	return raw, nil
}

func relativeURL(parent, raw string) (string, error) {
	if u, err := url.Parse(parent); err == nil && u.Host != "" {
		u.Path = path.Join("/", u.Path, raw)
		return u.String(), nil
	}
	host, base, ok := strings.Cut(parent, ":")
	if !ok {
		return "", fmt.Errorf("%s is not a URL", redact(parent))
	}
	rooted := strings.HasPrefix(base, "/")
	joined := path.Join("/", base, raw)
	if !rooted {
		joined = strings.TrimPrefix(joined, "/")
	}
	return host + ":" + joined, nil
}
