package sparse

import "io"

// zeros is what WriteZeros writes; nobody changes it.
var zeros [64 << 10]byte

// zeroWriter is a writer to which zeros need not be given one by one.
type zeroWriter interface{ writeZeros(n int64) }

// WriteZeros writes n zeros to w. That takes no time to speak of if w is of
// [NewCRC32C]. Anything else gets them in writes of at most 64 KiB, before each
// of which ended is asked whether the caller has given up; its error ends the
// writing.
func WriteZeros(w io.Writer, n int64, ended func() error) error {
	if z, ok := w.(zeroWriter); ok {
		z.writeZeros(n)
		return nil
	}
	for n > 0 {
		if err := ended(); err != nil {
			return err
		}
		written, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(written)
	}
	return nil
}
