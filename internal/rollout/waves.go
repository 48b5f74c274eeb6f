package rollout

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Wave says how many services have been begun once a wave is through: a number
// of them, or a share of all.
type Wave struct {
	// Count is 1 or more, or 0 where Percent says it.
	Count int
	// Percent is more than 0, up to 100.
	Percent float64
}

// ParseWave reads "3" or "10%".
func ParseWave(text string) (Wave, error) {
	number, share := strings.CutSuffix(text, "%")
	if !share {
		n, err := strconv.Atoi(text)
		if err != nil {
			return Wave{}, fmt.Errorf("%q is neither a number of services nor a percentage", text)
		}
		if n < 1 {
			return Wave{}, fmt.Errorf("%q: a wave has at least one service", text)
		}
		return Wave{Count: n}, nil
	}
	p, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(p) {
		return Wave{}, fmt.Errorf("%q is neither a number of services nor a percentage", text)
	}
	if !(p > 0 && p <= 100) {
		return Wave{}, fmt.Errorf("%q is not more than 0%% and at most 100%%", text)
	}
	return Wave{Percent: p}, nil
}

// String is the wave as it is written.
func (w Wave) String() string {
	if w.Count > 0 {
		return strconv.Itoa(w.Count)
	}
	return strconv.FormatFloat(w.Percent, 'f', -1, 64) + "%"
}

// Check refuses waves of which one cannot come after the one before it. Numbers
// and percentages are not compared: that depends on how many services there are.
func Check(waves []Wave) error {
	var errs []error
	for i, w := range waves {
		for _, before := range waves[:i] {
			if before.Count > 0 && w.Count > 0 && w.Count <= before.Count || before.Percent > 0 && w.Percent > 0 && w.Percent <= before.Percent {
				errs = append(errs, fmt.Errorf("%s comes after %s, and is no more than that: each says how many services have been begun by then, from the first", w, before))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// reach is how many of total services have been begun once the wave is through.
func (w Wave) reach(total int) int {
	if w.Count > 0 {
		return min(w.Count, total)
	}
	return min(int(math.Ceil(w.Percent*float64(total)/100)), total)
}

// Sizes is how many of total services are in each wave. What the last of waves
// leaves is in one more; a wave with nothing left for it is left out.
func Sizes(waves []Wave, total int) []int {
	var sizes []int
	begun := 0
	for _, w := range append(slices.Clip(waves), Wave{Percent: 100}) {
		if reach := w.reach(total); reach > begun {
			sizes = append(sizes, reach-begun)
			begun = reach
		}
	}
	return sizes
}
