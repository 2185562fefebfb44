//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"
)

// A ratio is the outcome of comparing two things over several rounds.
type ratio struct {
	median, low, high float64
	ours, theirs      time.Duration // medians of the absolute times
}

func (r ratio) String() string {
	return fmt.Sprintf("%.2f× [%.2f–%.2f]", r.median, r.low, r.high)
}

// A timed does something once and says how long that took.
type timed func() (time.Duration, error)

// pairs measures both in turn, rounds times, after one round that does not
// count, and returns ours/theirs. Who goes first alternates.
func pairs(rounds int, ours, theirs timed) (ratio, error) {
	return batches(rounds, 1, ours, theirs)
}

// batches is pairs for things that are too short for one to say anything: a
// round's ratio is that of the medians of n interleaved measurements.
func batches(rounds, n int, ours, theirs timed) (ratio, error) {
	var quotients []float64
	var allOurs, allTheirs []time.Duration
	for round := -1; round < rounds; round++ {
		var a, b []time.Duration
		for i := range n {
			first, second := ours, theirs
			swapped := (round+i)%2 != 0
			if swapped {
				first, second = theirs, ours
			}
			x, err := first()
			if err != nil {
				return ratio{}, err
			}
			y, err := second()
			if err != nil {
				return ratio{}, err
			}
			if swapped {
				x, y = y, x
			}
			a, b = append(a, x), append(b, y)
		}
		if round >= 0 {
			quotients = append(quotients, float64(median(a))/float64(median(b)))
			allOurs, allTheirs = append(allOurs, a...), append(allTheirs, b...)
		}
	}
	return ratio{
		median: median(quotients), low: slices.Min(quotients), high: slices.Max(quotients),
		ours: median(allOurs), theirs: median(allTheirs),
	}, nil
}

// inverse turns a ratio of times into one of speeds.
func (r ratio) inverse() ratio {
	return ratio{median: 1 / r.median, low: 1 / r.high, high: 1 / r.low, ours: r.ours, theirs: r.theirs}
}

func median[T float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// clock runs f and says how long it took.
func clock(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

func speed(bytes int64, d time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/d.Seconds())
}
