package step

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
)

func TestCommitTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if got, err := commitTime(dir); err == nil {
		t.Errorf("without a repository: got %s, want an error", got)
	}
	repository, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, headErr := commitTime(dir); headErr == nil {
		t.Errorf("without a commit: got %s, want an error", got)
	}
	if err = os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := repository.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tree.Add("file"); err != nil {
		t.Fatal(err)
	}
	author := object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(1_500_000_000, 0)}
	committer := author
	committer.When = time.Unix(1_600_000_000, 0)
	hash, err := tree.Commit("message", &git.CommitOptions{Author: &author, Committer: &committer})
	if err != nil {
		t.Fatal(err)
	}
	// As actions/checkout leaves it: no branch.
	if err := tree.Checkout(&git.CheckoutOptions{Hash: hash}); err != nil {
		t.Fatal(err)
	}
	if got, err := commitTime(dir); err != nil || got != "1600000000" {
		t.Errorf("got %s, %v, want the committer's time, 1600000000", got, err)
	}
}
