//go:build linux

package sshd

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// Many sessions that ask for much and take nothing of it share what memory
// there is for that.
func TestMemoryOfManySessions(t *testing.T) {
	const sessions, reads, size = 150, 12, 255 << 10
	const init, open, read, openRead = 1, 3, 5, 1
	l := newLab(t, func(c *Config) { c.MaxBuffers = 8 << 20 })
	path := filepath.Join(l.dir, "file")
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	v, c := l.stopping(access.Grant{})
	channels := make([]ssh.Channel, sessions)
	for i := range channels {
		ch, requests, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		go ssh.DiscardRequests(requests)
		if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); !ok {
			t.Fatal(err)
		}
		hello := append(sftpPacket(init, uint32(3)), sftpPacket(open, uint32(1), path, uint32(openRead), uint32(0))...)
		if _, err := ch.Write(hello); err != nil {
			t.Fatal(err)
		}
		answers := make([]byte, 4)
		for range 2 {
			if _, err := io.ReadFull(ch, answers); err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, ch, int64(binary.BigEndian.Uint32(answers))); err != nil {
				t.Fatal(err)
			}
		}
		channels[i] = ch
	}
	before := heap()
	v.stop()
	for _, ch := range channels {
		for range reads {
			request := sftpPacket(read, uint32(2), "\x00\x00\x00\x01", uint64(0), uint32(size))
			if _, err := ch.Write(request); err != nil {
				t.Fatal(err)
			}
		}
	}
	c2 := l.dial(access.Grant{})
	for range 3 { // all have gone as far as they can
		if got := run(t, l.ssh(access.Grant{}, "head -c 1000000 /dev/zero | wc -c")); got.stdout != "1000000\n" {
			t.Errorf("another client: %+v", got)
		}
		if _, _, err := c2.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Error(err)
		}
	}
	grown := heap() - before
	t.Logf("%d MiB more", grown)
	if grown > 40 { // 8, and 64 KiB of each; without a bound it is 150
		t.Errorf("%d sessions take %d MiB more", sessions, grown)
	}
	_ = v.Close()
	_ = c.Close()
	_ = c2.Close()
	l.quiet()
}
