//go:build linux

package sshd

import (
	"errors"
	"net"
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

// A client may ask for all addresses of each family with one port, as
// `ssh -R 0.0.0.0:80:… -R [::]:80:…` does.
func TestListenOnBothFamilies(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("SKIP: no IPv6 here")
	} else {
		_ = l.Close()
	}
	l := newLab(t)
	c := l.dial(access.Grant{})
	var got struct{ Port uint32 }
	ok, reply, err := c.SendRequest(requestListenTCP, true, ssh.Marshal(tcpPlace{Host: "0.0.0.0"}))
	if err != nil || !ok || ssh.Unmarshal(reply, &got) != nil {
		t.Fatalf("0.0.0.0: %v, %v", ok, err)
	}
	for host, want := range map[string]bool{"::": true, "0.0.0.0": false, "127.0.0.1": false} {
		ok, _, err := c.SendRequest(requestListenTCP, true, ssh.Marshal(tcpPlace{Host: host, Port: got.Port}))
		if err != nil || ok != want {
			t.Errorf("%s, the same port: %v, %v", host, ok, err)
		}
	}
	if ok, _, err := c.SendRequest(requestCancelTCP, true, ssh.Marshal(tcpPlace{Host: "0.0.0.0", Port: got.Port})); err != nil || !ok {
		t.Errorf("cancel: %v, %v", ok, err)
	}
	_ = c.Close()
	l.quiet()
}
