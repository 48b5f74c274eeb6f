package rollout_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/rollout"
)

func TestParseWave(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want rollout.Wave
		err  string
	}{
		"a number":         {text: "3", want: rollout.Wave{Count: 3}},
		"a percentage":     {text: "10%", want: rollout.Wave{Percent: 10}},
		"a part of one":    {text: "0.5 %", want: rollout.Wave{Percent: 0.5}},
		"all":              {text: "100%", want: rollout.Wave{Percent: 100}},
		"none":             {text: "0", err: `"0": a wave has at least one service`},
		"fewer than none":  {text: "-1", err: `"-1": a wave has at least one service`},
		"no percent":       {text: "0%", err: `"0%" is not more than 0% and at most 100%`},
		"too many percent": {text: "101%", err: `"101%" is not more than 0% and at most 100%`},
		"not a number":     {text: "NaN%", err: `"NaN%" is neither a number of services nor a percentage`},
		"a word":           {text: "half", err: `"half" is neither a number of services nor a percentage`},
		"a sign":           {text: "%", err: `"%" is neither a number of services nor a percentage`},
		"a fraction":       {text: "1.5", err: `"1.5" is neither a number of services nor a percentage`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := rollout.ParseWave(test.text)
			if text := fmt.Sprint(err); err != nil && text != test.err || err == nil && test.err != "" {
				t.Errorf("error %v, want %s", err, test.err)
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func waves(t *testing.T, texts ...string) []rollout.Wave {
	t.Helper()
	var all []rollout.Wave
	for _, text := range texts {
		w, err := rollout.ParseWave(text)
		if err != nil {
			t.Fatal(err)
		}
		if w.String() != text {
			t.Errorf("%s is written %s", text, w)
		}
		all = append(all, w)
	}
	return all
}

func TestSizes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		waves []string
		total int
		want  []int
	}{
		"no waves":                 {total: 7, want: []int{7}},
		"no services":              {waves: []string{"1", "100%"}},
		"one, a tenth, all":        {waves: []string{"1", "10%", "100%"}, total: 200, want: []int{1, 19, 180}},
		"few services":             {waves: []string{"1", "10%", "100%"}, total: 5, want: []int{1, 4}},
		"one service":              {waves: []string{"1", "10%", "100%"}, total: 1, want: []int{1}},
		"a rest":                   {waves: []string{"1", "5"}, total: 8, want: []int{1, 4, 3}},
		"more than there are":      {waves: []string{"5", "50"}, total: 8, want: []int{5, 3}},
		"a share is rounded up":    {waves: []string{"1%"}, total: 3, want: []int{1, 2}},
		"a number above the share": {waves: []string{"50%", "2", "100%"}, total: 10, want: []int{5, 5}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(rollout.Sizes(waves(t, test.waves...), test.total), test.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const each = ", and is no more than that: each says how many services have been begun by then, from the first"
	tests := map[string]struct {
		waves []string
		err   string
	}{
		"none":          {},
		"ever more":     {waves: []string{"1", "10%", "20", "100%"}},
		"twice":         {waves: []string{"1", "1"}, err: "1 comes after 1" + each},
		"back":          {waves: []string{"5", "50%", "3"}, err: "3 comes after 5" + each},
		"shares":        {waves: []string{"50%", "1", "10%"}, err: "10% comes after 50%" + each},
		"two are wrong": {waves: []string{"5", "3", "50%", "25%"}, err: "3 comes after 5" + each + "\n25% comes after 50%" + each},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := rollout.Check(waves(t, test.waves...))
			if text := fmt.Sprint(err); err != nil && text != test.err || err == nil && test.err != "" {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}
