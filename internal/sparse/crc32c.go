package sparse

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"sync"
)

// NewCRC32C returns a hash of CRC-32C (Castagnoli) as that of hash/crc32, big
// endian, to which [WriteZeros] adds zeros without computing over each.
func NewCRC32C() hash.Hash32 { return &crc32c{table: crc32.MakeTable(crc32.Castagnoli)} }

type crc32c struct {
	table *crc32.Table
	sum   uint32
}

func (c *crc32c) Size() int      { return crc32.Size }
func (c *crc32c) BlockSize() int { return 1 }
func (c *crc32c) Reset()         { c.sum = 0 }
func (c *crc32c) Sum32() uint32  { return c.sum }

func (c *crc32c) Write(p []byte) (int, error) {
	c.sum = crc32.Update(c.sum, c.table, p)
	return len(p), nil
}

func (c *crc32c) Sum(in []byte) []byte { return binary.BigEndian.AppendUint32(in, c.sum) }

// writeZeros adds n zeros. A CRC is the remainder of a polynomial over GF(2), and
// a zero byte more multiplies that by x⁸: so n of them multiply it by x⁸ⁿ, which
// is a product of powers x^(8·2^k), one for each bit of n that is set. The CRC's
// register is kept inverted in its value.
func (c *crc32c) writeZeros(n int64) {
	if n <= int64(len(zeros)) { // quicker in hardware
		c.sum = crc32.Update(c.sum, c.table, zeros[:max(n, 0)])
		return
	}
	register := ^c.sum
	powers := zeroPowers()
	for k := 0; n > 0; k++ {
		if n&1 != 0 {
			register = multiply(register, powers[k])
		}
		n >>= 1
	}
	c.sum = ^register
}

// zeroPowers holds x^(8·2^k), reduced, at index k.
var zeroPowers = sync.OnceValue(func() *[63]uint32 {
	powers := &[63]uint32{1 << (31 - 8)}
	for k := 1; k < len(powers); k++ {
		powers[k] = multiply(powers[k-1], powers[k-1])
	}
	return powers
})

// multiply returns a·b modulo the polynomial of CRC-32C. As in the CRC, the
// highest bit is the coefficient of x⁰.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1 // times x
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}
