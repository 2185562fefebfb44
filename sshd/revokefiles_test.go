//go:build linux

package sshd

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// transfer is one that goes on until its connection ends.
type transfer struct {
	name      string
	subsystem bool   // sftp; else command
	command   string // of the far half of scp, with FILE for the file
	first     []byte // what the client sends before it hears of success
	answer    int    // how many bytes it reads before it goes on
	more      []byte // what it sends again and again
	written   bool   // the file begins with an x then
}

// sftpPacket is a packet of draft-ietf-secsh-filexfer-02.
func sftpPacket(kind byte, fields ...any) []byte {
	p := []byte{0, 0, 0, 0, kind}
	for _, field := range fields {
		switch v := field.(type) {
		case uint32:
			p = binary.BigEndian.AppendUint32(p, v)
		case uint64:
			p = binary.BigEndian.AppendUint64(p, v)
		case string:
			p = append(binary.BigEndian.AppendUint32(p, uint32(len(v))), v...)
		}
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// transfers are to and from the file, which is large.
func transfers(file string) []transfer {
	const read, write = 1, 2
	open := func(flags uint32) []byte {
		return append(sftpPacket(1, uint32(3)), sftpPacket(3, uint32(1), file, flags, uint32(0))...)
	}
	handle := "\x00\x00\x00\x01"
	chunk := strings.Repeat("x", 32<<10)
	return []transfer{
		{name: "sftp from the guest", subsystem: true, first: open(read), answer: 1,
			more: sftpPacket(5, uint32(2), handle, uint64(0), uint32(len(chunk)))},
		{name: "sftp to the guest", subsystem: true, written: true, first: open(write), answer: 1,
			more: sftpPacket(6, uint32(2), handle, uint64(0), chunk)},
		{name: "scp from the guest", command: "scp -f FILE", first: []byte{0, 0}, answer: 8 << 20},
		{name: "scp to the guest", written: true, command: "scp -t FILE", first: []byte("C0644 1099511627776 x\n"), answer: 2, more: []byte(chunk)},
	}
}

// A revoked grant ends a transfer within a tenth of a second, too, and leaves no
// file open and no process.
func TestRevokeEndsTransfers(t *testing.T) {
	const soon, chances, size = 100 * time.Millisecond, 20, 1 << 40
	file := filepath.Join(t.TempDir(), "file")
	for _, tr := range transfers(file) {
		t.Run(tr.name, func(t *testing.T) {
			if _, err := exec.LookPath("scp"); err != nil && !tr.subsystem {
				t.Skip("no scp: apt-get install openssh-client")
			}
			l := newLab(t)
			took := soon
			for i := 0; took >= soon && i < chances; i++ {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(file, size); err != nil { // a hole
					t.Fatal(err)
				}
				took = l.revokedDuring(&tr, file)
			}
			if took >= soon {
				t.Errorf("dead after %v", took)
			}
			eventually(t, "the file is closed", func() bool { return !isOpen(t, file) })
			for _, p := range l.table.List() {
				if _, err := p.Wait(within(t)); err != nil {
					t.Errorf("%v: %v", p.Spec(), err)
				}
			}
		})
	}
}

// revokedDuring revokes in the midst of a transfer, and returns how long after that
// the client finds its connection dead.
func (l *lab) revokedDuring(tr *transfer, file string) time.Duration {
	l.t.Helper()
	client := l.dial(access.Grant{})
	session, err := client.NewSession()
	if err != nil {
		l.t.Fatal(err)
	}
	in, out := pipes(l.t, session)
	if tr.subsystem {
		err = session.RequestSubsystem(subsystemSFTP)
	} else {
		err = session.Start(strings.ReplaceAll(tr.command, "FILE", file))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := in.Write(tr.first); err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, tr.answer)); err != nil {
		l.t.Fatal(err)
	}
	var moving sync.WaitGroup
	moving.Go(func() { _, _ = io.Copy(io.Discard, out) })
	moving.Go(func() {
		for len(tr.more) > 0 {
			if _, err := in.Write(tr.more); err != nil {
				return
			}
		}
	})
	before := l.store.Connections()[0]
	eventually(l.t, "bytes move", func() bool {
		now := l.store.Connections()[0]
		return now.Received+now.Sent > before.Received+before.Sent+1<<20
	})
	if tr.written {
		eventually(l.t, "the file is written", func() bool { return beginsWith(l.t, file, 'x') })
	}
	begin := time.Now()
	if _, err := l.store.Revoke(before.Grant); err != nil {
		l.t.Fatal(err)
	}
	if err := client.Wait(); err == nil {
		l.t.Error("the connection ended well")
	}
	took := time.Since(begin)
	moving.Wait()
	l.quiet()
	return took
}

func pipes(t *testing.T, session *ssh.Session) (io.WriteCloser, io.Reader) {
	t.Helper()
	in, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return in, out
}

func beginsWith(t *testing.T, file string, want byte) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var first [1]byte
	_, err = io.ReadFull(f, first[:])
	return err == nil && first[0] == want
}

// isOpen reports whether this process has a file open.
func isOpen(t *testing.T, file string) bool {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == file {
			return true
		}
	}
	return false
}
