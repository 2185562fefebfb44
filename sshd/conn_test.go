//go:build linux

package sshd

import (
	"context"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/proc"
)

// An offered channel tells when it is refused.
type offered struct {
	ssh.NewChannel
	kind    string
	refused func(ssh.RejectionReason)
}

func (o offered) ChannelType() string { return o.kind }

func (o offered) Reject(reason ssh.RejectionReason, _ string) error {
	o.refused(reason)
	return nil
}

// What a client asked for before a channel is there when that is opened, and a
// session that it asked for before it said that there would be no more is none
// too many.
func TestGlobalRequestsComeInTurn(t *testing.T) {
	for range 100 { // which queue is looked at first is left to chance
		b := openBacklog(1 << 20)
		c := &conn{server: &Server{}, backlog: b} // which has room for no channel
		channels, requests := make(chan ssh.NewChannel, 2), make(chan *ssh.Request, 2)
		early := false
		var refused []ssh.RejectionReason
		refuse := func(reason ssh.RejectionReason) {
			early = early || b.consumed.Load() == 0 // no request has been answered
			refused = append(refused, reason)
		}
		requests <- &ssh.Request{Type: requestListenUnix}
		channels <- offered{kind: "nonsense", refused: refuse}
		channels <- offered{kind: kindSession, refused: refuse}
		requests <- &ssh.Request{Type: requestNoMoreSessions}
		close(channels)
		close(requests)
		c.dispatch(t.Context(), channels, requests)
		if want := []ssh.RejectionReason{ssh.UnknownChannelType, ssh.ResourceShortage}; !slices.Equal(refused, want) {
			t.Fatalf("refused for %v, want %v", refused, want)
		}
		if early {
			t.Fatal("a channel was opened first")
		}
	}
}

// A terminal has the size that was asked for before what is typed then.
func TestSessionRequestsComeInTurn(t *testing.T) {
	for range 100 { // who is looked at first is left to chance
		s := &session{
			conn: &conn{backlog: openBacklog(1 << 20)}, tty: new(proc.TTY),
			asks: make(chan struct{}), answers: make(chan struct{}),
		}
		requests := make(chan *ssh.Request, 1)
		requests <- &ssh.Request{Type: "window-change", Payload: ssh.Marshal(windowSize{Cols: 80, Rows: 24})}
		ctx, cancel := context.WithCancel(t.Context())
		var typing sync.WaitGroup
		typing.Go(func() {
			defer close(requests)
			s.inTurn(ctx)
			if s.currentSize().Cols != 80 {
				t.Error("what is typed came first")
			}
		})
		s.serve(ctx, requests)
		cancel()
		typing.Wait()
		s.inTurn(ctx) // nobody is there any more
	}
}
