package archive

import (
	"math/rand/v2"
	"testing"
)

func TestChecksums(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	blocks := map[string][]byte{"zero": make([]byte, blockSize), "full": make([]byte, blockSize), "random": make([]byte, blockSize)}
	for i := range blockSize {
		blocks["full"][i] = 0xff
		blocks["random"][i] = byte(random.Uint32())
	}
	for name, block := range blocks {
		var wantUnsigned, wantSigned int64
		for i, c := range block {
			if i >= offChecksum && i < offType {
				c = ' '
			}
			wantUnsigned += int64(c)
			wantSigned += int64(int8(c))
		}
		if unsigned, signed := checksums(block); unsigned != wantUnsigned || signed != wantSigned {
			t.Errorf("%s: %d and %d instead of %d and %d", name, unsigned, signed, wantUnsigned, wantSigned)
		}
	}
}
