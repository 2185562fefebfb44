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
	// kexInitPatience bounds the wait for a client's KEXINIT before ours is
	// sent. Some clients could not be served without it. Hardly any waits for
	// ours first, but some are slow, or far away.
	kexInitPatience = 250 * time.Millisecond
	// cipherPatience bounds it for clients whose KEXINIT decides nothing but the
	// cipher: it has come by then from any peer that is near enough for the
	// cipher to be what limits the speed.
	cipherPatience = 20 * time.Millisecond
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
	MACsIn, MACsOut        []string
	Rest                   []byte `ssh:"rest"`
}

// An offer is what a client takes in both directions.
type offer struct {
	ciphers, macs []string
}

// takesAny reports whether one of the names is offered.
func takesAny(offered, names []string) bool {
	return slices.ContainsFunc(offered, func(name string) bool { return slices.Contains(names, name) })
}

// peekOffer returns what the client offers, or nil if its KEXINIT does not come in
// time or something else comes. What was read for that stays to be read. An error
// ends the connection.
func (c *identified) peekOffer() (*offer, error) {
	patience := kexInitPatience
	if c.client.prefersCTR() {
		patience = cipherPatience
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	begin := len(c.unread)
	buf := make([]byte, smallBuffer)
	for {
		packet, whole := firstPacket(c.unread[begin:])
		if whole {
			return offerIn(packet), c.SetReadDeadline(time.Time{})
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

// offerIn returns what a KEXINIT offers; nil if the message is something else.
func offerIn(message []byte) *offer {
	var m kexInit
	if ssh.Unmarshal(message, &m) != nil {
		return nil
	}
	return &offer{ciphers: bothWays(m.CiphersIn, m.CiphersOut), macs: bothWays(m.MACsIn, m.MACsOut)}
}

// bothWays returns the names of in that are in out as well, in their order.
func bothWays(in, out []string) []string {
	return slices.DeleteFunc(in, func(name string) bool { return !slices.Contains(out, name) })
}
