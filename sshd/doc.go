//go:build linux

// Package sshd is the agent's SSH server. It behaves towards clients as OpenSSH's
// does, and lets in only the holders of credentials that the host has granted.
//
// It translates between the protocol (RFC 4251 to 4254, 8308, and OpenSSH's
// PROTOCOL files) and the packages that do the work: who may come in is
// package access, whatever runs is a [proc.Spec], and files and sockets are
// touched with the session's user's rights through [fsops.FS]. It has no
// password file, no authorized_keys and no configuration in the guest.
//
// # The parts of a connection
//
//	wire      a net.Conn that gathers what x/crypto/ssh writes and reads in bulk
//	backlog   bounds what the peer can make the connection hold
//	conn      authentication, global requests, the table of channels
//	session   one "session" channel: a process, or the sftp subsystem
//	forward   one connection that is carried, in either direction
//
// The queues of x/crypto/ssh are read by goroutines that never wait for
// anything but the peer: one that is slow, or a program that does not read its
// input, holds up nobody else on the connection. What waits for the peer has a
// deadline. An open, idle connection wakes the machine up once in five minutes.
package sshd
