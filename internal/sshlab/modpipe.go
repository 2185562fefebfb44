//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
)

// modpipe is the helper of OpenSSH's integrity test: it copies src to dst and
// changes one byte on the way. The arguments are those that the test gives,
// -wm xor:OFFSET:MASK, and no others.
func modpipe(dst io.Writer, src io.Reader, args []string) error {
	if len(args) != 2 || args[0] != "-wm" {
		return fmt.Errorf("modpipe: %q: not -wm xor:OFFSET:MASK", args)
	}
	var offset int64
	var mask byte
	if _, err := fmt.Sscanf(args[1], "xor:%d:%d", &offset, &mask); err != nil {
		return fmt.Errorf("modpipe: modification %q: %w", args[1], err)
	}
	if _, err := io.CopyN(dst, src, offset); err != nil {
		return ignoreEOF(err)
	}
	var one [1]byte
	if _, err := io.ReadFull(src, one[:]); err != nil {
		return ignoreEOF(err)
	}
	one[0] ^= mask
	if _, err := dst.Write(one[:]); err != nil {
		return err
	}
	_, err := io.Copy(dst, src)
	return err
}

// ignoreEOF makes an input that ends early no error: there is just nothing to
// change.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
