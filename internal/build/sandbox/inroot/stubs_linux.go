package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Stubs are the empty files and folders that were made in a root filesystem for
// mounts to be put on.
type Stubs struct {
	root    string
	made    []string // absolute in root, parents first
	drop    []string // what Remove removes, children first
	parents map[string]*parent
}

// parent is a folder that was there before and had a stub put into it.
type parent struct {
	before, made unix.Stat_t
}

// Stub is a place that must exist.
type Stub struct {
	Path string
	Dir  bool
}

// MakeStubs makes what is missing of the places. Places below another one are
// left alone: a mount will cover it. Remove takes back the last part of each
// path, and what was made of its parents too when recursive: BuildKit's rule
// (executor/stubs.go).
func MakeStubs(root string, places []Stub, recursive bool) (*Stubs, error) {
	s := &Stubs{root: root, parents: map[string]*parent{}}
	for i, place := range places {
		if place.Path = path.Join("/", place.Path); place.Path == "/" || covered(places, i) {
			continue
		}
		if err := s.make(place, recursive); err != nil {
			return s, errors.Join(err, s.Remove())
		}
	}
	return s, nil
}

func covered(places []Stub, i int) bool {
	return slices.ContainsFunc(places, func(other Stub) bool {
		above := path.Join("/", other.Path)
		return above != "/" && strings.HasPrefix(path.Join("/", places[i].Path), above+"/")
	})
}

func (s *Stubs) make(place Stub, recursive bool) error {
	found, err := Look(s.root, place.Path)
	if err != nil {
		return err
	}
	_ = found.Close()
	if found.Exists() {
		return nil
	}
	at := found.Path
	for range found.Missing {
		at = path.Dir(at)
	}
	if err := s.remember(at); err != nil {
		return err
	}
	for i, name := range found.Missing {
		at = path.Join(at, name)
		last := i == len(found.Missing)-1
		if err := s.makeOne(at, place.Dir || !last); err != nil {
			return err
		}
		s.made = append(s.made, at)
		if last || recursive {
			s.drop = append([]string{at}, s.drop...)
		}
	}
	for dir, p := range s.parents {
		if err := unix.Lstat(s.real(dir), &p.made); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

func (s *Stubs) makeOne(at string, dir bool) error {
	if dir {
		if err := os.Mkdir(s.real(at), 0o755); err != nil { //nolint:gosec // as runc makes them
			return fmt.Errorf("mount point %s: %w", at, err)
		}
		return nil
	}
	f, err := os.OpenFile(s.real(at), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // as runc makes them
	if err != nil {
		return fmt.Errorf("mount point %s: %w", at, err)
	}
	return f.Close()
}

func (s *Stubs) remember(dir string) error {
	if s.parents[dir] != nil || slices.Contains(s.made, dir) {
		return nil
	}
	p := &parent{}
	if err := unix.Lstat(s.real(dir), &p.before); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	s.parents[dir] = p
	return nil
}

func (s *Stubs) real(name string) string { return filepath.Join(s.root, name) }

// Remove removes the stubs that are still empty and gives their parents the
// times back that they would have without them. Each path is resolved again:
// what replaced a stub is not touched (CVE-2024-23652).
func (s *Stubs) Remove() error {
	var errs []error
	for _, name := range s.drop {
		if err := s.removeOne(name); err != nil {
			errs = append(errs, fmt.Errorf("mount point %s: %w", name, err))
		}
	}
	s.drop = nil
	return errors.Join(errs...)
}

func (s *Stubs) removeOne(name string) error {
	dir := path.Dir(name)
	found, err := Look(s.root, dir)
	if err != nil {
		return ignoreGone(err)
	}
	defer found.Close() //nolint:errcheck // O_PATH
	if !found.Exists() || found.Path != dir {
		return nil
	}
	at, base := int(found.File.Fd()), path.Base(name)
	var st, now unix.Stat_t
	if err = unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return ignoreGone(err)
	}
	if err = unix.Fstat(at, &now); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = unix.Unlinkat(at, base, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
	case unix.S_IFREG:
		if st.Size != 0 {
			return nil
		}
		err = unix.Unlinkat(at, base, 0)
	default:
		return nil
	}
	if err != nil {
		return ignoreGone(err)
	}
	mtim := now.Mtim
	if p := s.parents[dir]; p != nil && p.made.Mtim == now.Mtim && p.made.Ino == now.Ino {
		mtim = p.before.Mtim
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, s.real(dir), []unix.Timespec{now.Atim, mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// Touched lists the folders, absolute in the root, that had stubs put into them
// and that nothing else changed since. Call it before Remove.
func (s *Stubs) Touched() []string {
	var dirs []string
	for dir, p := range s.parents {
		var now unix.Stat_t
		if err := unix.Lstat(s.real(dir), &now); err == nil && now.Ino == p.made.Ino && now.Ctim == p.made.Ctim {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// Made says that the file at path, outside view, is a stub.
func (s *Stubs) Made(path string) bool {
	return slices.ContainsFunc(s.made, func(name string) bool { return s.real(name) == path })
}
