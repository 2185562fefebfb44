//go:build linux

package sshd

import (
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// A client that may still adjust the window of a channel that it closes has the
// end of the data and the exit status long before it is asked to close it.
func TestLateAdjustments(t *testing.T) {
	l := newLab(t)
	c, err := l.dialAs("SSH-2.0-paramiko_3.5.1", l.grantSecret(access.Grant{}))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		begin := time.Now()
		ch, requests := l.channel(c)
		request(t, ch, "exec", ssh.Marshal(struct{ Command string }{"echo x"}), true)
		told := ""
		for r := range requests {
			told += r.Type
		}
		if took := time.Since(begin); took < lastAdjustments {
			t.Errorf("closed after %v", took)
		}
		if out, err := io.ReadAll(ch); string(out) != "x\n" || told != "exit-status" {
			t.Errorf("%q, %v, told %q", out, err, told)
		}
		if err := ch.Close(); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	_ = c.Close()
	l.quiet()
}
