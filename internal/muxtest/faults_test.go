//go:build linux

package muxtest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/muxtest"
	"github.com/guestd/guestd/vsock"
)

func TestHostsEndEndsBoth(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	host, guest := connect(t, m, m.Listen(7))
	mustWrite(t, host, "question")
	if err := host.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, host) // the answer has no way any more
	mustRead(t, guest, "question")
	mustEnd(t, guest)
	if _, err := io.WriteString(guest, "answer"); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("guest's write: %v, want a broken pipe", err)
	}
	waitConns(t, m, 0)
}

func TestGuestsEndDoesNotArrive(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	host, guest := connect(t, m, m.Listen(7))
	mustWrite(t, guest, "last words")
	if err := vsock.CloseWrite(guest); err != nil {
		t.Fatal(err)
	}
	mustRead(t, host, "last words")
	mustTimeOut(t, host)
	mustWrite(t, host, "still there?") // the other direction lives
	mustRead(t, guest, "still there?")
	_ = guest.Close()
	mustEnd(t, host)
	waitConns(t, m, 0)
}

// A guest that ended its direction and a host that then goes away leave no link.
func TestHostGoesAfterGuestsEnd(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{CloseCut: -1})
	host, guest := connect(t, m, m.Listen(7))
	_ = vsock.CloseWrite(guest)
	mustTimeOut(t, host)
	_ = host.Close()
	mustEnd(t, guest)
	waitConns(t, m, 0)
}

func TestHalfClose(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{HalfClose: true})
	l := m.Listen(7)
	for _, hostFirst := range []bool{true, false} {
		host, guest := connect(t, m, l)
		first, second := net.Conn(host), guest
		if !hostFirst {
			first, second = guest, host
		}
		mustWrite(t, first, "question")
		if err := vsock.CloseWrite(first); err != nil {
			t.Fatal(err)
		}
		mustRead(t, second, "question")
		mustEnd(t, second)
		mustWrite(t, second, "answer")
		_ = second.Close()
		mustRead(t, first, "answer")
		mustEnd(t, first)
		_ = first.Close()
		waitConns(t, m, 0)
	}
}

// fill writes to c until nothing moves any more and returns how much it took.
func fill(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	buf := make([]byte, 4096)
	for stuck := 0; stuck < 10; { // a busy machine moves slowly
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		k, err := c.Write(buf)
		n += k
		switch {
		case k > 0:
			stuck = 0
		case errors.Is(err, os.ErrDeadlineExceeded):
			stuck++
		case err != nil:
			t.Fatal(err)
		}
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	return n
}

func TestBufferIsBounded(t *testing.T) {
	took := func(cfg muxtest.Config) int {
		m := muxtest.Start(t, cfg)
		_, guest := connect(t, m, m.Listen(7))
		return fill(t, guest)
	}
	// The sockets' buffers are in both figures and cancel out.
	const more = 1 << 20
	zero, large := took(muxtest.Config{}), took(muxtest.Config{Buffer: 64<<10 + more})
	if d := large - zero; d < more*9/10 || d > more*11/10 {
		t.Errorf("the guest got rid of %d bytes with 64 KiB and of %d with %d more: %d", zero, large, more, d)
	}
}

func TestGuestCloseIsCut(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  muxtest.Config
		lost bool
	}{
		{"firecracker", muxtest.Config{}, true},
		{"at once", muxtest.Config{CloseCut: time.Nanosecond}, true},
		{"never", muxtest.Config{CloseCut: -1}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := muxtest.Start(t, test.cfg)
			host, guest := connect(t, m, m.Listen(7))
			sent := fill(t, guest)
			closed := time.Now()
			_ = guest.Close()
			if test.lost {
				waitConns(t, m, 0)
				if took := time.Since(closed); test.cfg.CloseCut == 0 && took < 2*time.Second {
					t.Errorf("cut after %v, want 2 s", took)
				}
			}
			got, err := io.ReadAll(host)
			if err != nil {
				t.Fatal(err)
			}
			if lost := sent - len(got); (lost > 0) != test.lost {
				t.Errorf("%d of %d bytes lost", lost, sent)
			}
		})
	}
}

// A close with nothing on the way is no case for the cut.
func TestGuestCloseAfterFlush(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{CloseCut: time.Hour})
	host, guest := connect(t, m, m.Listen(7))
	mustWrite(t, host, "mostly unread by the guest")
	mustRead(t, guest, "mostly") // the rest is not the multiplexer's any more
	mustWrite(t, guest, "bye")
	_ = guest.Close()
	mustRead(t, host, "bye")
	mustEnd(t, host)
	waitConns(t, m, 0)
}

func TestResetAll(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	l := m.Listen(7)
	host, guest := connect(t, m, l)
	half := dialPath(t, m.Path()) // has not asked for a port yet
	waitConns(t, m, 2)
	m.ResetAll()
	if n := m.Conns(); n != 0 {
		t.Errorf("%d connections left", n)
	}
	mustEnd(t, host)
	mustEnd(t, half)
	if _, err := guest.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("guest's read: %v, want a reset", err)
	}
	if _, err := guest.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("guest's write: %v, want a reset", err)
	}
	host, guest = connect(t, m, l) // the listeners live
	mustWrite(t, host, "hello")
	mustRead(t, guest, "hello")
}

func TestConnectionLimit(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{MaxConns: 2})
	l := m.Listen(7)
	first, _ := connect(t, m, l)
	dialPath(t, m.Path()) // counts, though it says nothing
	waitConns(t, m, 2)
	c := dialPath(t, m.Path())
	mustEnd(t, c)
	_ = first.Close()
	waitConns(t, m, 1)
	connect(t, m, l)
}

func TestFirecrackersConnectionLimit(t *testing.T) {
	var rl syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rl); err != nil || rl.Cur < 3000 {
		t.Skipf("needs 3000 file descriptors, may have %d", rl.Cur)
	}
	m := muxtest.Start(t, muxtest.Config{})
	for n := range 1023 {
		dialPath(t, m.Path())
		waitConns(t, m, n+1)
	}
	mustEnd(t, dialPath(t, m.Path()))
	if n := m.Conns(); n != 1023 {
		t.Errorf("%d connections", n)
	}
}

// The throttle holds back the stream: a fast one delivers in no time what a
// slow one takes half a second for, unless the machine has other things to do.
func TestSlowReader(t *testing.T) {
	measure := func(rate int, toHost bool) time.Duration {
		cfg := muxtest.Config{ToGuestRate: rate}
		if toHost {
			cfg = muxtest.Config{ToHostRate: rate}
		}
		m := muxtest.Start(t, cfg)
		host, guest := connect(t, m, m.Listen(7))
		from, to := net.Conn(host), guest
		if toHost {
			from, to = guest, host
		}
		data := strings.Repeat("x", 8000)
		start := time.Now()
		mustWrite(t, from, data)
		mustRead(t, to, data)
		return time.Since(start)
	}
	for _, toHost := range []bool{true, false} {
		slow := measure(16_000, toHost)
		if slow < 400*time.Millisecond {
			t.Errorf("to host %v: slow took %v", toHost, slow)
		}
		for ctx := testContext(t); measure(16_000_000, toHost) > slow; {
			if ctx.Err() != nil {
				t.Errorf("to host %v: fast never took less than %v", toHost, slow)
				break
			}
		}
	}
}
