package deploy

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// pause waits for about d, more or less by a share of it, or until ctx ends.
func (c *Client) pause(ctx context.Context, d time.Duration, share float64) {
	d += time.Duration((2*c.dice.Float64() - 1) * share * float64(d))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// newDice gives every service pauses of its own.
func newDice(service string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(service))
	return rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), h.Sum64())) //nolint:gosec // spreads calls, guards nothing
}
