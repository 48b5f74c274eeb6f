package git

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/moby/buildkit/util/urlutil"
)

// keepGitDir makes the store of a checked-out commit the .git folder of dest: a
// repository with that one commit, HEAD detached at it, and the reference that
// led to it. The remote's password is not kept.
func keepGitDir(r Repository, commit Commit, m *module, idx *index.Index, dest string) error {
	head := plumbing.NewHashReference(plumbing.HEAD, m.commit.Hash)
	if err := m.store.SetReference(head); err != nil {
		return err
	}
	if name := keptRef(r, commit, m); name != "" {
		if err := m.store.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), plumbing.NewHash(m.hash))); err != nil {
			return err
		}
	}
	if err := m.store.SetIndex(idx); err != nil {
		return err
	}
	if err := m.store.Close(); err != nil {
		return err
	}
	config := fmt.Sprintf("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"+
		"[remote \"origin\"]\n\turl = %s\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n", urlutil.RedactCredentials(r.Remote))
	if err := os.WriteFile(filepath.Join(m.dir, "config"), []byte(config), 0o644); err != nil { //nolint:gosec // as git makes it
		return err
	}
	return os.Rename(m.dir, filepath.Join(dest, ".git"))
}

// keptRef is the name that BuildKit keeps: that which was written in the source,
// as a tag where it is not a whole name; none for a commit.
func keptRef(r Repository, commit Commit, m *module) string {
	ref := r.Ref
	if ref == "" || ref == "HEAD" {
		ref = strings.TrimPrefix(commit.Ref, "refs/heads/")
	}
	switch {
	case isCommit(ref) || ref == "HEAD":
		return ""
	case m.hash != m.commit.Hash.String() && !strings.HasPrefix(ref, "refs/tags/"):
		return "refs/tags/" + strings.TrimPrefix(ref, "tags/")
	case strings.HasPrefix(ref, "refs/"):
		return ref
	default:
		return "refs/tags/" + strings.TrimPrefix(ref, "tags/")
	}
}
