package sandbox

// Options say where a sandbox works and what it protects.
type Options struct {
	// StateDir is a folder, made if it is missing, for empty folders to put mounts on and for
	// what waits while a process runs. For the in-place sandbox it is on the
	// container's own filesystem, where the root filesystems are too:
	// /towline/state. Required.
	StateDir string
	// Executable is the file that the program was started from: Entry.Executable.
	Executable string
	// Guard lists files that must be as before after each process: the runner's
	// command files, the event. What a process did to them is undone. The
	// in-place and chroot sandboxes add /etc/hosts, /etc/resolv.conf and
	// /etc/hostname. Namespaces do not need it.
	Guard []string
	// GuardTrees lists folders that no process may change: the workspace. A
	// change in one fails the run, in place and in a chroot.
	GuardTrees []string
}

// The values of the input "sandbox".
const (
	Auto       = "auto"
	Namespaces = "namespaces"
	InPlace    = "in-place"
	Chroot     = "chroot"
)
