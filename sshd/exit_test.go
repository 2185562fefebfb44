//go:build linux

package sshd

import (
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// A program that a signal killed is told by the signal's name, each of those in
// the RFC, and of the others by one that says that it has none.
func TestKilledBySignal(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	names := map[string]string{"BUS": "SIG@openssh.com", "XCPU": "SIG@openssh.com"}
	for _, s := range signalNames {
		names[s.name] = s.name
	}
	for name, wire := range names {
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		// Not the shell itself: bash ignores QUIT.
		err = session.Run("ulimit -c 0; while kill -s " + name + " $$; do sleep 0.05; done >/dev/null 2>&1 & exec sleep 1000")
		var exit *ssh.ExitError
		if !errors.As(err, &exit) || exit.Signal() != wire {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
}

// A client that takes an exit-signal for the end of its channel, which it then
// closes twice, is told a status instead, and keeps its connection.
func TestKilledBySignalForClientsThatCloseTwice(t *testing.T) {
	l := newLab(t)
	c, err := l.dialAs("SSH-2.0-Erlang/4.15.3", l.grantSecret(access.Grant{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"kill -KILL $$", "exit 137"} {
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var exit *ssh.ExitError
		if err := session.Run(command); !errors.As(err, &exit) || exit.Signal() != "" || exit.ExitStatus() != 128+9 {
			t.Errorf("%s: ended with %v", command, err)
		}
	}
}
