package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/rollout"
)

// diary notes what happens, and when.
type diary struct {
	mu    sync.Mutex
	begin time.Time
	lines []string
	now   int
	most  int
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf("%s ", time.Since(d.begin).Truncate(time.Second))+fmt.Sprintf(format, args...))
}

func (d *diary) under(by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now += by
	d.most = max(d.most, d.now)
}

var errBroken = errors.New("broken")

func TestRun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sizes               []int
		parallel            int
		bake                time.Duration
		fails, sours, stays []int
		early               []int // known to fail long before the end
		keeps               bool
		cancelAfter         time.Duration
		want                string // a letter for each service
		most                int
		took                time.Duration
		lines               []string
	}{
		"one":          {sizes: []int{1}, parallel: 9, want: "D", most: 1, took: time.Minute},
		"one by one":   {sizes: []int{3}, want: "DDD", most: 1, took: 3 * time.Minute},
		"side by side": {sizes: []int{6}, parallel: 4, want: "DDDDDD", most: 4, took: 2 * time.Minute},
		"waves": {
			sizes: []int{1, 2, 3}, parallel: 4, bake: 5 * time.Minute, want: "DDDDDD", most: 3, took: 13 * time.Minute,
			lines: []string{"0s wave 0: 1 from 0", "1m0s bakes after 0", "6m0s wave 1: 2 from 1", "7m0s bakes after 1", "12m0s wave 2: 3 from 3"},
		},
		"waves without a bake": {sizes: []int{1, 2}, parallel: 4, want: "DDD", most: 2, took: 2 * time.Minute, lines: []string{"0s wave 0: 1 from 0", "1m0s wave 1: 2 from 1"}},
		"the first fails":      {sizes: []int{1, 4}, parallel: 4, fails: []int{0}, want: "F----", most: 1, took: time.Minute},
		"one in a later wave fails": {
			sizes: []int{2, 2, 2}, parallel: 2, fails: []int{2}, want: "BBFF--", most: 2, took: 3 * time.Minute,
			lines: []string{"0s wave 0: 2 from 0", "1m0s wave 1: 2 from 2", "2m0s takes 0 back: broken", "2m0s takes 1 back: broken"},
		},
		"nothing is to be taken back":      {sizes: []int{2, 2}, parallel: 2, fails: []int{3}, keeps: true, want: "DDFF", most: 2, took: 2 * time.Minute},
		"one cannot be taken back":         {sizes: []int{3, 1}, parallel: 3, fails: []int{3}, stays: []int{1}, want: "B!BF", most: 3, took: 3 * time.Minute},
		"not begun because of its turn":    {sizes: []int{5}, parallel: 2, fails: []int{1}, want: "FF---", most: 2, took: time.Minute},
		"known to fail before its end":     {sizes: []int{4}, parallel: 2, early: []int{0}, want: "FF--", most: 2, took: 61 * time.Minute, keeps: true},
		"turns sour in the bake":           {sizes: []int{2, 2}, parallel: 2, bake: time.Minute, sours: []int{0}, want: "FB--", most: 2, took: 3 * time.Minute},
		"cancelled while one is under way": {sizes: []int{1, 2, 2}, parallel: 2, cancelAfter: 90 * time.Second, want: "DFF--", most: 2, took: 90 * time.Second},
		"cancelled in the bake":            {sizes: []int{1, 2}, parallel: 2, bake: time.Hour, cancelAfter: 90 * time.Second, want: "D--", most: 1, took: 90 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.cancelAfter > 0 {
					time.AfterFunc(test.cancelAfter, func() { cancel(errBroken) })
				}
				d := &diary{begin: time.Now()}
				opts := rollout.Options{
					Sizes: test.sizes, Parallel: test.parallel, Bake: test.bake,
					Deploy: func(ctx, failed context.Context, n int, fail func(error)) error {
						d.under(1)
						defer d.under(-1)
						timer := time.NewTimer(time.Minute)
						defer timer.Stop()
						if !slices.Contains(append(test.early, test.fails...), n) { // ends a moment later, unless it is given up
							timer.Reset(time.Minute + time.Duration(len(test.fails)+len(test.early)))
						}
						select {
						case <-timer.C:
						case <-ctx.Done():
							return context.Cause(ctx)
						case <-failed.Done():
							return context.Cause(failed)
						}
						if slices.Contains(test.early, n) {
							fail(errBroken)
							<-time.After(time.Hour)
						}
						if slices.Contains(append(test.fails, test.early...), n) {
							return errBroken
						}
						return nil
					},
					Check: func(_ context.Context, n int) error {
						if slices.Contains(test.sours, n) {
							return errBroken
						}
						return nil
					},
					TakeBack: func(_ context.Context, n int, why error) error {
						d.write("takes %d back: %v", n, why)
						<-time.After(time.Minute)
						if slices.Contains(test.stays, n) {
							return errBroken
						}
						return nil
					},
					Wave:   func(wave, first, size int) { d.write("wave %d: %d from %d", wave, size, first) },
					Baking: func(wave int) { d.write("bakes after %d", wave) },
				}
				if test.keeps {
					opts.TakeBack = nil
				}
				var got strings.Builder
				for _, result := range rollout.Run(ctx, opts) {
					got.WriteByte("-DFB!"[result.State])
					if wrong := result.State == rollout.Failed || result.State == rollout.NotTakenBack; wrong != errors.Is(result.Err, errBroken) {
						t.Errorf("state %d with error %v", result.State, result.Err)
					}
				}
				if got.String() != test.want {
					t.Errorf("got %s, want %s", &got, test.want)
				}
				if d.most != test.most {
					t.Errorf("%d at once, want %d", d.most, test.most)
				}
				if took := time.Since(d.begin).Truncate(time.Second); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
				slices.Sort(d.lines)
				slices.Sort(test.lines)
				if diff := cmp.Diff(d.lines, test.lines); test.lines != nil && diff != "" {
					t.Errorf("got -, want +:\n%s", diff)
				}
			})
		})
	}
}
