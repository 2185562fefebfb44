//go:build linux

package sshd

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Who does not speak SSH is told so at once, however little has come.
func TestNotSSH(t *testing.T) {
	l := newLab(t)
	for _, first := range []string{"\n", "GET / HTTP/1.1\r\n\r\n", "S\n", "SSH\n", "SSH-2.0-" + strings.Repeat("x", 300)} {
		c, err := net.Dial("unix", l.socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, first); err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(c) // what was not read of ours may reset it
		lines := strings.Split(string(all), "\r\n")
		if len(lines) < 2 || !strings.HasPrefix(lines[0], "SSH-2.0-") || lines[1] != "Invalid SSH identification string." {
			t.Errorf("%.20q: answered with %q", first, all)
		}
		_ = c.Close()
	}
	l.quiet()
}

// A client's line may come byte by byte, and late: ours does not wait for it.
func TestIdentifySlowly(t *testing.T) {
	l := newLab(t)
	c, err := net.Dial("unix", l.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "SSH-2.0-OpenSSH") {
		t.Fatalf("%q, %v", line, err)
	}
	for _, b := range []byte("SSH-2.0-slow\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	const lengths, kexInit = 5, 20 // of packet and padding; the message's number
	packet := make([]byte, lengths+1)
	if _, err := io.ReadFull(in, packet); err != nil || packet[lengths] != kexInit {
		t.Errorf("%v, %v", packet, err)
	}
}

func TestAlgorithmsFor(t *testing.T) {
	for client, old := range map[string]bool{
		"SSH-2.0-dropbear_2022.83": true, "SSH-2.0-libssh2_1.10.0": true, "SSH-2.0-Renci.SshNet.SshClient.0.0.1": true,
		"SSH-2.0-libssh2_1.11.1": false, "SSH-2.0-OpenSSH_9.2p1": false, "SSH-2.0-Go": false, "": false,
	} {
		if got := slices.Contains(algorithms(clientName(client), nil).MACs, ssh.HMACSHA256); got != old {
			t.Errorf("%s: MACs without encrypt-then-MAC: %t", client, got)
		}
	}
}
