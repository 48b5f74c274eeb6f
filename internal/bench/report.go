package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are all builds' usages, in the order in which they were made.
type results map[resultKey][]usage

type resultKey struct{ name, phase, builder string }

func (r results) add(name, phase, builder string, u usage) {
	key := resultKey{name, phase, builder}
	r[key] = append(r[key], u)
}

// withoutStart takes the start of an empty program off the wall times: its median, as
// a single start may be disturbed more than the build beside it.
func (r results) withoutStart() results {
	var idle []time.Duration
	for _, all := range r {
		for _, u := range all {
			if u.idle > 0 {
				idle = append(idle, u.idle)
			}
		}
	}
	net := results{}
	for key, all := range r {
		for _, u := range all {
			if u.idle > 0 {
				u.wall = max(0, u.wall-median(idle))
			}
			net.add(key.name, key.phase, key.builder, u)
		}
	}
	return net
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// medians gives each amount's own median.
func (r results) medians(key resultKey) (usage, bool) {
	all := r[key]
	if len(all) == 0 {
		return usage{}, false
	}
	of := func(amount func(usage) int64) int64 {
		var list []int64
		for _, u := range all {
			list = append(list, amount(u))
		}
		return median(list)
	}
	return usage{
		wall: time.Duration(of(func(u usage) int64 { return int64(u.wall) })),
		cpu:  time.Duration(of(func(u usage) int64 { return int64(u.cpu) })),
		peak: of(func(u usage) int64 { return u.peak }),
		in:   of(func(u usage) int64 { return u.in }),
		out:  of(func(u usage) int64 { return u.out }),
	}, true
}

// ratio is the median of the pairs' own ratios: what disturbed a pair disturbed both.
func (r results) ratio(ours, theirs resultKey, amount func(usage) float64) float64 {
	var list []float64
	for i, u := range r[ours] {
		if i < len(r[theirs]) && amount(r[theirs][i]) > 0 {
			list = append(list, amount(u)/amount(r[theirs][i]))
		}
	}
	if len(list) == 0 {
		return 0
	}
	return median(list)
}

func wall(u usage) float64 { return u.wall.Seconds() }
func cpu(u usage) float64  { return u.cpu.Seconds() }

// report prints the result, and puts it into the file that was named.
func (b *bench) report(ctx context.Context, w io.Writer) error {
	var text bytes.Buffer
	if err := b.where(ctx, &text); err != nil {
		return err
	}
	b.results = b.results.withoutStart()
	b.ratios(&text)
	b.amounts(&text)
	if _, err := w.Write(text.Bytes()); err != nil {
		return err
	}
	if b.into == "" {
		return nil
	}
	return insert(b.into, text.String())
}

// where says on what was measured.
func (b *bench) where(ctx context.Context, w io.Writer) error {
	commit, err := output(ctx, b.root, "git", "describe", "--always", "--dirty")
	if err != nil {
		return err
	}
	docker, err := output(ctx, "", "docker", "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	_, total, _ := strings.Cut(string(memory), "MemTotal:")
	var kilobytes int64
	if _, err = fmt.Sscan(total, &kilobytes); err != nil {
		return err
	}
	binary, err := os.Stat(filepath.Join(b.work, "action", "towline"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, commit %s: %d CPUs (%s), %d GB of memory, Linux %s, Docker %s, %s, load %s at the end. Medians of %d pairs.\n"+
		"The binary has %.1f MB, and so has the image, which holds nothing else.\n\n",
		time.Now().Format(time.DateOnly), commit, runtime.NumCPU(), processor(), kilobytes>>20, strings.TrimSpace(string(kernel)), docker,
		strings.TrimPrefix(filepath.Base(b.bin), "buildkit-")+" of BuildKit", strings.Join(strings.Fields(string(load))[:1], ""), b.pairs, float64(binary.Size())/1e6)
	return nil
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	_, rest, found := strings.Cut(string(text), "model name")
	if !found {
		return runtime.GOARCH
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(strings.TrimLeft(line, "\t :"))
}

// ours are the builders that are held against BuildKit, which comes first if it is there.
func (b *bench) ours() (theirs string, ours []string) {
	for _, with := range b.builders {
		if _, ok := with.(*buildKit); ok {
			theirs = with.name()
		} else {
			ours = append(ours, with.name())
		}
	}
	return theirs, ours
}

// ratios is the table of the wall times in times of BuildKit's.
func (b *bench) ratios(w io.Writer) {
	theirs, ours := b.ours()
	if theirs == "" || len(ours) == 0 {
		return
	}
	fmt.Fprintf(w, "Wall time, Towline / BuildKit (in brackets: CPU time):\n\n| case |")
	for _, phase := range phases() {
		fmt.Fprintf(w, " %s: goal |", phase)
		for _, builder := range ours {
			fmt.Fprintf(w, " %s |", builder)
		}
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(phases())*(1+len(ours))))
	for _, c := range b.cases {
		fmt.Fprintf(w, "| %s |", c.title)
		for i, phase := range phases() {
			goal := []float64{c.group.cold, c.group.warm, c.group.incremental}[i]
			fmt.Fprintf(w, " %.1f |", goal)
			for _, builder := range ours {
				their, our := resultKey{c.name, phase, theirs}, resultKey{c.name, phase, builder}
				took := b.results.ratio(our, their, wall)
				mark := ""
				if took <= goal {
					mark = "**"
				}
				fmt.Fprintf(w, " %s%.2f%s (%.2f) |", mark, took, mark, b.results.ratio(our, their, cpu))
			}
		}
		fmt.Fprintf(w, "\n")
	}
	fmt.Fprintf(w, "\n")
}

// amounts is the table of what each build took.
func (b *bench) amounts(w io.Writer) {
	fmt.Fprintf(w, "| case | | builder | wall s | CPU s | memory MB | up MB | down MB |\n|---|---|---|---|---|---|---|---|\n")
	for _, c := range b.cases {
		for _, phase := range phases() {
			for _, with := range b.builders {
				u, ok := b.results.medians(resultKey{c.name, phase, with.name()})
				if !ok {
					continue
				}
				fmt.Fprintf(w, "| %s | %s | %s | %.2f | %.2f | %d | %.1f | %.1f |\n",
					c.name, phase, with.name(), u.wall.Seconds(), u.cpu.Seconds(), u.peak>>20, float64(u.in)/1e6, float64(u.out)/1e6)
			}
		}
	}
}

const (
	insertBegin = "<!-- Written by: go run ./internal/bench -into docs/performance.md -->\n"
	insertEnd   = "<!-- The end of what is written by it. -->\n"
)

// insert puts text between the two comments of a file.
func insert(file, text string) error {
	old, err := os.ReadFile(file) //nolint:gosec // named by who runs us
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), insertBegin)
	_, after, foundEnd := strings.Cut(rest, insertEnd)
	if !found || !foundEnd {
		return errors.New(file + " lacks the comments between which the result belongs")
	}
	return os.WriteFile(file, []byte(before+insertBegin+"\n"+text+"\n"+insertEnd+after), 0o600) //nolint:gosec // named by who runs us
}
