//go:build linux

package sshd

import (
	"errors"
	"io"
	"net"
)

// identification is how every client's first line begins (RFC 4253 §4.2).
const identification = "SSH-"

// errNotSSH ends a connection on which no SSH is spoken.
var errNotSSH = errors.New("the peer does not speak SSH")

// An identified connection ends at once if what comes first is not SSH's, and
// says so to whoever has come to the wrong door, as OpenSSH does. x/crypto/ssh
// would wait for the rest of a line that may never come.
type identified struct {
	net.Conn
	known int // bytes of identification that have come
}

// Read is for one goroutine.
func (c *identified) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for i := 0; i < n && c.known < len(identification); i++ {
		if b[i] != identification[c.known] {
			_, _ = io.WriteString(c.Conn, "Invalid SSH identification string.\r\n")
			return 0, errNotSSH
		}
		c.known++
	}
	return n, err
}
