package solver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/problem"
)

// defaultSSH is the id of keys that nobody gave a name.
const defaultSSH = "default"

// ssh mounts an agent's socket for the time of a RUN.
func (m *execMounts) ssh(ctx context.Context, mount *pb.Mount) error {
	opt := mount.SSHOpt
	if opt == nil {
		return errors.New("ssh mount without options")
	}
	id := cmp.Or(opt.ID, defaultSSH)
	set, ok := m.op.solver.opts.SSH[id]
	if !ok {
		if opt.Optional {
			return nil
		}
		return &problem.Error{
			Op: "build " + m.op.vertex.name, Input: "ssh", Err: fmt.Errorf("no ssh key has the id %q", id),
			Fix: fmt.Sprintf("Give it as a line of input \"ssh\": %s=PATH, or \"%s=${{ secrets.KEY }}\" in double quotes.", id, id),
		}
	}
	dir, err := m.op.solver.opts.Store.Dir("ssh")
	if err != nil {
		return err
	}
	m.undo = append(m.undo, func() error { return os.RemoveAll(dir) })
	path, stop, err := set.Serve(ctx, dir, int(opt.Uid), int(opt.Gid), os.FileMode(opt.Mode)&os.ModePerm)
	if err != nil {
		return err
	}
	m.undo = append(m.undo, stop)
	m.list = append(m.list, sandbox.Mount{Dest: mount.Dest, Source: path})
	return nil
}
