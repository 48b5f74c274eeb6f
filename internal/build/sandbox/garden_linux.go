package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/towline/towline/internal/build/sandbox/inroot"
)

// garden stands in for mounts where the kernel allows none: what would be
// mounted is renamed or copied to its place, what was there waits aside, and
// afterwards everything goes back.
type garden struct {
	root  string
	aside string // an empty folder on root's filesystem
	// elsewhere holds folders of root that are not taken from root but from /.
	elsewhere []string
	// refuse says why nothing can be planted at a path, or is nil.
	refuse func(path string) error
	// ready is called when there is a stub for every mount and nothing is
	// planted yet, or is nil.
	ready  func() error
	plants []*plant
	stubs  []*inroot.Stubs
	above  []heldFolder
}

// grow plants all mounts. After an error everything is as before.
func (g *garden) grow(ctx context.Context, mounts []Mount, recursive bool) (err error) {
	defer func() {
		if err != nil {
			_, clearErr := g.clear(context.WithoutCancel(ctx))
			err = errors.Join(err, clearErr)
		}
	}()
	mounts = slices.Clone(mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return depth(a.Dest) - depth(b.Dest) })
	places := map[string][]inroot.Stub{}
	for _, m := range mounts {
		stub, stubErr := m.stub()
		if stubErr != nil {
			return stubErr
		}
		root := g.rootOf(m.Dest)
		places[root] = append(places[root], stub)
	}
	for root, list := range places {
		stubs, stubErr := inroot.MakeStubs(root, list, recursive || root != g.root)
		if stubErr != nil {
			return stubErr
		}
		g.stubs = append(g.stubs, stubs)
	}
	if g.ready != nil {
		if err = g.ready(); err != nil {
			return err
		}
	}
	for i, m := range mounts {
		p := &plant{mount: m}
		g.plants = append(g.plants, p)
		if err = g.plant(p, g.shared(mounts, i), i); err != nil {
			return fmt.Errorf("mount %s: %w", m.Dest, err)
		}
	}
	if err = g.holdAbove(); err != nil {
		return err
	}
	return g.surveyReadOnly(ctx)
}

// surveyReadOnly comes last: planting inside a read-only mount is our doing.
func (g *garden) surveyReadOnly(ctx context.Context) (err error) {
	for _, p := range g.plants {
		if !p.mount.ReadOnly || p.mount.Source == "" {
			continue
		}
		if p.before, err = survey(ctx, p.at, g.below(p)); err != nil {
			return fmt.Errorf("mount %s: %w", p.mount.Dest, err)
		}
	}
	return nil
}

func depth(dest string) int { return strings.Count(path.Clean(dest), "/") }

func (g *garden) rootOf(dest string) string {
	dest = path.Join("/", dest)
	for _, dir := range g.elsewhere {
		if strings.HasPrefix(dest, dir+"/") {
			return "/"
		}
	}
	return g.root
}

// shared says that another mount has the same source, or one inside it, so that
// it must not be renamed away.
func (g *garden) shared(mounts []Mount, i int) bool {
	return slices.ContainsFunc(mounts, func(other Mount) bool {
		a, b := mounts[i].Source+"/", other.Source+"/"
		return other.Source != "" && other.Dest != mounts[i].Dest && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
	})
}

// below lists the plants inside p.
func (g *garden) below(p *plant) map[string]bool {
	found := map[string]bool{}
	for _, other := range g.plants {
		if strings.HasPrefix(other.at, p.at+"/") {
			found[other.at] = true
		}
	}
	return found
}

// clear takes everything back and lists the paths in root that only we touched.
// It goes on after an error: as much as possible has to be as before.
func (g *garden) clear(ctx context.Context) (touched []string, err error) {
	var errs []error
	for _, p := range g.plants {
		if p.before == nil {
			continue
		}
		if err := p.verify(ctx, g.below(p)); err != nil {
			errs = append(errs, err)
		}
	}
	for _, stubs := range g.stubs {
		for _, dir := range stubs.Touched() {
			touched = append(touched, relative(dir))
		}
	}
	errs = append(errs, g.remakeAbove())
	for _, p := range slices.Backward(g.plants) {
		if p.parent.path != "" && p.parent.untouched() {
			touched = append(touched, relative(path.Dir(p.inRoot)))
		}
		if p.aside != "" && !p.stub {
			touched = append(touched, relative(p.inRoot))
		}
		if err := g.pull(p); err != nil {
			errs = append(errs, fmt.Errorf("mount %s: take back: %w", p.mount.Dest, err))
		}
	}
	for _, stubs := range g.stubs {
		errs = append(errs, stubs.Remove())
	}
	g.plants, g.stubs = nil, nil
	return touched, errors.Join(errs...)
}
