package client

import (
	"io"
	"testing"
	"time"
)

// Who has read that a connection is broken does not write into it with success
// then: writes fail before reads do.
func TestNetConnEndsWritesFirst(t *testing.T) {
	var n netConn
	n.in.init()
	n.out.init()
	n.in.mu.Lock() // so that the end of the reads waits
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.end(io.ErrUnexpectedEOF)
	}()
	writesEnded := func() bool {
		n.out.mu.Lock()
		defer n.out.mu.Unlock()
		return n.out.ended
	}
	for start := time.Now(); !writesEnded(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Error("writes wait for the end of the reads")
			break
		}
	}
	n.in.mu.Unlock()
	<-ended
}
