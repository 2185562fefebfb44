//go:build linux

package sshd

import (
	"slices"
	"strings"
)

// A clientName is what a client calls itself in its first line (RFC 4253 §4.2).
// What is known of the behavior of some is decided by it, and nothing else is:
// anybody may use any name.
type clientName string

func (n clientName) isOneOf(products ...string) bool {
	product, ok := strings.CutPrefix(string(n), "SSH-2.0-")
	return ok && slices.ContainsFunc(products, func(p string) bool { return strings.HasPrefix(product, p) })
}

// client is what the connection's client calls itself.
func (c *conn) client() clientName { return clientName(c.transport.ClientVersion()) }

// lacksEncryptThenMAC reports whether a client is known to have only the older
// MACs, in all its releases or in some: what it says itself may come too late.
func (n clientName) lacksEncryptThenMAC() bool {
	return n.isOneOf("dropbear", "libssh2_1.9", "libssh2_1.10", "Twisted_", "Renci.SshNet.SshClient", "DartSSH_", "SwiftNIOSSH_")
}

// prefersCTR reports whether a client is known to prefer aes-ctr to aes-gcm for
// no reason of its own.
func (n clientName) prefersCTR() bool { return n.isOneOf("OpenSSH_") }

// beginsWithNone reports whether a client is known to try the method "none"
// before it asks its user anything. It is offered nothing else that a name alone
// passes: its user would be asked for a password that does not exist.
func (n clientName) beginsWithNone() bool { return n.isOneOf("OpenSSH", "PuTTY", "dropbear") }

// adjustsLate reports whether a client is known to send now and then, from
// another thread, a WINDOW_ADJUST after its CLOSE. OpenSSH overlooks that;
// x/crypto/ssh ends the connection, with everything else on it. The client
// begins no adjustment once it has seen the end of the data, and closes when we
// do: that is put off until those which it had begun have been sent.
func (n clientName) adjustsLate() bool { return n.isOneOf("paramiko_") }

// closesTwice reports whether a client is known to close a channel when it is
// told of an exit-signal, and once more when we close it. OpenSSH overlooks
// that; x/crypto/ssh ends the connection. Such a client is told a status.
func (n clientName) closesTwice() bool { return n.isOneOf("Erlang/") }
