package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Status is how a process ended.
type Status struct {
	// Code is its exit code, 128 plus the signal's number when a signal ended it.
	Code int
	// Signal is the signal that ended it, or 0.
	Signal syscall.Signal
}

// Ready is a starter that waits for something to run. Our own binary takes tens of
// milliseconds to load, which need not be spent when there is something. The zero
// value loads it then.
type Ready struct {
	out, errOut pipe
	child       *started
	// ran says that the child has had its orders, and is reaped as what it became.
	ran bool
}

// Prepare loads a starter. It is a child of this process: whoever reaps all children
// ends it. When this process ends, so does it.
func Prepare() (*Ready, error) {
	r := &Ready{}
	if err := errors.Join(r.out.open(), r.errOut.open()); err != nil {
		r.Close()
		return nil, err
	}
	var err error
	if r.child, err = start(false, nil, r.out.w, r.errOut.w); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close gives up what waits. Run does it too.
func (r *Ready) Close() {
	r.out.close()
	r.errOut.close()
	if r.child == nil {
		return
	}
	r.child.close()
	if !r.ran {
		_ = r.child.proc.Kill()
		_, _ = r.child.proc.Wait() // somebody else may have reaped it
		r.ran = true
	}
}

// Run runs spec; see Ready.Run.
func Run(ctx context.Context, spec *Spec, stdout, stderr io.Writer) (Status, error) {
	return (&Ready{}).Run(ctx, spec, stdout, stderr)
}

// Run runs spec and waits until the process, and everything that it left
// running, has ended, and until all that they wrote has reached stdout and
// stderr. When ctx ends, all of them are killed and the cause is returned.
func (r *Ready) Run(ctx context.Context, spec *Spec, stdout, stderr io.Writer) (Status, error) {
	var status Status
	if r.child != nil && (spec.supervised() || r.child.loaded() != nil) {
		r.Close()
		return Run(ctx, spec, stdout, stderr)
	}
	defer r.Close()
	if r.child == nil {
		if err := errors.Join(r.out.open(), r.errOut.open()); err != nil {
			return status, err
		}
	}
	var copies errgroup.Group
	var turn sync.Mutex // the two may be one writer
	copies.Go(func() error { return r.out.copyTo(&oneAtATime{turn: &turn, w: stdout}) })
	copies.Go(func() error { return r.errOut.copyTo(&oneAtATime{turn: &turn, w: stderr}) })

	// The kernel sends the parent-death signal when the thread ends that
	// started the child, not the process: it has to stay until then.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		status, err = r.run(ctx, spec)
		_ = r.out.w.Close()
		_ = r.errOut.w.Close()
		done <- err
	}()
	err := <-done
	err = errors.Join(err, copies.Wait())
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return status, err
}

// pipe carries one output of the process.
type pipe struct{ r, w *os.File }

func (p *pipe) open() (err error) {
	p.r, p.w, err = os.Pipe()
	return err
}

func (p *pipe) close() {
	_ = p.r.Close()
	_ = p.w.Close()
}

