package solver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/build/snapshot"
	"github.com/towline/towline/internal/problem"
)

// defaultPath is what a RUN finds programs by when the image sets no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execOp is a RUN.
type execOp struct {
	solver *Solver
	vertex *vertex
	exec   *pb.ExecOp
}

func (o *execOp) run(ctx context.Context, inputs []*snapshot.Ref) (_ []*snapshot.Ref, err error) {
	if err = o.check(); err != nil {
		return nil, err
	}
	if o.solver.serial {
		o.solver.run.Lock()
		defer o.solver.run.Unlock()
	}
	if o.solver.serial && o.binds() {
		o.solver.running.Lock()
		defer o.solver.running.Unlock()
	}
	mounts := &execMounts{op: o, inputs: inputs}
	defer func() { err = errors.Join(err, mounts.release()) }()
	if err = mounts.prepare(ctx); err != nil {
		return nil, err
	}
	process, tail, err := o.process()
	if err != nil {
		return nil, err
	}
	result, err := o.runIn(ctx, mounts, process)
	if err != nil && !o.allowed(err) {
		return nil, o.explain(err, tail)
	}
	var outs []*snapshot.Ref
	if mounts.output {
		ref, commitErr := mounts.root.Commit(ctx, o.vertex.digest.String(), result.Moved)
		if commitErr != nil {
			return nil, commitErr
		}
		mounts.root = nil
		outs = append(outs, ref)
	}
	return outs, o.solver.used(o.vertex, inputs)
}

// runIn runs the process, and tells what it tried to change outside the image.
func (o *execOp) runIn(ctx context.Context, mounts *execMounts, process sandbox.Process) (sandbox.Result, error) {
	if o.solver.serial {
		o.solver.outside.Lock()
		defer o.solver.outside.Unlock()
	}
	result, err := o.solver.opts.Sandbox.Run(ctx, mounts.root.Path, process, mounts.list)
	at := o.solver.place(o.vertex)
	for _, path := range result.Restored {
		o.solver.opts.Progress.Emit(progress.Warning{
			File: at.file, Line: at.line,
			Message: "the command changed " + path + ", which is not part of the image; it was put back as it was",
		})
	}
	return result, err
}

// check refuses what no sandbox here can honour.
func (o *execOp) check() error {
	if o.solver.opts.Sandbox == nil {
		return errors.New("this machine offers no sandbox to run a command in")
	}
	if o.exec.Security == pb.SecurityMode_INSECURE {
		return &problem.Error{
			Op: "build " + o.vertex.name, Err: errors.New("RUN --security=insecure is not offered"),
			Fix: "Take --security=insecure out: a build here never gets more rights than its container.",
		}
	}
	if len(o.exec.CdiDevices) > 0 {
		return &problem.Error{
			Op: "build " + o.vertex.name, Err: errors.New("RUN --device is not offered"),
			Fix: "Take --device out of the RUN.",
		}
	}
	here := o.solver.opts.Platforms
	if p := o.vertex.op.Platform; p != nil && !slices.ContainsFunc(here, func(h v1.Platform) bool { return h.OS == p.OS && h.Architecture == p.Architecture }) {
		return &problem.Error{
			Op: "build " + o.vertex.name, Input: "platforms",
			Err: fmt.Errorf("this RUN is for %s/%s, the machine is %s/%s and its kernel has no emulator for it", p.OS, p.Architecture, here[0].OS, here[0].Architecture),
			Fix: "Use a native runner, one of that architecture (ubuntu-24.04-arm for arm64), or cross-compile: run the command in a stage FROM --platform=$BUILDPLATFORM and only copy from it in the others.",
		}
	}
	return nil
}

// binds says whether the RUN mounts another state, whose folder a sandbox
// without mounts has to move.
func (o *execOp) binds() bool {
	return slices.ContainsFunc(o.exec.Mounts, func(m *pb.Mount) bool {
		return m.Dest != "/" && m.Input >= 0 && m.MountType == pb.MountType_BIND
	})
}

func (o *execOp) process() (sandbox.Process, *tail, error) {
	meta := o.exec.Meta
	out := &tail{emit: func(data []byte) {
		o.solver.opts.Progress.Emit(progress.StepOutput{ID: o.vertex.digest.String(), Data: data})
	}}
	p := sandbox.Process{
		Args: meta.Args, Cwd: meta.Cwd, User: meta.User, Hostname: meta.Hostname,
		Env:    slices.Concat(meta.Env, proxyEnv(meta.ProxyEnv)),
		Stdout: out, Stderr: out, RemoveStubsRecursive: meta.RemoveMountStubsRecursive,
		More: o.solver.moreRuns(),
	}
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		p.Env = append(p.Env, "PATH="+defaultPath)
	}
	for _, secret := range o.exec.Secretenv {
		value, ok := o.solver.opts.Secrets[secret.ID]
		if !ok {
			if secret.Optional {
				continue
			}
			return p, nil, noSecret(o.vertex.name, secret.ID)
		}
		p.Env = append(p.Env, secret.Name+"="+string(value))
	}
	for _, host := range meta.ExtraHosts {
		p.ExtraHosts = append(p.ExtraHosts, sandbox.HostIP{Host: host.Host, IP: host.IP})
	}
	for _, limit := range meta.Ulimit {
		p.Ulimits = append(p.Ulimits, sandbox.Ulimit{Name: limit.Name, Soft: limit.Soft, Hard: limit.Hard})
	}
	switch o.exec.Network {
	case pb.NetMode_NONE:
		p.Network = sandbox.NetworkNone
	case pb.NetMode_HOST:
		p.Network = sandbox.NetworkHost
	default:
	}
	return p, out, nil
}

// allowed says whether the definition takes this exit code for success.
func (o *execOp) allowed(err error) bool {
	var exit *sandbox.ExitError
	return errors.As(err, &exit) && slices.Contains(o.exec.Meta.ValidExitCodes, int32(exit.Code))
}

func (o *execOp) explain(err error, out *tail) error {
	var exit *sandbox.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	p := &problem.Error{Op: "build " + o.vertex.name, Err: exit, Detail: out.lines()}
	full := slices.ContainsFunc(p.Detail, func(line string) bool { return strings.Contains(line, "No space left on device") })
	switch {
	case full:
		p.Fix = "The disk is full: remove what the job does not need from it in a step before this one, or use a runner with a larger one."
	case exit.Code == 126:
		p.Fix = "Make the file executable, or call it through its interpreter."
	case exit.Code == 127:
		p.Fix = "Install the command in an earlier step, or correct its name."
	case exit.Code == 137:
		p.Fix = "The kernel most likely ended it for want of memory: use less, or a larger runner."
	}
	return p
}

func proxyEnv(p *pb.ProxyEnv) []string {
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.GetHttpProxy()},
		{"HTTPS_PROXY", p.GetHttpsProxy()},
		{"FTP_PROXY", p.GetFtpProxy()},
		{"NO_PROXY", p.GetNoProxy()},
		{"ALL_PROXY", p.GetAllProxy()},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env
}

func noSecret(op, id string) error {
	return &problem.Error{
		Op: "build " + op, Input: "secrets", Err: fmt.Errorf("no secret has the id %q", id),
		Fix: fmt.Sprintf("Give it as a line of input \"secrets\": %s=${{ secrets.NAME }}", id),
	}
}
