package solver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/solver/llbsolver/file"
	"github.com/moby/buildkit/solver/llbsolver/ops/fileoptypes"
	"github.com/moby/buildkit/solver/pb"
	fscopy "github.com/tonistiigi/fsutil/copy"

	"github.com/towline/towline/internal/build/unpack"
)

// unpacker is BuildKit's file backend, except that ADD unpacks archives without
// chroot and unshare, which a container may not call.
//
// The backend resolves the links in the paths of a copy before it copies, as if
// the folders were roots (fs.RootPath). Somebody who exchanges a folder for a link
// in between would get out. Nobody does: a folder that is copied to belongs to this
// operation alone, one that is copied from is not written to any more, and no RUN
// step has either of them mounted then.
type unpacker struct {
	*file.Backend
}

// Copy unpacks the archives among an ADD's sources, and copies the rest. What must
// be there is.
func (u *unpacker) Copy(ctx context.Context, src, dest, user, group fileoptypes.Mount, action *pb.FileActionCopy) error {
	from, to, err := folders(src, dest)
	if err != nil {
		return err
	}
	if err = require(ctx, from, action); err != nil {
		return err
	}
	if !action.AttemptUnpackDockerCompatibility {
		return u.Backend.Copy(ctx, src, dest, user, group, action)
	}
	names := []string{action.Src}
	if action.AllowWildcard {
		if names, err = fscopy.ResolveWildcards(from, clean(action.Src), action.FollowSymlink); err != nil {
			return fmt.Errorf("%s: %w", action.Src, err)
		}
		if len(names) == 0 && !action.AllowEmptyWildcard {
			return fmt.Errorf("%s not found", action.Src)
		}
	}
	for _, name := range names {
		one := action.CloneVT()
		one.Src, one.AllowWildcard, one.AttemptUnpackDockerCompatibility = name, false, false
		unpacked, err := u.unpack(ctx, from, to, user, group, one)
		if err != nil {
			return err
		}
		if unpacked {
			continue
		}
		if err := u.Backend.Copy(ctx, src, dest, user, group, one); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) unpack(ctx context.Context, from, to string, userMount, groupMount fileoptypes.Mount, action *pb.FileActionCopy) (bool, error) {
	path, err := fs.RootPath(from, action.Src)
	if err != nil {
		return false, fmt.Errorf("%s: %w", action.Src, err)
	}
	is, err := unpack.IsArchive(path)
	if err != nil || !is {
		return false, err
	}
	dest, err := fs.RootPath(to, clean(action.Dest))
	if err != nil {
		return false, fmt.Errorf("%s: %w", action.Dest, err)
	}
	owner, err := u.owner(action.Owner, userMount, groupMount)
	if err != nil {
		return false, err
	}
	var all *unpack.Owner
	chown := func(old *fscopy.User) (*fscopy.User, error) { return old, nil }
	if owner != nil {
		all = &unpack.Owner{UID: owner.UID, GID: owner.GID}
		chown = func(*fscopy.User) (*fscopy.User, error) { return owner, nil }
	}
	var at *time.Time
	if action.Timestamp != -1 {
		t := time.Unix(0, action.Timestamp)
		at = &t
	}
	if _, err = fscopy.MkdirAll(dest, 0o755, chown, at); err != nil {
		return false, fmt.Errorf("%s: %w", action.Dest, err)
	}
	f, err := os.Open(path) //nolint:gosec // resolved below the source's root
	if err != nil {
		return false, fmt.Errorf("%s: %w", action.Src, err)
	}
	defer f.Close() //nolint:errcheck // read only
	if err := unpack.Archive(ctx, dest, f, all); err != nil {
		return false, fmt.Errorf("unpack %s: %w", action.Src, err)
	}
	return true, nil
}

func (u *unpacker) owner(owner *pb.ChownOpt, users, groups fileoptypes.Mount) (*fscopy.User, error) {
	var um, gm *file.Mount
	um, _ = users.(*file.Mount)
	gm, _ = groups.(*file.Mount)
	switch {
	case um != nil && gm != nil:
		return readOwner(owner, um.Mountable(), gm.Mountable())
	case um != nil:
		return readOwner(owner, um.Mountable(), nil)
	case gm != nil:
		return readOwner(owner, nil, gm.Mountable())
	default:
		return readOwner(owner, nil, nil)
	}
}

func folders(src, dest fileoptypes.Mount) (from, to string, err error) {
	for i, m := range []fileoptypes.Mount{src, dest} {
		fm, ok := m.(*file.Mount)
		if !ok {
			return "", "", fmt.Errorf("file operation: mount of type %T", m)
		}
		mounts, _, err := fm.Mountable().Mount()
		if err != nil {
			return "", "", fmt.Errorf("file operation: %w", err)
		}
		if i == 0 {
			from = mounts[0].Source
		} else {
			to = mounts[0].Source
		}
	}
	return from, to, nil
}

// clean is the path as BuildKit's file operations read it: rooted, and with the
// slash or dot at its end, which means "what is in it".
func clean(path string) string {
	cleaned := filepath.Join("/", path)
	switch {
	case strings.HasSuffix(path, "/.") && cleaned != "/":
		return cleaned + "/."
	case strings.HasSuffix(path, "/") && cleaned != "/":
		return cleaned + "/"
	default:
		return cleaned
	}
}
