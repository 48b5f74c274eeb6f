// Package rollout goes over several services: in waves, side by side, and at the
// first failure back again. It knows nothing of what a service is.
package rollout

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options says how to go over services that are numbered from 0.
type Options struct {
	// Sizes is how many services are in each wave; see Sizes.
	Sizes []int
	// Parallel is how many are under way at once. Default: 1.
	Parallel int
	// Bake is how long to wait between two waves. Default: not.
	Bake time.Duration
	// Deploy brings one service to its end. Failed is done at the first failure
	// of another one, with a *FailedError as its cause. Fail may be called as soon
	// as it is known that this one fails: its end may be a while off. Required.
	Deploy func(ctx, failed context.Context, n int, fail func(error)) error
	// Check says whether a service that was deployed is still well; it is asked
	// for all when a bake ends. It may be nil.
	Check func(ctx context.Context, n int) error
	// TakeBack undoes one that was deployed, once all that were under way have
	// ended. Nil leaves those as they are.
	TakeBack func(ctx context.Context, n int, why error) error
	// Wave, if not nil, is told of each wave before it begins, numbered from 0.
	Wave func(wave, first, size int)
	// Baking, if not nil, is told before each wait.
	Baking func(wave int)
}

// State is how far a service got.
type State int

const (
	// NotBegun services were left alone.
	NotBegun State = iota
	// Deployed services are well, as far as Deploy and Check say.
	Deployed
	// Failed services are those for which Deploy or Check gave an error.
	Failed
	// TakenBack services were deployed, and taken back.
	TakenBack
	// NotTakenBack services should have been, and TakeBack gave an error.
	NotTakenBack
)

// Result is what came of one service.
type Result struct {
	State State
	// Err is of Deploy or Check; of TakeBack for NotTakenBack.
	Err error
}

// FailedError is why services are given up that have not failed themselves.
type FailedError struct {
	// N is the number of the service that failed first.
	N   int
	Err error
}

// Error is the first failure's.
func (f *FailedError) Error() string { return f.Err.Error() }

// Unwrap gives the first failure.
func (f *FailedError) Unwrap() error { return f.Err }

// errOver ends contexts that nobody needs any more.
var errOver = errors.New("the rollout is over")

// Run goes over all services and gives a result for each. After the first
// failure, or when ctx ends, no further one is begun; those that are under way
// are waited for. When ctx ends, nothing is taken back.
func Run(ctx context.Context, opts Options) []Result {
	total := 0
	for _, size := range opts.Sizes {
		total += size
	}
	r := &run{opts: opts, results: make([]Result, total)}
	var failed context.Context
	failed, r.fail = context.WithCancelCause(context.WithoutCancel(ctx))
	defer r.fail(errOver)
	first := 0
	for i, size := range opts.Sizes {
		if i > 0 && !r.bake(ctx, failed, i-1, first) {
			break
		}
		if opts.Wave != nil {
			opts.Wave(i, first, size)
		}
		r.wave(ctx, failed, first, size)
		if first += size; ctx.Err() != nil || failed.Err() != nil {
			break
		}
	}
	if failed.Err() != nil && ctx.Err() == nil && opts.TakeBack != nil {
		r.takeBack(ctx, context.Cause(failed))
	}
	return r.results
}

type run struct {
	opts    Options
	results []Result
	fail    context.CancelCauseFunc
}

// wave deploys some services.
func (r *run) wave(ctx, failed context.Context, first, size int) {
	r.each(first, size, func(n int) {
		if ctx.Err() != nil || failed.Err() != nil {
			return
		}
		r.ended(n, r.opts.Deploy(ctx, failed, n, func(err error) { r.fail(&FailedError{n, err}) }))
	})
}

// each does something with some services, side by side.
func (r *run) each(first, size int, do func(n int)) {
	var group errgroup.Group
	group.SetLimit(max(r.opts.Parallel, 1))
	for n := first; n < first+size; n++ {
		group.Go(func() error { do(n); return nil })
	}
	_ = group.Wait() // each has its own result
}

// ended notes what came of a service. Each has its own place.
func (r *run) ended(n int, err error) {
	if err == nil {
		r.results[n] = Result{State: Deployed}
		return
	}
	r.results[n] = Result{State: Failed, Err: err}
	r.fail(&FailedError{n, err})
}

// bake waits after a wave, and says whether the next one may begin.
func (r *run) bake(ctx, failed context.Context, wave, begun int) bool {
	if r.opts.Bake > 0 {
		if r.opts.Baking != nil {
			r.opts.Baking(wave)
		}
		timer := time.NewTimer(r.opts.Bake)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
		if r.opts.Check != nil {
			r.each(0, begun, func(n int) {
				if err := r.opts.Check(ctx, n); err != nil && ctx.Err() == nil {
					r.ended(n, err)
				}
			})
		}
	}
	return ctx.Err() == nil && failed.Err() == nil
}

// takeBack undoes what was deployed.
func (r *run) takeBack(ctx context.Context, why error) {
	r.each(0, len(r.results), func(n int) {
		if r.results[n].State != Deployed || ctx.Err() != nil {
			return
		}
		r.results[n] = Result{State: TakenBack}
		if err := r.opts.TakeBack(ctx, n, why); err != nil {
			r.results[n] = Result{State: NotTakenBack, Err: err}
		}
	})
}
