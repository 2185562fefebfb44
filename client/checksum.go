package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"github.com/guestd/guestd/internal/sparse"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Checksum is how a transfer is checked from end to end.
type Checksum int

const (
	// CRC32C finds what goes wrong by accident, at hardly any cost.
	CRC32C Checksum = iota
	// SHA256 is for comparing with a published checksum.
	SHA256
	// NoChecksum trusts the transport.
	NoChecksum
)

func (c Checksum) toWire() guestdv1.ChecksumType {
	switch c {
	case CRC32C:
		return guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C
	case SHA256:
		return guestdv1.ChecksumType_CHECKSUM_TYPE_SHA256
	default:
		return guestdv1.ChecksumType_CHECKSUM_TYPE_UNSPECIFIED
	}
}

// new returns a hash, or nil for NoChecksum.
func (c Checksum) new() hash.Hash {
	switch c {
	case CRC32C:
		return sparse.NewCRC32C()
	case SHA256:
		return sha256.New()
	default:
		return nil
	}
}

// verify compares what was hashed here with what the agent says.
func (c Checksum) verify(path string, h hash.Hash, theirs *guestdv1.Checksum) error {
	if h == nil {
		return nil
	}
	want, got := theirs.GetValue(), h.Sum(nil)
	if theirs.GetType() != c.toWire() || !bytes.Equal(want, got) {
		return checksumError("read", path, want, got)
	}
	return nil
}

func checksumError(op, path string, want, got []byte) error {
	return &Error{
		Op:      op,
		Path:    path,
		Reason:  guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH,
		Want:    hex.EncodeToString(want),
		Got:     hex.EncodeToString(got),
		Message: joinError(op, path, "checksum mismatch"),
	}
}
