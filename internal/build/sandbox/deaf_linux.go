package sandbox

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// deaf makes this process ignore, until the returned function is called, signals
// that would end it on the spot. A process in place or in a chroot runs beside it, as root if its
// image wants that, and could prevent the clean-up so: what it wrote to the runner's
// files would stay. Only INT and TERM get through, which cancel a run in good order;
// KILL and STOP never reach a container's first process from within. Faults of our own
// still end the process.
func deaf() (hear func()) {
	signals := make(chan os.Signal, 1) // Nobody reads it: what does not fit is dropped.
	signal.Notify(signals, unix.SIGHUP, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE,
		unix.SIGSEGV, unix.SIGSTKFLT, unix.SIGSYS, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	return func() { signal.Stop(signals) }
}
