//go:build linux

package main

import (
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/proc"
)

const (
	// outputShare: unless told otherwise, the output of all processes takes at
	// most this part of the machine's memory.
	outputShare = 8
	// memoryBeside is what the agent may need beside the output until the
	// garbage collector works harder, in bytes.
	memoryBeside = 64 << 20
)

// outputTotal is the cap on the output of all processes together, in bytes.
func (c config) outputTotal() int64 {
	if c.OutputTotalBytes > 0 {
		return c.OutputTotalBytes
	}
	total := int64(proc.DefaultRingTotal)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = min(total, int64(info.Totalram*uint64(info.Unit)/outputShare))
	}
	return total
}

// limitMemory keeps the collector from doubling the memory of full rings: it
// would otherwise let garbage grow as large as what is alive.
func limitMemory(output int64) {
	debug.SetMemoryLimit(output + memoryBeside)
}
