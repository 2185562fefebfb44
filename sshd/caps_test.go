//go:build linux

package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/hungfs"
)

// sessions opens sessions until one is refused for want of room.
func (l *lab) sessions(c *ssh.Client) (open []ssh.Channel) {
	l.t.Helper()
	for {
		ch, _, err := c.OpenChannel("session", nil)
		if err != nil {
			wantShortage(l.t, "a session too many", err)
			return open
		}
		open = append(open, ch)
	}
}

func wantShortage(t *testing.T, what string, err error) {
	t.Helper()
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
		t.Errorf("%s: %v", what, err)
	}
}

func wantOpen[T any](t *testing.T, open []T, want int) {
	t.Helper()
	if len(open) != want {
		t.Errorf("%d could be opened, want %d", len(open), want)
	}
}

// One connection may have half of the sessions, and leaves the other half to
// the rest.
func TestSessionCaps(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxSessions, c.MaxChannels = 6, 4 })
	first, second, third := l.dial(access.Grant{}), l.dial(access.Grant{}), l.dial(access.Grant{})
	wantOpen(t, l.sessions(first), 3)
	open := l.sessions(second)
	wantOpen(t, open, 3)
	wantOpen(t, l.sessions(third), 0)
	_ = open[0].Close()
	eventually(t, "there is room again", func() bool {
		_, _, err := third.OpenChannel("session", nil)
		return err == nil
	})
	var refused *ssh.OpenChannelError
	if _, _, err := second.OpenChannel("nonsense", nil); !errors.As(err, &refused) || refused.Reason != ssh.UnknownChannelType {
		t.Errorf("an unknown type: %v", err)
	}
	for _, c := range []*ssh.Client{first, second, third} {
		_ = c.Close()
	}
	l.quiet()
}

func TestChannelCap(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxChannels = 4 })
	c := l.dial(access.Grant{})
	wantOpen(t, l.sessions(c), 4)
	_ = c.Close()
	l.quiet()
}

// What takes descriptors takes them from one budget, of which a connection has
// half: sessions, forwards, listeners, files. A client that wants more gets an
// error, and all of it comes back.
func TestDescriptors(t *testing.T) {
	const whole = 100
	l := newLab(t, func(c *Config) { c.MaxDescriptors = whole })
	first, second := l.dial(access.Grant{}), l.dial(access.Grant{})
	wantOpen(t, l.sessions(first), whole/2/costSession)
	// Two are left to the first.
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	var forwards []net.Conn
	for {
		c, err := first.Dial("tcp", echo.Addr().String())
		if err != nil {
			wantShortage(t, "a forward too many", err)
			break
		}
		forwards = append(forwards, c)
	}
	wantOpen(t, forwards, whole/2%costSession)
	if _, err := first.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a listener too many")
	}
	_ = forwards[0].Close()
	eventually(t, "a listener has room", func() bool {
		_, err := first.Listen("tcp", "127.0.0.1:0")
		return err == nil
	})
	ch, _ := l.channel(second)
	request(t, ch, "subsystem", ssh.Marshal(struct{ Name string }{"sftp"}), true)
	files := openFiles(t, ch)
	// The connections themselves are not in their halves.
	if want := whole/2 - 2*costConnection - costSession; files != want {
		t.Errorf("%d files, want %d", files, want)
	}
	if _, err := l.tryDial(l.grantSecret(access.Grant{})); err == nil {
		t.Error("a connection too many")
	}
	_ = first.Close()
	_ = second.Close()
	l.quiet()
}

// openFiles opens /dev/null by SFTP until that fails, and returns how often it
// did not.
func openFiles(t *testing.T, ch ssh.Channel) (n int) {
	t.Helper()
	const typeInit, typeOpen, typeStatus, typeHandle, forReading = 1, 3, 101, 102, 1
	send := func(kind byte, fields ...any) (answer []byte) {
		if _, err := ch.Write(sftpPacket(kind, fields...)); err != nil {
			t.Fatal(err)
		}
		var size [4]byte
		if _, err := io.ReadFull(ch, size[:]); err != nil {
			t.Fatal(err)
		}
		answer = make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(ch, answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	send(typeInit, uint32(3))
	for {
		answer := send(typeOpen, uint32(n), "/dev/null", uint32(forReading), uint32(0))
		switch answer[0] {
		case typeHandle:
			n++
			continue
		case typeStatus:
		default:
			t.Errorf("answer %q", answer)
		}
		if !bytes.Contains(answer, []byte("too many descriptors")) {
			t.Errorf("status %q", answer)
		}
		return n
	}
}

// What a session costs is not more than what it is charged.
func TestCosts(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	for name, tty := range map[string]bool{"pipes": false, "terminal": true} {
		before := countDescriptors()
		const sessions = 10
		for range sessions {
			s, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if tty {
				err = s.RequestPty("xterm", 24, 80, nil)
			}
			out, perr := s.StdoutPipe()
			if err = errors.Join(err, perr, s.Start("echo ready; exec sleep 1000")); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if cost := countDescriptors() - before; cost > sessions*costSession {
			t.Errorf("%d sessions with %s take %d descriptors", sessions, name, cost)
		}
	}
	_ = c.Close()
	l.quiet()
}

// Connections that each stay below what one may hold do not hold more than they
// may together: the largest are ended, and the smallest is not.
func TestUnreadOfAll(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxUnread = 16 << 20 })
	var begin sync.WaitGroup // who is still being connected is not ended
	begin.Add(1)
	fill := func(channels, bytes int) *ssh.Client {
		c := l.dial(access.Grant{})
		for range channels {
			ch, _ := l.channel(c)
			request(t, ch, "exec", ssh.Marshal(struct{ C string }{"exec sleep 1000"}), true)
			go func() { // ends with the connection
				begin.Wait()
				_, _ = ch.Write(make([]byte, bytes))
			}()
		}
		return c
	}
	small := fill(1, 512<<10)
	const large = 8
	for range large {
		_ = fill(3, 4<<20)
	}
	begin.Done()
	eventually(t, "connections are ended", func() bool { return len(l.store.Connections()) < 1+large })
	s, err := small.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("echo alive"); string(out) != "alive\n" || err != nil {
		t.Errorf("the smallest: %q, %v", out, err)
	}
	if n := len(l.store.Connections()); n < 1+2 {
		t.Errorf("%d connections are left", n)
	}
}

// A file system that does not answer holds up who listens on a socket in it, for
// some seconds, and neither the connection nor the server.
func TestListenOnHungFileSystem(t *testing.T) {
	l := newLab(t)
	dir, release := hungfs.Mount(t)
	c := l.dial(access.Grant{})
	if _, err := c.ListenUnix(dir + "/socket"); err == nil {
		t.Error("it listens")
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("echo alive"); string(out) != "alive\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_ = c.Close()
	l.quiet()
	release()
}
