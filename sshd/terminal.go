//go:build linux

package sshd

import (
	"encoding/binary"
	"math"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/proc"
)

// maxTermBytes bounds the name of a terminal's type.
const maxTermBytes = 256

// A windowSize is the size in pty-req and window-change (RFC 4254 §6.2, §6.7).
type windowSize struct {
	Cols, Rows, Width, Height uint32 // characters, pixels
}

// size clips what a terminal cannot have.
func (w windowSize) size() proc.Size {
	clip := func(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }
	return proc.Size{Rows: clip(w.Rows), Cols: clip(w.Cols), XPixel: clip(w.Width), YPixel: clip(w.Height)}
}

// handlePTY keeps the terminal that the session's program will have.
func (s *session) handlePTY(payload []byte) bool {
	tty, ok := parsePTY(payload)
	if !ok || s.started || s.tty != nil || !s.conn.permits.PTY {
		return false
	}
	tty.NameEnv = "SSH_TTY"
	s.tty = tty
	return true
}

// handleWindowChange resizes it.
func (s *session) handleWindowChange(payload []byte) bool {
	var w windowSize
	return ssh.Unmarshal(payload, &w) == nil && s.resize(w.size())
}

// parsePTY reads the payload of a pty-req.
func parsePTY(payload []byte) (*proc.TTY, bool) {
	var wanted struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     []byte
	}
	if ssh.Unmarshal(payload, &wanted) != nil || len(wanted.Term) > maxTermBytes {
		return nil, false
	}
	for _, c := range []byte(wanted.Term) {
		if c < ' ' || c > '~' {
			return nil, false
		}
	}
	w := windowSize{wanted.Cols, wanted.Rows, wanted.Width, wanted.Height}
	return &proc.TTY{Size: w.size(), Term: wanted.Term, Modes: parseModes(wanted.Modes)}, true
}

// parseModes reads the encoded terminal modes of RFC 4254 §8: opcodes with an
// argument each, up to TTY_OP_END or an opcode that may have another form.
func parseModes(encoded []byte) map[uint8]uint32 {
	const (
		opEnd       = 0
		opUndefined = 160
	)
	modes := make(map[uint8]uint32)
	for len(encoded) >= 5 && encoded[0] != opEnd && encoded[0] < opUndefined {
		modes[encoded[0]] = binary.BigEndian.Uint32(encoded[1:])
		encoded = encoded[5:]
	}
	return modes
}
