//go:build linux

package microvm

import "time"

// readTSC returns this processor's time-stamp counter.
func readTSC() uint64

// tscKHz measures the rate of the time-stamp counter, which QEMU's emulation
// hands through to the guest as it is.
//
// The guest cannot find it out by itself: microvm has neither HPET nor PM
// timer, and counting PIT reads fails when each of them takes 10 µs, as they do
// on a busy machine. A guest without it has no clock at all and hangs.
func tscKHz() uint64 {
	var best uint64
	var spread time.Duration
	// The interval whose ends were read in the least time is the most precise.
	for range 5 {
		first, start, edge1 := readBoth()
		time.Sleep(10 * time.Millisecond)
		second, end, edge2 := readBoth()
		if edge := edge1 + edge2; best == 0 || edge < spread {
			spread = edge
			best = (second - first) * uint64(time.Millisecond) / uint64(end.Sub(start))
		}
	}
	return best
}

// readBoth reads counter and clock, and says how long that took.
func readBoth() (tsc uint64, now time.Time, edge time.Duration) {
	before := time.Now()
	tsc = readTSC()
	after := time.Now()
	edge = after.Sub(before)
	return tsc, before.Add(edge / 2), edge
}
