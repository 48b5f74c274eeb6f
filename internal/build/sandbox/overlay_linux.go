package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountOverlay mounts lowers, topmost first, on the folder merged. What is
// changed there lands in upper; work is an empty folder beside upper. Without
// upper and work the mount is read-only. With userxattr the kernel keeps its
// own marks in user.overlay.*, as it must in a user namespace.
//
// The upper folder is a plain layer: renamed folders are copied, and files
// whose attributes change are copied whole.
func MountOverlay(merged, upper, work string, lowers []string, userxattr bool) error {
	if len(lowers) == 0 {
		return fmt.Errorf("overlay %s: no lower folder", merged)
	}
	var err error
	if upper == "" && len(lowers) == 1 {
		// An overlay of a single folder is refused.
		err = bindReadOnly(lowers[0], merged)
	} else {
		opts := overlayOptions(upper, work, userxattr)
		err = overlayByFsopen(merged, lowers, opts)
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
			err = overlayByMount(merged, lowers, opts)
		}
	}
	if err != nil {
		return fmt.Errorf("overlay %s: %w", merged, err)
	}
	return nil
}

// Unmount undoes MountOverlay. A mount that is still busy disappears when it is
// no longer.
func Unmount(merged string) error {
	if err := unix.Unmount(merged, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", merged, err)
	}
	return nil
}

// CanOverlay says whether overlays with their upper folder in dir can be
// mounted, and if so whether they need userxattr.
func CanOverlay(dir string) (ok, userxattr bool) {
	for _, userxattr := range []bool{false, true} {
		if tryOverlay(dir, userxattr) == nil {
			return true, userxattr
		}
	}
	return false, false
}

// tryOverlay mounts one, and has it make a whiteout and an opaque folder.
func tryOverlay(dir string, userxattr bool) (err error) {
	tmp, err := os.MkdirTemp(dir, "overlay-probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	sub := func(name string) string { return filepath.Join(tmp, name) }
	for _, name := range []string{"lower", "lower/folder", "upper", "work", "merged"} {
		if err = os.Mkdir(sub(name), 0o755); err != nil { //nolint:gosec // empty folders for a probe
			return err
		}
	}
	if err = MountOverlay(sub("merged"), sub("upper"), sub("work"), []string{sub("lower")}, userxattr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Unmount(sub("merged"))) }()
	if err := os.Remove(sub("merged/folder")); err != nil {
		return err
	}
	return os.Mkdir(sub("merged/folder"), 0o755) //nolint:gosec // an empty folder for a probe
}

func bindReadOnly(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err != nil {
		return errors.Join(err, Unmount(target))
	}
	return nil
}

type option struct{ key, value string }

// overlayOptions switches off what would make upper more than a plain layer,
// where the kernel knows of it.
func overlayOptions(upper, work string, userxattr bool) []option {
	var opts []option
	if upper != "" {
		opts = append(opts, option{"upperdir", upper}, option{"workdir", work})
	}
	for _, feature := range []string{"index", "redirect_dir", "metacopy"} {
		if _, err := os.Stat("/sys/module/overlay/parameters/" + feature); err == nil {
			opts = append(opts, option{feature, "off"})
		}
	}
	if userxattr {
		opts = append(opts, option{"userxattr", ""})
	}
	return opts
}

// overlayByFsopen has no bound on the number of lower folders but the kernel's
// 500. It needs Linux 6.8 (lowerdir+).
func overlayByFsopen(merged string, lowers []string, opts []option) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a handle
	for _, lower := range lowers {
		if err = unix.FsconfigSetString(fd, "lowerdir+", lower); err != nil {
			return err
		}
	}
	for _, opt := range opts {
		if opt.value == "" {
			err = unix.FsconfigSetFlag(fd, opt.key)
		} else {
			err = unix.FsconfigSetString(fd, opt.key, opt.value)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", opt.key, err)
		}
	}
	if err = unix.FsconfigCreate(fd); err != nil {
		return err
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mount) //nolint:errcheck // a handle
	return unix.MoveMount(mount, "", unix.AT_FDCWD, merged, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// overlayByMount is for older kernels, which take all options in one page:
// short links stand for the lower folders.
func overlayByMount(merged string, lowers []string, opts []option) error {
	tmp, err := os.MkdirTemp("/tmp", "")
	if err != nil {
		tmp, err = os.MkdirTemp(filepath.Dir(merged), "")
	}
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // links
	short := make([]string, 0, len(lowers))
	for i, lower := range lowers {
		link := filepath.Join(tmp, strconv.Itoa(i))
		if err := os.Symlink(lower, link); err != nil {
			return err
		}
		short = append(short, link)
	}
	data := []string{"lowerdir=" + strings.Join(short, ":")}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`)
	for _, opt := range opts {
		if opt.value == "" {
			data = append(data, opt.key)
		} else {
			data = append(data, opt.key+"="+escape.Replace(opt.value))
		}
	}
	return unix.Mount("overlay", merged, "overlay", 0, strings.Join(data, ","))
}
