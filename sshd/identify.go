//go:build linux

package sshd

import (
	"errors"
	"io"
	"net"
	"strings"
)

const (
	// identification is how every client's first line begins, and maxFirstLine
	// how long it may be (RFC 4253 §4.2).
	identification = "SSH-"
	maxFirstLine   = 255
)

// errNotSSH ends a connection on which no SSH is spoken.
var errNotSSH = errors.New("the peer does not speak SSH")

// An identified connection is one of which the first lines have been
// exchanged, before x/crypto/ssh does it: who the client is decides what is
// offered to it, and one that does not speak SSH is told so at once, as OpenSSH
// does, instead of being waited for.
type identified struct {
	net.Conn
	client clientName
	unsent int    // bytes of our line that x/crypto/ssh has still to write
	unread []byte // of what has come, that x/crypto/ssh has still to read
}

// identify exchanges the first lines. Like x/crypto/ssh it reads byte by byte,
// which the wire below makes cheap.
func identify(conn net.Conn, banner string) (*identified, error) {
	own := banner + "\r\n"
	if _, err := io.WriteString(conn, own); err != nil {
		return nil, err
	}
	line := make([]byte, 0, maxFirstLine)
	for len(line) < maxFirstLine {
		b := line[len(line) : len(line)+1]
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, err
		}
		line = line[:len(line)+1]
		if n := len(line); n <= len(identification) && line[n-1] != identification[n-1] {
			break
		}
		if line[len(line)-1] == '\n' {
			client := clientName(strings.TrimRight(string(line), "\r\n"))
			return &identified{Conn: conn, client: client, unsent: len(own), unread: line}, nil
		}
	}
	_, _ = io.WriteString(conn, "Invalid SSH identification string.\r\n")
	return nil, errNotSSH
}

// Read gives the client's line first, and what has been peeked at.
func (c *identified) Read(b []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(b, c.unread)
		if c.unread = c.unread[n:]; len(c.unread) == 0 {
			c.unread = nil // whole pages, for as long as the connection lasts
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// Write drops what comes first: our line, which is sent. It is in one Write,
// and comes before any other goroutine writes.
func (c *identified) Write(b []byte) (int, error) {
	dropped := min(c.unsent, len(b))
	c.unsent -= dropped
	if dropped == len(b) {
		return len(b), nil
	}
	n, err := c.Conn.Write(b[dropped:])
	return dropped + n, err
}
