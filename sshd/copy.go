//go:build linux

package sshd

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/guestd/guestd/proc"
)

// requestEndOfWrite tells the other side that nobody reads what it sends.
const requestEndOfWrite = "eow@openssh.com"

// copyOutput copies what the program writes until nobody can write any more,
// or the channel ends, and returns the exit, if it came to it. A background
// process that holds a pipe keeps the channel open, as with OpenSSH; one that
// holds a terminal loses it.
func (s *session) copyOutput(ctx context.Context, sub *proc.Subscription) *proc.Exit {
	buffer := elastic{pool: &s.conn.server.copies, memory: s.conn.memory}
	defer buffer.release()
	var exit *proc.Exit
	for n := 0; ; {
		event, err := sub.Next(ctx, buffer.next(n))
		if err != nil {
			return exit
		}
		n = len(event.Data)
		switch {
		case event.Exit != nil:
			if exit = event.Exit; s.tty != nil {
				return exit
			}
		case event.Stream == proc.Stderr:
			_, err = s.channel.Stderr().Write(event.Data)
		default:
			_, err = s.channel.Write(event.Data)
			s.recordOutput(event.Data)
		}
		if err != nil {
			return exit
		}
	}
}

// copyInput copies what the client sends to the program until the client says
// that nothing more comes, or the channel ends. What nobody reads is taken and
// dropped.
func (s *session) copyInput(ctx context.Context, p *proc.Process) {
	buffer := elastic{pool: &s.conn.server.copies, memory: s.conn.memory}
	defer buffer.release()
	unread := false
	for n := 0; ; {
		buf := buffer.next(n)
		var err error
		n, err = s.channel.Read(buf)
		if n > 0 && s.tty != nil {
			s.inTurn(ctx)
		}
		if n > 0 && !unread {
			_, werr := p.Write(ctx, buf[:n])
			unread = werr != nil
			if errors.Is(werr, syscall.EPIPE) {
				_, _ = s.channel.SendRequest(requestEndOfWrite, false, nil)
				_ = p.CloseStdin(ctx)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && s.tty == nil:
			_ = p.CloseStdin(ctx) // fails if it has ended
			return
		default:
			// A terminal has no end of input, but for the character that one
			// types. OpenSSH leaves it alone as well.
			return
		}
	}
}
