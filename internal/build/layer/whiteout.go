package layer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// whiteout hides what the layers below have.
func (a *applier) whiteout(dir, base string) error {
	if base != opaqueName {
		switch base = base[len(whiteoutPrefix):]; base {
		case "", ".", "..":
			return errors.New("whiteout without a name")
		}
	}
	p, err := a.tree.find(dir, a.opts.Overlay || base == opaqueName)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // Nothing is there to be hidden.
	}
	if err != nil {
		return err
	}
	if base == opaqueName {
		if a.opts.Overlay {
			a.states[p.path].dirty, a.states[p.path].opaque = true, true
			return nil
		}
		err = a.prune(p.fd, p.path)
		a.tree.forget()
		return err
	}
	if a.opts.Overlay {
		return a.overlayWhiteout(p, base)
	}
	path := p.join(base)
	if _, ok := a.seen[path]; !ok {
		_, err = a.vacate(p, base)
		return err
	}
	// The layer itself has something there: only what came from below goes.
	fd, err := a.enter(p.fd, base, path)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	err = a.prune(fd, path)
	_ = unix.Close(fd)
	a.tree.forget()
	return err
}

// prune removes from a folder what this layer did not put there.
func (a *applier) prune(fd int, path string) error {
	if _, ok := a.pruned[path]; ok {
		return nil
	}
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		child := join(path, name)
		if _, ok := a.seen[child]; !ok {
			a.states[path].dirty = true
			if err := removeAll(fd, name); err != nil {
				return fmt.Errorf("remove %s: %w", child, err)
			}
			continue
		}
		sub, err := a.enter(fd, name, child)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return err
		}
		err = a.prune(sub, child)
		_ = unix.Close(sub)
		if err != nil {
			return err
		}
	}
	a.pruned[path] = struct{}{}
	return nil
}

// overlayWhiteout writes overlayfs's own whiteout at base in p.
func (a *applier) overlayWhiteout(p *folder, base string) error {
	st, err := statAt(p.fd, base)
	switch {
	case errors.Is(err, unix.ENOENT):
		a.states[p.path].dirty = true
		return unix.Mknodat(p.fd, base, unix.S_IFCHR, 0)
	case err != nil:
		return err
	case isType(st.Mode, unix.S_IFDIR):
		// The layer has a folder there: it starts empty.
		fd, err := a.enter(p.fd, base, p.join(base))
		if err != nil {
			return err
		}
		_ = unix.Close(fd)
		a.states[p.join(base)].dirty, a.states[p.join(base)].opaque = true, true
	}
	return nil
}
