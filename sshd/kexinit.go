//go:build linux

package sshd

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// kexInitPatience bounds the wait for a client's KEXINIT. It has come by
	// then where the peer is near enough for the choice of a cipher to matter.
	kexInitPatience = 20 * time.Millisecond
	// maxKexInit is the length of the largest packet that is looked into. That
	// of OpenSSH's is about 1,500 bytes.
	maxKexInit = 8 << 10
	// packetLength is the length of a packet's first field, and paddingLength
	// of its second (RFC 4253 §6).
	packetLength  = 4
	paddingLength = 1
)

// kexInit is the first message of a key exchange (RFC 4253 §7.1), as far as it
// is of interest.
type kexInit struct {
	Cookie                 [16]byte `sshtype:"20"`
	KeyExchanges, HostKeys []string
	CiphersIn, CiphersOut  []string // as seen by the server
	Rest                   []byte   `ssh:"rest"`
}

// peekCiphers returns the ciphers that the client takes in both directions: nil
// where it does not say so soon, or something else. What has been read is read
// again. An error ends the connection.
func (c *identified) peekCiphers() ([]string, error) {
	if err := c.SetReadDeadline(time.Now().Add(kexInitPatience)); err != nil {
		return nil, err
	}
	begin := len(c.unread)
	buf := make([]byte, smallBuffer)
	for {
		packet, whole := firstPacket(c.unread[begin:])
		if whole {
			return bothWays(packet), c.SetReadDeadline(time.Time{})
		}
		n, err := c.Conn.Read(buf)
		c.unread = append(c.unread, buf[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, c.SetReadDeadline(time.Time{})
		case err != nil:
			return nil, err
		}
	}
}

// firstPacket returns the payload of the packet that b begins with, once all of
// it is there. One that no KEXINIT has the form of is empty.
func firstPacket(b []byte) (payload []byte, whole bool) {
	if len(b) < packetLength+paddingLength {
		return nil, false
	}
	length := binary.BigEndian.Uint32(b)
	padding := uint32(b[packetLength])
	if length > maxKexInit || length < paddingLength+padding {
		return nil, true
	}
	if b = b[packetLength:]; uint32(len(b)) < length {
		return nil, false
	}
	return b[paddingLength : length-padding], true
}

// bothWays returns the ciphers in a KEXINIT that hold for both directions; nil
// if it is something else.
func bothWays(message []byte) []string {
	var m kexInit
	if ssh.Unmarshal(message, &m) != nil {
		return nil
	}
	return slices.DeleteFunc(m.CiphersIn, func(cipher string) bool { return !slices.Contains(m.CiphersOut, cipher) })
}
