package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/child"
	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// maxUserFile bounds what is read of a root filesystem's /etc/passwd.
const maxUserFile = 10 << 20

// defaultHostname is BuildKit's, so that what a process makes of it is the same.
const defaultHostname = "buildkitsandbox"

// prepare resolves p in root. What is left to set is where and how it runs.
func prepare(root string, p Process) (*child.Spec, error) {
	if len(p.Args) == 0 {
		return nil, errors.New("no command to run")
	}
	spec := &child.Spec{Args: p.Args, Cwd: path.Join("/", p.Cwd)}
	home, err := setUser(spec, root, p.User)
	if err != nil {
		return nil, err
	}
	spec.Env = withHome(p.Env, home)
	for _, u := range p.Ulimits {
		limit, limitErr := toLimit(u)
		if limitErr != nil {
			return nil, limitErr
		}
		spec.Limits = append(spec.Limits, limit)
	}
	return spec, nil
}

// makeFolder makes the working directory; what is missing of it belongs to the
// process's user, as with BuildKit. Its time is after the mount stubs are
// made, so that one of them may be it, and before anything covers them.
func makeFolder(root string, spec *child.Spec) error {
	cwd, err := inroot.MakeFolder(root, spec.Cwd, int(spec.UID), int(spec.GID))
	if err != nil {
		return fmt.Errorf("working directory %s: %w", spec.Cwd, err)
	}
	return cwd.Close()
}

// setUser looks name up as BuildKit does (executor/oci/user.go) and reports the
// home folder as runc finds it: by number, "/" when there is none.
func setUser(spec *child.Spec, root, name string) (home string, err error) {
	passwd, err := userFile(root, "/etc/passwd")
	if err != nil {
		return "", err
	}
	group, err := userFile(root, "/etc/group")
	if err != nil {
		return "", err
	}
	var groups []int
	if uid, gid, ok := numeric(name); ok {
		spec.UID, spec.GID = uid, gid
	} else {
		lookFor := name
		if lookFor == "" {
			lookFor = "0"
		}
		found, userErr := user.GetExecUser(lookFor, nil, bytes.NewReader(passwd), bytes.NewReader(group))
		if userErr != nil && name != "" {
			return "", fmt.Errorf("user %q: %w", name, userErr)
		}
		if userErr == nil {
			spec.UID, spec.GID, groups = uint32(found.Uid), uint32(found.Gid), found.Sgids
		}
	}
	spec.Groups = []uint32{spec.GID}
	for _, g := range groups {
		if uint32(g) != spec.GID {
			spec.Groups = append(spec.Groups, uint32(g))
		}
	}
	byNumber, err := user.GetExecUser(strconv.Itoa(int(spec.UID)), &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), nil)
	if err != nil || byNumber.Home == "" {
		return "/", nil //nolint:nilerr // a user without an entry has no home
	}
	return byNumber.Home, nil
}

// numeric understands "uid:gid", which needs no look-up and has no further groups.
func numeric(name string) (uid, gid uint32, ok bool) {
	u, g, ok := strings.Cut(name, ":")
	if !ok {
		return 0, 0, false
	}
	uid, uidOK := number(u)
	gid, gidOK := number(g)
	return uid, gid, uidOK && gidOK
}

func number(s string) (uint32, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

func userFile(root, name string) ([]byte, error) {
	content, err := inroot.ReadFile(root, name, maxUserFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return content, err
}

func withHome(env []string, home string) []string {
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "HOME="); ok && value != "" {
			return env
		}
	}
	return append(slices.Clip(env), "HOME="+home)
}

func toLimit(u Ulimit) (child.Limit, error) {
	numbers := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
	resource, ok := numbers[strings.ToLower(u.Name)]
	if !ok {
		return child.Limit{}, fmt.Errorf("ulimit %q is not known", u.Name)
	}
	// -1 is no limit, which is the largest unsigned number.
	return child.Limit{Resource: resource, Soft: uint64(u.Soft), Hard: uint64(u.Hard)}, nil
}

// systemFolders makes the mount points in root that every container runtime
// makes and that BuildKit leaves there: they become part of the layer.
func systemFolders(root string) error {
	for _, name := range []string{"/dev", "/proc", "/sys"} {
		f, err := inroot.Make(root, name, true)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// hostsFile is /etc/hosts as BuildKit makes it (executor/oci/hosts.go).
func hostsFile(hostname string, extra []HostIP) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname)
	for _, h := range extra {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return []byte(b.String())
}

// resolvConf is the machine's: the process shares its network. Empty if there is none.
func resolvConf() ([]byte, error) {
	f, err := os.Open("/etc/resolv.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// outcome makes the contract's error of how the process ended.
func outcome(status child.Status, err error) error {
	if err != nil {
		return err
	}
	if status.Code == 0 {
		return nil
	}
	exit := &ExitError{Code: status.Code}
	if status.Signal != 0 {
		exit.Signal = unix.SignalName(status.Signal)
	}
	return exit
}

// relative is an absolute path in a root filesystem as Result lists it.
func relative(name string) string { return strings.TrimPrefix(filepath.Clean(name), "/") }
