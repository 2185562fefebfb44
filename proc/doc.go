//go:build linux

// Package proc runs processes for somebody who may go away and come back.
//
// A [Table] holds the processes of one agent. [Table.Start] turns a [Spec]
// into a [Process], which is a record rather than a child to be waited for: it
// outlives whoever started it, keeps its newest output in bounded rings, and
// stays in the table for a while after its end. [Process.Subscribe] attaches
// to the output at any offset, as often as wanted: a lossless subscriber slows
// the process down as a pipe would and misses nothing, an observer never slows
// anybody and is told exactly what it missed.
//
// The package knows nothing of protobuf, gRPC or SSH: the agent and the SSH
// server both translate onto it, so that there is one way to start a process.
//
// How a process is held:
//
//   - Its exit is awaited on a pidfd through the runtime's poller, so that a
//     thousand living processes cost no thread. Signals go through the pidfd
//     as well and cannot hit a reused pid.
//   - It is cloned into a cgroup of its own where a writable cgroup2 hierarchy
//     exists, with or without controllers. That cgroup is the process's tree:
//     neither setsid nor a double fork leaves it, and cgroup.kill ends it.
//     Without cgroup2 the tree is the session; [Capabilities] says which.
//   - It begins in a session of its own, with descriptors 0, 1 and 2 and no
//     other, and with none of the agent's environment.
//
// There is no ticker: a table whose processes are idle causes no wake-ups.
package proc
