package solver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/build/snapshot"
)

// execMounts is what a RUN finds in its root filesystem.
type execMounts struct {
	op     *execOp
	inputs []*snapshot.Ref

	root   *snapshot.Tree
	output bool
	list   []sandbox.Mount
	// undo ends what was prepared, last first.
	undo []func() error
}

func (m *execMounts) prepare(ctx context.Context) error {
	for _, mount := range m.op.exec.Mounts {
		if mount.MountType == pb.MountType_BIND && mount.Dest == "/" {
			continue
		}
		if err := m.add(ctx, mount); err != nil {
			return err
		}
	}
	// The root comes last: a state that is also mounted elsewhere has a reader then.
	for _, mount := range m.op.exec.Mounts {
		if mount.MountType != pb.MountType_BIND || mount.Dest != "/" {
			continue
		}
		access := snapshot.Access{Last: true}
		var ref *snapshot.Ref
		if mount.Input >= 0 {
			ref = m.inputs[mount.Input]
			access.Last = m.op.solver.last(m.op.vertex.inputs[mount.Input])
		}
		root, err := m.op.solver.opts.Store.Change(ctx, ref, access)
		if err != nil {
			return err
		}
		m.root, m.output = root, mount.Output >= 0
		return nil
	}
	return errors.New("the command has no root filesystem")
}

func (m *execMounts) add(ctx context.Context, mount *pb.Mount) error {
	switch mount.MountType {
	case pb.MountType_BIND:
		return m.bind(ctx, mount)
	case pb.MountType_CACHE:
		return m.cache(ctx, mount)
	case pb.MountType_TMPFS:
		m.list = append(m.list, sandbox.Mount{Dest: mount.Dest, Tmpfs: true, Size: mount.GetTmpfsOpt().GetSize()})
		return nil
	case pb.MountType_SECRET:
		return m.secret(mount)
	case pb.MountType_SSH:
		return m.ssh(ctx, mount)
	default:
		return fmt.Errorf("mount of type %s is not supported", mount.MountType)
	}
}

// bind mounts another state. A writable one is a copy, which is dropped afterwards.
func (m *execMounts) bind(ctx context.Context, mount *pb.Mount) error {
	if mount.Output >= 0 {
		return fmt.Errorf("mount at %s has an output, which is not supported", mount.Dest)
	}
	var ref *snapshot.Ref
	if mount.Input >= 0 {
		ref = m.inputs[mount.Input]
	}
	var path string
	if mount.Readonly {
		view, err := m.op.solver.opts.Store.View(ctx, ref)
		if err != nil {
			return err
		}
		m.undo = append(m.undo, func() error { view.Release(); return nil })
		path = view.Path
	} else {
		tree, err := m.op.solver.opts.Store.Change(ctx, ref, snapshot.Access{})
		if err != nil {
			return err
		}
		m.undo = append(m.undo, tree.Discard)
		path = tree.Path
	}
	return m.source(mount, path)
}

// source mounts the selected part of a folder.
func (m *execMounts) source(mount *pb.Mount, root string) error {
	path, err := fs.RootPath(root, mount.Selector)
	if err != nil {
		return fmt.Errorf("%s: %w", mount.Selector, err)
	}
	m.list = append(m.list, sandbox.Mount{Dest: mount.Dest, Source: path, ReadOnly: mount.Readonly})
	return nil
}

func (m *execMounts) cache(ctx context.Context, mount *pb.Mount) error {
	opt := mount.CacheOpt
	if opt == nil {
		return errors.New("cache mount without options")
	}
	var ref *snapshot.Ref
	key := opt.ID
	if mount.Input >= 0 {
		ref = m.inputs[mount.Input]
		key += ":" + m.op.vertex.inputs[mount.Input].Vertex.Digest().String()
	}
	path, release, err := m.op.solver.caches.get(ctx, cacheWant{key: key, initial: ref, sharing: opt.Sharing, name: mount.Dest})
	if err != nil {
		return err
	}
	m.undo = append(m.undo, func() error { release(); return nil })
	return m.source(mount, path)
}

func (m *execMounts) secret(mount *pb.Mount) error {
	opt := mount.SecretOpt
	if opt == nil || opt.ID == "" {
		return errors.New("secret mount without an id")
	}
	value, ok := m.op.solver.opts.Secrets[opt.ID]
	if !ok {
		if opt.Optional {
			return nil
		}
		return noSecret(m.op.vertex.name, opt.ID)
	}
	m.list = append(m.list, sandbox.Mount{
		Dest: mount.Dest, IsSecret: true, Secret: value,
		Mode: opt.Mode & 0o777, UID: opt.Uid, GID: opt.Gid,
	})
	return nil
}

func (m *execMounts) release() error {
	var errs []error
	if m.root != nil {
		errs = append(errs, m.root.Discard())
	}
	for _, undo := range slices.Backward(m.undo) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}
