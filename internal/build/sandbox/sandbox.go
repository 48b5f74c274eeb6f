// Package sandbox runs one RUN step in a root filesystem.
//
// There are three sandboxes: namespaces, where the kernel lets us make them; in
// place, for the action's own unprivileged container, where mount and unshare
// are refused; and chroot, where neither can be had.
package sandbox

import (
	"context"
	"fmt"
	"io"
)

// Sandbox runs processes in root filesystems. Namespaces run several at once, the
// others one at a time.
//
// While a process runs in place, / is its root filesystem: of our own paths only
// /towline and what is open already can be reached. Whoever reads the workspace
// meanwhile needs an open folder, an os.Root.
type Sandbox interface {
	// Name is "namespaces", "in place" or "chroot".
	Name() string
	// Run runs one process with the folder root as its root filesystem and
	// waits until it, and everything that it left running, has ended. A process
	// that ends with another code than 0 gives an *ExitError. Whatever
	// happens, root's entries, mounts and stubs are as they were afterwards,
	// except for what the process itself changed, and for the folders /dev,
	// /proc and /sys: where they are missing, they are made and stay, as they do
	// with BuildKit.
	Run(ctx context.Context, root string, p Process, mounts []Mount) (Result, error)
}

// Result is what the caller needs to know about a run. It is filled in when the
// run fails too.
type Result struct {
	// Moved lists the paths below root, slash-separated and relative, whose
	// inode the process left as it was, but whose ctime changed because the
	// sandbox renamed them in and out, or put a mount's stub into them.
	Moved []string
	// Restored lists the guarded files (Options.Guard) that the process had
	// changed and that are as before again.
	Restored []string
}

// Process is what to run. Its environment is Env and nothing else.
type Process struct {
	Args []string
	// Env holds NAME=value.
	Env []string
	// Cwd is absolute, in the root filesystem. It is made if it is missing, as
	// BuildKit does it, and stays.
	Cwd string
	// User is user[:group] by name or number as in a Dockerfile's USER, looked
	// up in the root filesystem. Empty is 0:0. A user without a group gets the
	// groups that /etc/group lists it in.
	User string
	// Hostname is empty for the sandbox's own.
	Hostname string
	// ExtraHosts are added to /etc/hosts for the time of the run.
	ExtraHosts []HostIP
	// Network says what the process may reach.
	Network Network
	// Ulimits are set before the process starts.
	Ulimits []Ulimit
	// RemoveStubsRecursive removes the parents of mount stubs too, when the
	// sandbox made them and they are empty.
	RemoveStubsRecursive bool
	// More says that another process will probably be run soon.
	More bool
	// Stdout and Stderr receive what the process writes, never both at once. An
	// empty one drops it. Stdin is empty.
	Stdout, Stderr io.Writer
}

// HostIP is a line for /etc/hosts.
type HostIP struct{ Host, IP string }

// Ulimit is a resource limit by its name in getrlimit(2), "nofile".
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Network is what a process may reach.
type Network int

// The networks of RUN --network.
const (
	NetworkDefault Network = iota
	NetworkNone
	NetworkHost
)

// Mount puts something at Dest in the root filesystem while a process runs.
type Mount struct {
	// Dest is absolute, in the root filesystem. A missing Dest, and its missing
	// parents, are made for the run and removed afterwards if still empty.
	Dest string
	// Source is a folder or a file outside the root filesystem. It is empty for a Tmpfs.
	Source string
	// ReadOnly mounts must be as before after the run: where the kernel cannot
	// enforce that, a change found afterwards fails the run with an error
	// that names Dest.
	ReadOnly bool
	// Tmpfs is an empty folder that is dropped afterwards, of at most Size
	// bytes where the sandbox can bound it (0: no bound).
	Tmpfs bool
	Size  int64
	// Secret is content for a file that must never reach a disk that outlives
	// the run. Source is empty then.
	Secret         []byte
	IsSecret       bool
	Mode, UID, GID uint32
}

// ExitError says that a process ended with another code than 0.
type ExitError struct {
	// Code is the exit code; 128 plus the signal's number when a signal ended it.
	Code int
	// Signal is the name of the signal that ended the process, or empty.
	Signal string
}

// Error says how the process ended.
func (e *ExitError) Error() string {
	if e.Signal != "" {
		return fmt.Sprintf("killed by %s (exit code %d)", e.Signal, e.Code)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}
