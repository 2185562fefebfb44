//go:build linux

package fsops

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"

	"github.com/guestd/guestd/internal/sparse"
)

// Algorithm is a checksum over the bytes of a file.
type Algorithm int

// Algorithms. The sum of CRC32C (Castagnoli) is 4 bytes, big endian.
const (
	NoChecksum Algorithm = iota
	SHA256
	CRC32C
)

func (a Algorithm) String() string {
	switch a {
	case NoChecksum:
		return "none"
	case SHA256:
		return "sha256"
	case CRC32C:
		return "crc32c"
	}
	return fmt.Sprintf("checksum algorithm %d", int(a))
}

// New returns a hash for a, or nil for NoChecksum and unknown ones.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case CRC32C:
		return sparse.NewCRC32C()
	}
	return nil
}

// parallelSum is how many bytes it takes for a sum to be worth another CPU: the
// other thread must wake up first. A CRC costs less than that at any size.
const parallelSum = 64 << 10

// besideSum calls write while bufs are added to sum, which may be nil, and
// returns when both are done.
func besideSum(sum hash.Hash, algorithm Algorithm, bufs [][]byte, total int, write func() (int64, error)) (int64, error) {
	add := func() {
		for _, b := range bufs {
			sum.Write(b)
		}
	}
	switch {
	case sum == nil:
		return write()
	case algorithm != SHA256 || total < parallelSum:
		add()
		return write()
	}
	var summed sync.WaitGroup
	summed.Go(add)
	defer summed.Wait()
	return write()
}
