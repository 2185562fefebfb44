//go:build linux

package procnet_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/guestd/guestd/internal/procnet"
)

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func TestParse(t *testing.T) {
	for _, test := range []struct {
		table procnet.Table
		text  string
		want  []procnet.Socket
	}{
		{"tcp", "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n" +
			"   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 222 1 0 100 0 0 10 0\n" +
			"   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100 0 0 10 0\n",
			[]procnet.Socket{
				{Addr: netip.MustParseAddrPort("127.0.0.1:8080"), Inode: 111},
				{Addr: netip.MustParseAddrPort("0.0.0.0:8080"), UID: 33, Inode: 222},
			}},
		// The kernel lists listeners first; what comes after a connection is not
		// read.
		{"tcp6", "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000        0 42 1\n" +
			"   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 43 1\n" +
			"   2: short:0050 0:0 0A 0:0 0:0 0 0 0 44\n" +
			"   3: 00000000000000000000000001000000:0051 00000000000000000000000001000000:0052 01 0:0 00:0 0     0        0 45 1\n" +
			"   4: 00000000000000000000000001000000:0053 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 46 1\n",
			[]procnet.Socket{
				{Addr: netip.MustParseAddrPort("[::1]:8080"), UID: 1000, Inode: 42},
				{Addr: netip.MustParseAddrPort("127.0.0.1:80"), Inode: 43},
			}},
		{"udp", "   0: 0100007F:0035 0100007F:0036 01 0:0 00:0 0     0        0 7 2 0 0\n" +
			"   1: 0100007F:0035 00000000:0000 07 0:0 00:0 0     0        0 8 2 0 0\n" +
			"   2: 0100007F:0000 00000000:0000 07 0:0 00:0 0     0        0 9 2 0 0\n",
			[]procnet.Socket{{Addr: netip.MustParseAddrPort("127.0.0.1:53"), Inode: 8}}},
	} {
		got, err := procnet.Parse(test.table, strings.NewReader(head+test.text))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %+v, %v", test.table, got, err)
		}
	}
}

func TestListening(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := l.Addr().(*net.TCPAddr).AddrPort()
	found := false
	for range 10 { // one look may be torn, as other tests listen too
		sockets, err := procnet.Listening("tcp")
		if err != nil {
			t.Fatal(err)
		}
		found = found || slices.ContainsFunc(sockets, func(s procnet.Socket) bool { return s.Addr == want })
	}
	if !found {
		t.Errorf("%v is not there", want)
	}
	if sockets, err := procnet.Listening("no-such-protocol"); sockets != nil || err != nil {
		t.Errorf("a table that is not there: %v, %v", sockets, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 1000 0 42 1\n")
	f.Add("   0: 00000000000000000000000001000000:1F90 0:0 07 0:0 0:0 0 1000 0 42 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, table := range []procnet.Table{"tcp", "tcp6", "udp", "udp6"} {
			sockets, _ := procnet.Parse(table, strings.NewReader(text))
			for _, s := range sockets {
				if !s.Addr.IsValid() || s.Addr.Port() == 0 || s.Addr.Addr().Is4In6() {
					t.Errorf("%+v", s)
				}
			}
		}
	})
}
