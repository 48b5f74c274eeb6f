//go:build !linux

package sandbox

import (
	"context"
	"errors"

	"github.com/towline/towline/internal/problem"
)

// Entry is what Enter found.
type Entry struct {
	// Environ is the environment, NAME=value.
	Environ []string
	// Executable, Warning, Exit and Code are only of use on Linux.
	Executable, Warning string
	Exit                bool
	Code                int
}

// Main has no hidden commands but on Linux.
func Main([]string) (code int, ok bool) { return 0, false }

// Entered is of use on Linux only.
func Entered() bool { return false }

// Enter has nothing to protect: only Linux runs commands.
func Enter(_, environ []string) Entry { return Entry{Environ: environ} }

// Choose finds no sandbox but on Linux.
func Choose(context.Context, string, Options) (Sandbox, string, error) {
	return nil, "", &problem.Error{
		Op: "prepare to run commands", Err: errors.ErrUnsupported,
		Fix: "Run on Linux: RUN steps of a Dockerfile are Linux programs.",
	}
}

// MountOverlay needs Linux.
func MountOverlay(_, _, _ string, _ []string, _ bool) error { return errors.ErrUnsupported }

// Unmount needs Linux.
func Unmount(string) error { return errors.ErrUnsupported }

// CanOverlay is false but on Linux.
func CanOverlay(string) (ok, userxattr bool) { return false, false }
