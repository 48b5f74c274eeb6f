// Package child is what runs between Towline and a RUN step's process: our own
// binary, executed again, which prepares the place and then becomes or watches
// over the process.
//
// There are two of them. The init is PID 1 of the step's own namespaces, or a
// plain subreaper; it outlives the process and kills what that leaves behind.
// The starter takes on the process's identity and limits and becomes it. Both
// get their orders over a pipe, never on the command line or in the
// environment, which any process of the machine may read.
package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	initName    = "towline-init"
	starterName = "towline-start"
	// specFD and reportFD are where a child finds its orders, and where it says
	// how it went.
	specFD, reportFD = 3, 4
)

// Spec is what to run and how.
type Spec struct {
	// Supervised puts an init between the caller and the process. It is implied
	// by Namespaces.
	Supervised bool
	// Namespaces is nil to stay in the caller's.
	Namespaces *Namespaces
	// Probe makes the init end once everything is in place.
	Probe bool
	// Chroot is the folder that becomes the process's root. Empty leaves it.
	Chroot string
	Args   []string
	// Env holds NAME=value; nothing is added to it.
	Env    []string
	Cwd    string
	UID    uint32
	GID    uint32
	Groups []uint32
	Limits []Limit
	// DockerCaps takes all capabilities away that Docker does not give to a
	// container by default.
	DockerCaps bool
	// Filter refuses the system calls that a build has no use for and that reach
	// deep into the kernel. It needs the right to install it without
	// no_new_privs.
	Filter bool
	// NoNetwork refuses all sockets but Unix ones, for where no network
	// namespace can be had. It sets no_new_privs where the kernel wants it.
	NoNetwork bool
}

func (s *Spec) supervised() bool { return s.Supervised || s.Namespaces != nil }

// Limit is a resource limit, by number.
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

// Namespaces says what the process's own mount, PID, IPC and UTS namespaces hold.
type Namespaces struct {
	// Root is the folder that becomes "/".
	Root string
	// Scratch is an empty folder: a private tmpfs is put on it for what must not
	// reach a disk.
	Scratch  string
	Hostname string
	// NoNetwork gives an own network namespace with nothing but loopback.
	NoNetwork bool
	Mounts    []Mount
}

// Mount is put at Dest in the root: the file or folder Source, or an empty tmpfs,
// or a file that holds Data.
type Mount struct {
	Dest           string
	Source         string
	ReadOnly       bool
	Tmpfs          bool
	Size           int64
	File           bool
	Data           []byte
	Mode, UID, GID uint32
}

// report is what a child says before it ends.
type report struct {
	// Err is why the process could not be started, or nothing.
	Err string `json:",omitempty"`
	// Code and Signal say how the process ended; only an init knows.
	Code, Signal int
}

// Main runs the child that args name. It reports false when args name none, and
// the code to exit with otherwise. The program's main calls it first.
func Main(args []string) (code int, ok bool) {
	if len(args) != 1 || (args[0] != initName && args[0] != starterName) {
		return 0, false
	}
	closeOnExec(specFD)
	closeOnExec(reportFD)
	out := os.NewFile(reportFD, "report")
	// Loaded, with all that the binary is linked with. A decoder of what follows
	// skips it.
	if _, err := out.WriteString("\n"); err != nil {
		return 125, true
	}
	spec, err := readSpec()
	if err != nil {
		return 125, true
	}
	var rep report
	if args[0] == initName {
		rep, err = runInit(spec)
	} else {
		err = become(spec)
	}
	if err != nil {
		rep = report{Err: err.Error(), Code: 125}
	}
	_ = json.NewEncoder(out).Encode(rep)
	return rep.Code, true
}

func readSpec() (*Spec, error) {
	in := os.NewFile(specFD, "spec")
	defer in.Close() //nolint:errcheck // read only
	spec := &Spec{}
	if err := json.NewDecoder(in).Decode(spec); err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	return spec, nil
}

func readReport(r io.Reader) (report, error) {
	var rep report
	err := json.NewDecoder(r).Decode(&rep)
	if errors.Is(err, io.EOF) {
		return rep, err
	}
	if err == nil && rep.Err != "" {
		err = errors.New(rep.Err)
	}
	return rep, err
}
