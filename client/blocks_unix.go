//go:build linux || darwin

package client

import (
	"io/fs"
	"syscall"
)

// blocksOf is how many blocks of 512 bytes a local file takes, where that is
// known.
func blocksOf(info fs.FileInfo) (blocks int64, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Blocks, true
}
