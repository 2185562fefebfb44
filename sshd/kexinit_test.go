//go:build linux

package sshd

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// kexInitPacket is the first packet of a client with these ciphers, and with
// those MACs in both directions.
func kexInitPacket(in, out []string, macs ...string) []byte {
	const padding = 8
	lists := kexInit{
		KeyExchanges: []string{"none"}, HostKeys: []string{"none"}, CiphersIn: in, CiphersOut: out, MACsIn: macs, MACsOut: macs,
		Rest: make([]byte, 4*4+1+4),
	}
	message := ssh.Marshal(&lists)
	packet := binary.BigEndian.AppendUint32(nil, uint32(paddingLength+len(message)+padding))
	packet = append(packet, padding)
	return append(append(packet, message...), make([]byte, padding)...)
}

// offered is what the server offers to a client that begins like this.
func (l *lab) offered(begin string) *offer {
	l.t.Helper()
	c, err := net.Dial("unix", l.socket)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, begin); err != nil {
		l.t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if _, err := in.ReadString('\n'); err != nil {
		l.t.Fatal(err)
	}
	var packet []byte
	for {
		if message, whole := firstPacket(packet); whole {
			return offerIn(message)
		}
		b, err := in.ReadByte()
		if err != nil {
			l.t.Fatal(err)
		}
		packet = append(packet, b)
	}
}

// Who takes gcm is offered nothing slower; whoever does not, or does not say so
// at once, is offered everything.
func TestCiphersOffered(t *testing.T) {
	const openSSH, other = "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "SSH-2.0-PuTTY_Release_0.78\r\n"
	gcm := []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"}
	all := append(slices.Clone(gcm), "aes128-ctr", "aes192-ctr", "aes256-ctr")
	ctr := []string{"chacha20-poly1305@openssh.com", "aes128-ctr"}
	l := newLab(t)
	for _, c := range []struct {
		name, begin string
		want        []string
	}{
		{"as OpenSSH begins", openSSH + string(kexInitPacket(append(slices.Clone(ctr), gcm[1]), append(slices.Clone(ctr), gcm[1]))), gcm},
		{"ctr alone", openSSH + string(kexInitPacket(ctr, ctr)), all},
		{"gcm in one direction", openSSH + string(kexInitPacket(ctr, gcm)), all},
		{"one that prefers gcm anyway", other + string(kexInitPacket(gcm, gcm)), all},
		{"silent", openSSH, all},
		{"half a packet", openSSH + string(kexInitPacket(gcm, gcm)[:20]), all},
	} {
		if got := l.offered(c.begin); !slices.Equal(got.ciphers, c.want) {
			t.Errorf("%s: offered %q, want %q", c.name, got.ciphers, c.want)
		}
	}
	l.quiet()
}

// Who says at once that it has only the older MACs is offered them, and so is
// who is known for that and says nothing; nobody else.
func TestMACsOffered(t *testing.T) {
	const known, other = "SSH-2.0-libssh2_1.10.0\r\n", "SSH-2.0-other\r\n"
	ctr, gcm := []string{"aes128-ctr"}, []string{"aes128-gcm@openssh.com"}
	etm := []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}
	all := append(slices.Clone(etm), "hmac-sha2-256", "hmac-sha2-512")
	l := newLab(t)
	for _, c := range []struct {
		name, begin string
		want        []string
	}{
		{"the older alone", other + string(kexInitPacket(ctr, ctr, all[2:]...)), all},
		{"the older alone, with gcm", other + string(kexInitPacket(gcm, gcm, all[2])), all},
		{"the newer too", other + string(kexInitPacket(ctr, ctr, all[2], etm[1])), etm},
		{"silent", other, etm},
		{"silent and known", known, all},
		{"known, but with the newer", known + string(kexInitPacket(ctr, ctr, all...)), etm},
	} {
		if got := l.offered(c.begin); !slices.Equal(got.macs, c.want) {
			t.Errorf("%s: offered %q, want %q", c.name, got.macs, c.want)
		}
	}
	l.quiet()
}

func TestNoKexInit(t *testing.T) {
	for name, begin := range map[string]string{
		"another message": "\x00\x00\x00\x0c\x0a\x02" + strings.Repeat("\x00", 10),
		"no packet":       strings.Repeat("\xff", 100),
		"only padding":    "\x00\x00\x00\x01\xff",
		"nothing in it":   "\x00\x00\x00\x01\x00",
		"a list too long": "\x00\x00\x00\x20\x04\x14" + strings.Repeat("\x01", 40),
	} {
		payload, whole := firstPacket([]byte(begin))
		if got := offerIn(payload); !whole || got != nil {
			t.Errorf("%s: %t, %q", name, whole, got)
		}
	}
}

func TestFirstPacketInPieces(t *testing.T) {
	packet := kexInitPacket([]string{"a", "b"}, []string{"b", "c"})
	for n := range packet {
		if payload, whole := firstPacket(packet[:n]); whole {
			t.Fatalf("%d bytes of %d are %q", n, len(packet), payload)
		}
	}
	payload, whole := firstPacket(append(packet, "more"...))
	if got := offerIn(payload); !whole || got == nil || !slices.Equal(got.ciphers, []string{"b"}) {
		t.Errorf("%t, %q", whole, got)
	}
}

// FuzzFirstPacket looks into whatever a peer may begin with.
func FuzzFirstPacket(f *testing.F) {
	f.Add(kexInitPacket([]string{"a"}, []string{"a"}))
	f.Add([]byte("\x00\x00\x00\x01\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, whole := firstPacket(b)
		if !whole && len(b) > packetLength+maxKexInit {
			t.Errorf("%d bytes are not enough", len(b))
		}
		offered := offerIn(payload)
		if offered == nil {
			return
		}
		for _, name := range slices.Concat(offered.ciphers, offered.macs) {
			if strings.Contains(name, ",") {
				t.Errorf("an algorithm %q", name)
			}
		}
	})
}