// copyTo goes on reading when the writer fails, so that the process is not
// stopped by a full pipe.
func (p *pipe) copyTo(w io.Writer) error {
	_, err := io.Copy(w, p.r)
	if err != nil {
		_, _ = io.Copy(io.Discard, p.r)
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

type oneAtATime struct {
	turn *sync.Mutex
	w    io.Writer
}

// Write passes b on; without a writer it is dropped.
func (o *oneAtATime) Write(b []byte) (int, error) {
	o.turn.Lock()
	defer o.turn.Unlock()
	if o.w == nil {
		return len(b), nil
	}
	return o.w.Write(b)
}

func (r *Ready) run(ctx context.Context, spec *Spec) (Status, error) {
	supervised := spec.supervised()
	noForkUnderWay()
	if r.child == nil {
		var err error
		if r.child, err = start(supervised, spec.Namespaces, r.out.w, r.errOut.w); err != nil {
			return Status{}, err
		}
	}
	s := r.child
	r.ran = true
	s.send(spec)
	stop := make(chan struct{})
	var watch errgroup.Group
	watch.Go(func() error {
		select {
		case <-ctx.Done():
			if supervised {
				return s.proc.Signal(stopSignal(spec.Namespaces))
			}
			return s.proc.Kill()
		case <-stop:
			return nil
		}
	})
	defer func() {
		close(stop)
		_ = watch.Wait() // a process that has ended cannot be stopped
		_ = s.proc.Release()
	}()
	if supervised {
		rep, reportErr := readReport(s.reports)
		_, waitErr := s.proc.Wait()
		if errors.Is(reportErr, io.EOF) {
			reportErr = errors.New("the process that watches over the command was killed")
		}
		return rep.status(), errors.Join(reportErr, waitErr)
	}
	startErr := s.outcome()
	status, err := Reap(s.proc.Pid)
	return status, errors.Join(startErr, err)
}

// noForkUnderWay waits until all that was forked so far executes its own program. A
// file that somebody had open for writing meanwhile, and has closed, is open in a
// child until then, and could not be executed (ETXTBSY). Forks may overlap, so that
// ours would not wait for another's; who reads the lock waits for all of them. The
// kernel wakes them a moment before it closes the child's copies, so this makes the
// window narrow and does not close it.
func noForkUnderWay() {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
}

// stopSignal ends an init and all that it watches over. The one of a PID
// namespace takes everything with it when it is killed.
func stopSignal(ns *Namespaces) syscall.Signal {
	if ns == nil {
		return syscall.SIGTERM
	}
	return syscall.SIGKILL
}

func (r report) status() Status { return Status{Code: r.Code, Signal: syscall.Signal(r.Signal)} }

// started is a child that waits for its orders.
type started struct {
	proc *os.Process
	// orders takes a Spec. What comes from reports ends with a report, or with
	// nothing when a starter has become the process.
	orders, reports *os.File
}

// start executes our own binary as the init of namespaces or not, or as a
// starter. Nothing of the binary has to be in the root filesystem that it will
// work in.
func start(supervised bool, ns *Namespaces, stdout, stderr *os.File) (*started, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close() //nolint:errcheck // read only
	var orders, reports pipe
	if err = errors.Join(orders.open(), reports.open()); err != nil {
		return nil, err
	}
	defer orders.r.Close()  //nolint:errcheck // the child's copy counts
	defer reports.w.Close() //nolint:errcheck // the child's copy counts
	name, attr := starterName, &syscall.SysProcAttr{Setsid: true}
	if supervised {
		name, attr.Pdeathsig = initName, stopSignal(ns)
	}
	if ns != nil {
		attr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		if ns.NoNetwork {
			attr.Cloneflags |= unix.CLONE_NEWNET
		}
	}
	proc, err := os.StartProcess("/proc/self/exe", []string{name}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Sys: attr,
		Files: []*os.File{null, stdout, stderr, orders.r, reports.w},
	})
	if err != nil {
		_ = reports.r.Close()
		_ = orders.w.Close()
		return nil, fmt.Errorf("start our own binary: %w", err)
	}
	return &started{proc: proc, orders: orders.w, reports: reports.r}, nil
}

// send gives the child its orders. A child that cannot take them has ended, and
// its report says why.
func (s *started) send(spec *Spec) {
	if err := json.NewEncoder(s.orders).Encode(spec); err != nil {
		_ = s.proc.Kill()
	}
	_ = s.orders.Close()
}

// loaded waits until the child runs and needs no more files.
func (s *started) loaded() error {
	if _, err := s.reports.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("start our own binary: %w", err)
	}
	return nil
}

func (s *started) close() {
	_ = s.orders.Close()
	_ = s.reports.Close()
}

// outcome reads the report of a starter: nothing when it became the process.
func (s *started) outcome() error {
	_, err := readReport(s.reports)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
