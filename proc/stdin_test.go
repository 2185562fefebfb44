//go:build linux

package proc

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pipeCapacity is how much a process's standard input holds at most.
func pipeCapacity(t *testing.T, p *Process) (size int) {
	t.Helper()
	err := control(p.io.stdin, func(fd int) (err error) {
		size, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return size
}

// pipeHolds is how much of that has not been read yet.
func pipeHolds(t *testing.T, p *Process) (n int) {
	t.Helper()
	err := control(p.io.stdin, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

// A pipe that little is written to stays as it is; bulk makes it wide, and what
// fits is written though nobody reads.
func TestWideStdin(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, Stdin: StdinPipe})
	before := pipeCapacity(t, p)
	if _, err := p.Write(testContext(t), []byte("little\n")); err != nil || pipeCapacity(t, p) != before {
		t.Errorf("capacity %d after little, %d before, %v", pipeCapacity(t, p), before, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("without privileges the kernel may refuse wide pipes")
	}
	const much = widePipe - 2*bulkWrite
	if n, err := p.Write(testContext(t), make([]byte, much)); n != much || err != nil || pipeCapacity(t, p) != widePipe {
		t.Errorf("%d of %d bytes written, capacity %d, %v", n, much, pipeCapacity(t, p), err)
	}
}
