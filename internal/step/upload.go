package step

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/taskdef"
)

// earlyUploads is how many layers are uploaded at once while a build goes on.
const earlyUploads = 3

// uploads takes the layers of a build as they are ready and uploads them while
// it goes on. End waits for what is under way or, if the build failed, gives it
// up. An upload that fails is no error here: the push tries it again, and says why.
func (s *Step) uploads(ctx context.Context) (ready func(v1.Layer), end func(failed bool)) {
	targets := s.layerTargets()
	if len(targets) == 0 {
		return nil, func(bool) {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var group errgroup.Group
	group.SetLimit(earlyUploads)
	var mu sync.Mutex
	var waiting sync.WaitGroup
	seen := map[v1.Hash]bool{}
	ready = func(l v1.Layer) {
		digest, err := l.Digest()
		mu.Lock()
		known := err != nil || seen[digest]
		seen[digest] = true
		mu.Unlock()
		if known {
			return
		}
		waiting.Go(func() { // the build does not wait for a free place
			group.Go(func() error {
				for _, repository := range targets {
					if err := s.registry.Upload(ctx, repository, l); err != nil {
						s.runner.Debug(fmt.Sprintf("early upload of %s to %s: %v", digest, repository, err))
					}
				}
				return nil
			})
		})
	}
	return ready, func(failed bool) {
		if failed {
			cancel(errors.New("the build failed"))
		}
		waiting.Wait()
		_ = group.Wait() // every upload has kept its error
		cancel(nil)
	}
}

// layerTargets are the repositories that the layers go to, each once.
func (s *Step) layerTargets() []string {
	if !s.settings.Build.Push {
		return nil
	}
	names := append([]string(nil), s.repositories...)
	for _, ref := range s.refs {
		names = append(names, taskdef.Repository(ref))
	}
	return distinct(names)
}
