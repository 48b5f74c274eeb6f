package solver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/crypto/ssh"

	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/build/source"
	"github.com/towline/towline/internal/build/source/git"
	"github.com/towline/towline/internal/build/source/web"
)

// remotes reaches the sources that are neither images nor folders here. What a
// build asks for twice is asked of the servers once.
type remotes struct {
	store *snapshot.Store
	git   *git.Fetcher
	web   *web.Client

	mu      sync.Mutex
	commits map[string]*known[git.Commit]
	files   map[string]*known[downloaded]
}

// downloaded is a file and the folder that it is alone in.
type downloaded struct {
	web.File
	dir string
}

// known is an answer, once there was one. An error is not kept: who asks next
// may have more time left.
type known[T any] struct {
	mu    sync.Mutex
	done  bool
	value T
}

func (k *known[T]) get(ask func() (T, error)) (T, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return k.value, nil
	}
	value, err := ask()
	if err == nil {
		k.value, k.done = value, true
	}
	return value, err
}

func newRemotes(opts Options) *remotes {
	transport := &web.Retry{Next: opts.Transport}
	secret := func(name string) ([]byte, bool) {
		value, ok := opts.Secrets[name]
		return value, ok
	}
	return &remotes{
		store: opts.Store,
		web:   &web.Client{Transport: transport, Secret: secret, Uploads: opts.Uploads},
		git: &git.Fetcher{
			Transport: transport, Secret: secret, Login: opts.GitLogin,
			Signers: func(ctx context.Context, id string) ([]ssh.Signer, func(), error) {
				set, ok := opts.SSH[cmp.Or(id, defaultSSH)]
				if !ok {
					return nil, nil, fmt.Errorf("there is no ssh key with the id %q", cmp.Or(id, defaultSSH))
				}
				return set.Signers(ctx)
			},
		},
		commits: map[string]*known[git.Commit]{},
		files:   map[string]*known[downloaded]{},
	}
}

func entry[T any](mu *sync.Mutex, all map[string]*known[T], key string) *known[T] {
	mu.Lock()
	defer mu.Unlock()
	if all[key] == nil {
		all[key] = &known[T]{}
	}
	return all[key]
}

// commit finds out which commit a repository's reference names in this build.
func (r *remotes) commit(ctx context.Context, repo git.Repository) (git.Commit, error) {
	key := repo.Remote + "#" + repo.Ref + "@" + repo.Checksum + fmt.Sprint(repo.FetchByCommit)
	return entry(&r.mu, r.commits, key).get(func() (git.Commit, error) { return r.git.Resolve(ctx, repo) })
}

// download gives the file of a URL.
func (r *remotes) download(ctx context.Context, src web.Source) (downloaded, error) {
	return entry(&r.mu, r.files, fmt.Sprintf("%+v", src)).get(func() (downloaded, error) {
		dir, err := r.store.Dir("download")
		if err != nil {
			return downloaded{}, err
		}
		file, err := r.web.Get(ctx, src, dir)
		if err != nil {
			_ = os.RemoveAll(dir)
			return downloaded{}, err
		}
		return downloaded{file, dir}, nil
	})
}

// key is the source's cache key in the form that BuildKit has for it, and empty
// for a folder, of which only its content says what it is.
func (o *sourceOp) key(ctx context.Context) (string, error) {
	src, err := source.Parse(o.source)
	if err != nil {
		return "", err
	}
	switch src := src.(type) {
	case source.Repository:
		commit, err := o.solver.remotes.commit(ctx, src.Repository)
		return gitKey(src.Repository, commit), err
	case source.Download:
		if src.Checksum != "" {
			return webKey(src.Source, src.Known()), nil
		}
		file, err := o.solver.remotes.download(ctx, src.Source)
		return webKey(src.Source, file.File), err
	case source.Image:
		return imageKey(src, o.platform()), nil
	case source.Layout:
		return imageKey(source.Image{Ref: src.Name(), LayerLimit: src.LayerLimit}, o.platform()), nil
	default:
		return "", nil
	}
}

