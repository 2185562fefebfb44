//go:build linux

package sshd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// A socket whose file somebody removed is still listened on. Another one at the
// same place would be counted as the same, and their number without a bound.
func TestListenAtTheSamePlace(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	path := filepath.Join(l.dir, "r.sock")
	ask := func(kind string) bool {
		ok, _, err := c.SendRequest(kind, true, ssh.Marshal(struct{ Path string }{path}))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !ask(requestListenUnix) {
		t.Fatal("the first listener was refused")
	}
	before := countDescriptors()
	for range 20 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		_ = ask(requestListenUnix)
	}
	if got := countDescriptors(); got > before {
		t.Errorf("%d descriptors, %d with one listener", got, before)
	}
	if !ask(requestCancelUnix) || !ask(requestListenUnix) {
		t.Error("a canceled place cannot be had again")
	}
	_ = c.Close()
	l.quiet()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is still there")
	}
}
