//go:build linux

package sshd

import (
	"io"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// A revoked grant ends its connections within a tenth of a second, whatever
// they do. A machine that is busy with something else has several chances.
func TestRevoke(t *testing.T) {
	const soon, chances = 100 * time.Millisecond, 20
	for _, c := range []struct{ name, command string }{
		{"quiet", "echo ready; exec sleep 1000"},
		{"transfer", "echo ready; exec cat /dev/zero"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			var took time.Duration
			for range chances {
				if took = l.revoked(c.command); took < soon {
					break
				}
			}
			if took >= soon {
				t.Errorf("dead after %v", took)
			}
			for _, p := range l.table.List() {
				_ = p.Stop(within(t), -1)
			}
		})
	}
}

// revoked runs a command that says that it is ready, and returns how long after
// the revocation the client finds its connection dead.
func (l *lab) revoked(command string) time.Duration {
	l.t.Helper()
	client := l.dial(access.Grant{ID: "g" + time.Now().Format("150405.000000000")})
	session, err := client.NewSession()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := session.Start(command); err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		l.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { // what comes must be taken, or the client does not see the end
		defer close(read)
		_, _ = io.Copy(io.Discard, out)
	}()
	grant := l.store.Connections()[0].Grant
	begin := time.Now()
	if _, err := l.store.Revoke(grant); err != nil {
		l.t.Fatal(err)
	}
	if err := client.Wait(); err == nil {
		l.t.Error("the connection ended well")
	}
	took := time.Since(begin)
	<-read
	l.quiet()
	return took
}

// revokingSigner has its grant revoked after the server has said that the key is
// welcome, and before it has the signature.
type revokingSigner struct {
	ssh.Signer
	revoke func()
}

func (s revokingSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	s.revoke()
	return s.Signer.Sign(random, data)
}

// A grant that is revoked in the midst of a handshake lets nobody in, and ends
// the connection that has shown its key.
func TestRevokeDuringHandshake(t *testing.T) {
	l := newLab(t)
	signer, _ := l.newKey()
	user := me(t).Username
	if _, err := l.store.Grant(access.Grant{ID: "g", Key: signer.PublicKey().Marshal(), User: user}); err != nil {
		t.Fatal(err)
	}
	revoke := func() {
		if _, err := l.store.Revoke("g"); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.tryDial(user, ssh.PublicKeys(revokingSigner{signer, revoke})); err == nil {
		t.Error("got in")
	}
	if list := l.store.Connections(); len(list) != 0 {
		t.Errorf("somebody is in: %+v", list)
	}
}