func gitKey(r git.Repository, commit git.Commit) string {
	key := commit.Hash
	if commit.Peeled != "" && !r.KeepGitDir {
		key = commit.Peeled
	}
	if r.KeepGitDir {
		key += ".git#" + commit.Ref
	}
	if r.Subdir != "" {
		key += ":" + r.Subdir
	}
	if r.SkipSubmodules {
		key += "(skip-submodules)"
	}
	if r.CommitTime {
		key += "(mtime=commit)"
	}
	return key
}

func webKey(src web.Source, file web.File) string {
	type field struct{ Name, Value string }
	var header []field
	for name := range src.Header {
		header = append(header, field{name, src.Header.Get(name)})
	}
	slices.SortFunc(header, func(a, b field) int { return cmp.Compare(a.Name, b.Name) })
	modified := ""
	if file.Modified != nil {
		modified = file.Modified.Format(http.TimeFormat)
	}
	raw, err := json.Marshal(struct {
		Filename         string
		Perm, UID, GID   int
		Checksum         digest.Digest
		LastModTime      string  `json:",omitempty"`
		AuthHeaderSecret string  `json:",omitempty"`
		Header           []field `json:",omitempty"`
	}{file.Name, int(src.Perm), src.UID, src.GID, file.Digest, modified, src.AuthHeaderSecret, header})
	if err != nil {
		return file.Digest.String() // strings and numbers can always be written
	}
	return digest.FromBytes(raw).String()
}

func (o *sourceOp) repository(ctx context.Context, src source.Repository) (*snapshot.Ref, error) {
	commit, err := o.solver.remotes.commit(ctx, src.Repository)
	if err != nil {
		return nil, err
	}
	store := o.solver.opts.Store
	work, err := store.Dir("git")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work) //nolint:errcheck // Close removes what is left
	dest, err := store.Dir("checkout")
	if err != nil {
		return nil, err
	}
	if err := o.solver.remotes.git.Checkout(ctx, src.Repository, commit, work, dest); err != nil {
		return nil, err
	}
	return store.Folder(src.Name(), dest), nil
}

func (o *sourceOp) download(ctx context.Context, src source.Download) (*snapshot.Ref, error) {
	file, err := o.solver.remotes.download(ctx, src.Source)
	if err != nil {
		return nil, err
	}
	return o.solver.opts.Store.Folder(src.Name(), file.dir), nil
}

// Metadata says what is known of a git or http source: its commit, and with
// objects that commit as git stores it; its digest and time. An http source is
// downloaded for it.
func (s *Solver) Metadata(ctx context.Context, op *pb.SourceOp, objects bool) (*sourceresolver.MetaResponse, error) {
	src, err := source.Parse(op)
	if err != nil {
		return nil, err
	}
	found := &sourceresolver.MetaResponse{Op: op}
	switch src := src.(type) {
	case source.Repository:
		commit, err := s.remotes.commit(ctx, src.Repository)
		if err != nil {
			return nil, err
		}
		found.Git = &sourceresolver.ResolveGitResponse{}
		if objects {
			work, err := s.opts.Store.Dir("git")
			if err != nil {
				return nil, err
			}
			defer os.RemoveAll(work) //nolint:errcheck // Close removes what is left
			if commit, found.Git.CommitObject, found.Git.TagObject, err = s.remotes.git.Objects(ctx, src.Repository, commit, work); err != nil {
				return nil, err
			}
		}
		found.Git.Ref, found.Git.Checksum, found.Git.CommitChecksum = commit.Ref, commit.Hash, commit.Peeled
	case source.Download:
		file, err := s.remotes.download(ctx, src.Source)
		if err != nil {
			return nil, err
		}
		found.HTTP = &sourceresolver.ResolveHTTPResponse{Digest: file.Digest, Filename: file.Name, LastModified: file.Modified}
	default:
		return nil, fmt.Errorf("source %s has no time of its own", strings.SplitN(op.Identifier, "#", 2)[0])
	}
	return found, nil
}
