package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// heldFolder is a folder above a plant. Nobody can remove a folder with a mount in
// it, so if it is removed all the same, it is made again.
type heldFolder struct {
	path string // as the process sees it
	file *os.File
	was  attributes
}

// holdAbove remembers the folders of root that are above plants.
func (g *garden) holdAbove() error {
	seen := map[string]bool{}
	for _, p := range g.plants {
		if p.kept || g.rootOf(p.mount.Dest) != g.root {
			continue
		}
		for dir := path.Dir(p.inRoot); dir != "/" && !seen[dir] && !g.planted(dir); dir = path.Dir(dir) {
			seen[dir] = true
			found, err := inroot.Look(g.root, dir)
			if err != nil {
				return err
			}
			g.above = append(g.above, heldFolder{path: dir, file: found.File})
			if g.above[len(g.above)-1].was, err = readAttributes(filepath.Join(g.root, found.Path)); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(g.above, func(a, b heldFolder) int { return depth(a.path) - depth(b.path) })
	return nil
}

// planted says that dir is a plant, or inside one.
func (g *garden) planted(dir string) bool {
	return slices.ContainsFunc(g.plants, func(p *plant) bool { return strings.HasPrefix(dir+"/", p.inRoot+"/") })
}

// remakeAbove makes those folders again that the process has removed, the outer
// ones first. One that it has moved away, or put something else in the place of,
// stays as the process left it.
func (g *garden) remakeAbove() error {
	var errs []error
	for _, dir := range g.above {
		var st unix.Stat_t
		err := unix.Fstat(int(dir.file.Fd()), &st)
		if err == nil && st.Nlink == 0 {
			err = dir.remake(g.root)
		}
		if err = errors.Join(err, dir.file.Close()); err != nil {
			errs = append(errs, fmt.Errorf("folder %s above a mount: %w", dir.path, err))
		}
	}
	g.above = nil
	return errors.Join(errs...)
}

func (dir heldFolder) remake(root string) error {
	found, err := inroot.Look(root, path.Dir(dir.path))
	if err != nil {
		return err
	}
	defer found.Close() //nolint:errcheck // O_PATH
	if !found.Exists() || found.Path != path.Dir(dir.path) {
		return nil
	}
	at := filepath.Join(inroot.ProcPath(found.File), path.Base(dir.path))
	err = os.Mkdir(at, 0o700)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	var made unix.Stat_t
	if err := unix.Lstat(at, &made); err != nil {
		return err
	}
	was := dir.was
	was.stat.Mtim = made.Mtim // what was in it has been removed
	return was.apply(at)
}
