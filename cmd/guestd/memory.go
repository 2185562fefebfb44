//go:build linux

package main

import (
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/sshd"
)

const (
	// outputShare: unless told otherwise, the output of all processes takes at
	// most this part of the machine's memory.
	outputShare = 8
	// unreadShare: what SSH clients have sent and nobody has read takes at most
	// this part, but never less than leastUnread in bytes: a few channels that
	// nobody reads must not end a connection.
	unreadShare = 8
	leastUnread = 32 << 20
	// bufferShare: the large buffers of SSH connections take at most this part,
	// but never less than leastBuffers in bytes.
	bufferShare  = 16
	leastBuffers = 16 << 20
	// memoryBeside is what the agent may need besides the output until the
	// garbage collector works harder, in bytes.
	memoryBeside = 64 << 20
)

// outputTotal is the cap on the output of all processes together, in bytes.
func (c config) outputTotal() int64 {
	if c.OutputTotalBytes > 0 {
		return c.OutputTotalBytes
	}
	return memoryPart(outputShare, proc.DefaultRingTotal)
}

// unreadTotal is the cap on what SSH clients have sent and nobody has read.
func unreadTotal() int64 {
	return max(leastUnread, memoryPart(unreadShare, sshd.DefaultMaxUnread))
}

// bufferTotal is the cap on the large buffers of SSH connections.
func bufferTotal() int {
	return int(max(leastBuffers, memoryPart(bufferShare, sshd.DefaultMaxBuffers)))
}

// memoryPart is a share of the machine's memory in bytes, but not more than
// most.
func memoryPart(share uint64, most int64) int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return most
	}
	return min(most, int64(info.Totalram*uint64(info.Unit)/share))
}

// limitMemory keeps the collector from doubling the memory of full rings: it
// would otherwise let garbage grow as large as what is alive.
func limitMemory(output int64) {
	debug.SetMemoryLimit(output + memoryBeside)
}
