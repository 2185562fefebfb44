package sparse

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"math"
	"testing"
)

// standard is the CRC of the standard library.
func standard(pieces ...[]byte) []byte {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, p := range pieces {
		h.Write(p)
	}
	return h.Sum(nil)
}

func never() error { return nil }

func FuzzCRC32C(f *testing.F) {
	f.Add([]byte("before"), uint32(5), []byte("behind"))
	f.Add([]byte{}, uint32(64<<10), []byte{})
	f.Add([]byte{0}, uint32(64<<10+1), []byte{0})
	f.Add([]byte("\xff\xff\xff\xff"), uint32(1<<20), []byte("x"))
	f.Add([]byte("123456789"), uint32(3<<20-1), []byte("123456789"))
	f.Fuzz(func(t *testing.T, before []byte, n uint32, behind []byte) {
		n %= 4 << 20
		h := NewCRC32C()
		h.Write(before)
		if err := WriteZeros(h, int64(n), never); err != nil {
			t.Fatal(err)
		}
		h.Write(behind)
		if got, want := h.Sum(nil), standard(before, make([]byte, n), behind); !bytes.Equal(got, want) {
			t.Errorf("%x, %d zeros, %x: %x, want %x", before, n, behind, got, want)
		}
	})
}

// Runs that no test could write out are the sums of shorter ones.
func TestCRC32COfLongRuns(t *testing.T) {
	for _, n := range []int64{1 << 32, 100 << 30, math.MaxInt64} {
		whole, parts := NewCRC32C(), NewCRC32C()
		whole.Write([]byte("boot sector"))
		parts.Write([]byte("boot sector"))
		must(t, WriteZeros(whole, n, never))
		for _, part := range []int64{n / 2, 1, n - n/2 - 2, 1} {
			must(t, WriteZeros(parts, part, never))
		}
		if whole.Sum32() != parts.Sum32() {
			t.Errorf("%d zeros: %08x, in parts %08x", n, whole.Sum32(), parts.Sum32())
		}
	}
	// 4 GiB, written out.
	h, slow := NewCRC32C(), crc32.New(crc32.MakeTable(crc32.Castagnoli))
	must(t, WriteZeros(h, 4<<30, never))
	must(t, WriteZeros(slow, 4<<30, never))
	if h.Sum32() != slow.Sum32() {
		t.Errorf("%08x, want %08x", h.Sum32(), slow.Sum32())
	}
}

func TestCRC32CIsAHash(t *testing.T) {
	h := NewCRC32C()
	h.Write([]byte("123456789"))
	if got := h.Sum([]byte("x")); string(got) != "x\xe3\x06\x92\x83" || h.Size() != 4 || h.BlockSize() != 1 || h.Sum32() != 0xe3069283 {
		t.Errorf("%x, %d, %d", got, h.Size(), h.BlockSize())
	}
	h.Reset()
	if h.Sum32() != 0 {
		t.Error("it is not reset")
	}
}

func TestWriteZeros(t *testing.T) {
	for _, n := range []int{0, 1, len(zeros), 3*len(zeros) + 7} {
		h := sha256.New()
		must(t, WriteZeros(h, int64(n), never))
		if want := sha256.Sum256(make([]byte, n)); !bytes.Equal(h.Sum(nil), want[:]) {
			t.Errorf("%d zeros are others", n)
		}
	}
	gone, asked := errors.New("gone"), 0
	err := WriteZeros(sha256.New(), math.MaxInt64, func() error {
		if asked++; asked == 3 {
			return gone
		}
		return nil
	})
	if !errors.Is(err, gone) {
		t.Error(err)
	}
	broken := failing{errors.New("full")}
	if err := WriteZeros(broken, 1, never); !errors.Is(err, broken.err) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWorth(t *testing.T) {
	for _, test := range []struct {
		size, blocks int64
		want         bool
	}{
		{0, 0, false}, {1 << 10, 0, false}, {64 << 10, 0, true}, {64 << 10, 128, false},
		{64<<10 + 1, 128, false}, {1 << 20, 2047, true}, {math.MaxInt64, 0, true}, {-1, 0, false},
	} {
		if got := Worth(test.size, test.blocks); got != test.want {
			t.Errorf("%d bytes in %d blocks: %v", test.size, test.blocks, got)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func BenchmarkCRC32CZeros(b *testing.B) {
	h := NewCRC32C()
	for b.Loop() {
		_ = WriteZeros(h, 100<<30, never) // it has no errors
	}
}
