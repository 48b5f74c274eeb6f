package solver

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	bksnapshot "github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"
	fscopy "github.com/tonistiigi/fsutil/copy"
)

// readOwner finds the numbers of an owner given to COPY --chown or WORKDIR. As
// in BuildKit, a name that the root filesystem does not know is root, and a user
// given by number has the group of the same number.
func readOwner(owner *pb.ChownOpt, users, groups bksnapshot.Mountable) (*fscopy.User, error) {
	if owner == nil {
		return nil, nil //nolint:nilnil // no owner is asked for
	}
	var found fscopy.User
	switch u := owner.GetUser().GetUser().(type) {
	case *pb.UserOpt_ByID:
		found.UID, found.GID = int(u.ByID), int(u.ByID)
	case *pb.UserOpt_ByName:
		err := readAccounts(users, "etc/passwd", func(f *os.File) error {
			list, err := user.ParsePasswdFilter(f, func(entry user.User) bool { return entry.Name == u.ByName.Name })
			if len(list) > 0 {
				found.UID, found.GID = list[0].Uid, list[0].Gid
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	switch g := owner.GetGroup().GetUser().(type) {
	case *pb.UserOpt_ByID:
		found.GID = int(g.ByID)
	case *pb.UserOpt_ByName:
		err := readAccounts(groups, "etc/group", func(f *os.File) error {
			list, err := user.ParseGroupFilter(f, func(entry user.Group) bool { return entry.Name == g.ByName.Name })
			if len(list) > 0 {
				found.GID = list[0].Gid
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return &found, nil
}

// readAccounts opens an account file of a root filesystem. A missing file is as
// good as an empty one.
func readAccounts(m bksnapshot.Mountable, name string, read func(*os.File) error) error {
	if m == nil {
		return fmt.Errorf("owner: no root filesystem to look %s up in", name)
	}
	mounts, _, err := m.Mount()
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	root, err := os.OpenRoot(mounts[0].Source)
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	defer root.Close() //nolint:errcheck // read only
	f, err := openInside(root, name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > 10<<20 {
		return fmt.Errorf("owner: %s is no account file", name)
	}
	if err := read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openInside opens a file below root, following absolute links as the root
// filesystem's own processes would.
func openInside(root *os.Root, name string) (*os.File, error) {
	for range 40 {
		link, err := root.Readlink(name)
		if err != nil {
			return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		}
		if !strings.HasPrefix(link, "/") {
			link = "etc/" + link
		}
		name = strings.TrimPrefix(link, "/")
	}
	return nil, fmt.Errorf("%s: %w", name, syscall.ELOOP)
}
