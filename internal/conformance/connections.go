package conformance

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// connections are about peers that behave badly, which the agent must survive.
func (s *suite) connections(t *testing.T) {
	t.Run("says nothing", func(t *testing.T) {
		conns := s.dialMany(t, 20)
		s.alive(t)
		for _, conn := range conns {
			conn.Close()
		}
	})
	t.Run("says nonsense", func(t *testing.T) {
		// The agent waits a while for the rest of what may become a preface.
		texts := []string{"\x00", "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"}
		conns := s.dialMany(t, len(texts))
		for i, text := range texts {
			_ = conns[i].SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(conns[i], text) // it may be thrown out at the first byte
		}
		s.alive(t)
		for i, conn := range conns {
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the agent bears %q for ever", texts[i])
			}
			conn.Close()
		}
		s.alive(t)
	})
	t.Run("gone in the middle of an exec", func(t *testing.T) {
		for i := range 40 {
			own := &line{dial: s.target.Dial}
			c := s.connect(t, own.connect)
			ctx, cancel := context.WithTimeout(s.context(t), time.Duration(i)*time.Millisecond)
			cmd := c.Command("/bin/sh", "-c", "echo a; cat; echo b")
			cmd.Stdin = neverEnding{}
			cmd.OnDisconnect, cmd.NoReattach = client.KillTree, true
			cmd.Stdout = io.Discard
			stop := context.AfterFunc(ctx, own.cut)
			if err := cmd.Run(ctx); err == nil {
				t.Error("an endless command ended well")
			}
			stop()
			cancel()
			c.Close()
		}
		eventually(t, "all processes of gone clients have ended", func() bool { return s.metrics(t).GetProcessesRunning() == 0 })
		s.alive(t)
	})
}

// neverEnding is input without an end.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func (s *suite) dialMany(t *testing.T, n int) []net.Conn {
	t.Helper()
	var conns []net.Conn
	for range n {
		conn, err := s.target.Dial(s.context(t))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	return conns
}

// alive: the agent answers others.
func (s *suite) alive(t *testing.T) {
	t.Helper()
	if out := s.sh(t, "echo alive"); out != "alive" {
		t.Errorf("the agent says %q", out)
	}
}
