package vsock_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/guestd/guestd/vsock"
)

var (
	_ net.Addr   = vsock.Addr{}
	_ flag.Value = (*vsock.Addr)(nil)
)

func TestParseAddr(t *testing.T) {
	for _, test := range []struct {
		in   string
		want vsock.Addr
		out  string // in, if empty
	}{
		{in: "vsock::1024", want: vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny, Port: 1024}},
		{in: "vsock:any:22", want: vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny, Port: 22}, out: "vsock::22"},
		{in: "vsock:4294967295:22", want: vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny, Port: 22}, out: "vsock::22"},
		{in: "vsock:3:1024", want: vsock.Addr{Transport: vsock.VM, CID: 3, Port: 1024}},
		{in: "vsock:host:1025", want: vsock.Addr{Transport: vsock.VM, CID: vsock.CIDHost, Port: 1025}, out: "vsock:2:1025"},
		{in: "vsock:local:1", want: vsock.Addr{Transport: vsock.VM, CID: vsock.CIDLocal, Port: 1}, out: "vsock:1:1"},
		{in: "vsock:0:0", want: vsock.Addr{Transport: vsock.VM}},
		{in: "vsock::4294967294", want: vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny, Port: 4294967294}},
		{in: "hybrid:/run/vm.sock:1024", want: vsock.Addr{Transport: vsock.Hybrid, Path: "/run/vm.sock", Port: 1024}},
		{in: "hybrid:a:b:c:1", want: vsock.Addr{Transport: vsock.Hybrid, Path: "a:b:c", Port: 1}},
		{in: "unix:/run/guestd.sock", want: vsock.Addr{Transport: vsock.Unix, Path: "/run/guestd.sock"}},
		{in: "unix:./a:1", want: vsock.Addr{Transport: vsock.Unix, Path: "./a:1"}},
	} {
		a, err := vsock.ParseAddr(test.in)
		if err != nil || a != test.want {
			t.Errorf("ParseAddr(%q) = %+v, %v, want %+v", test.in, a, err, test.want)
			continue
		}
		if test.out == "" {
			test.out = test.in
		}
		if a.String() != test.out || a.Network() != string(test.want.Transport) || a.IsZero() {
			t.Errorf("ParseAddr(%q) prints as %q of network %q", test.in, a, a.Network())
		}
	}
}

func TestParseAddrErrors(t *testing.T) {
	long := "/" + strings.Repeat("x", 200)
	for in, want := range map[string]string{
		"":                        "want vsock:CID:PORT",
		"/run/guestd.sock":        "want vsock:CID:PORT",
		"tcp:127.0.0.1:80":        "want vsock:CID:PORT",
		"VSOCK::1":                "want vsock:CID:PORT",
		"vsock":                   "no port",
		"vsock:1024":              "no port",
		"vsock::":                 `port "" is not a number`,
		"vsock::-1":               `port "-1" is not a number`,
		"vsock::+1":               `port "+1" is not a number`,
		"vsock::4294967296":       `port "4294967296" is not a number`,
		"vsock::4294967295":       "reserved",
		"vsock:guest:1":           `CID "guest" is not a number`,
		"vsock:3:1:2":             `port "1:2" is not a number`,
		"hybrid:/x":               "no port",
		"hybrid:/x:":              `port "" is not a number`,
		"hybrid::1":               "no path",
		"hybrid:/x:0":             "port 0 is not a guest port",
		"hybrid:/x:4294967295":    "not a guest port",
		"hybrid:" + long + ":1":   "path of 201 bytes",
		"unix:":                   "no path",
		"unix:@abstract":          "abstract",
		"unix:/a\x00b":            "NUL",
		"unix:" + long:            "path of 201 bytes",
		"unix\x00:/run/some.sock": "want vsock:CID:PORT",
	} {
		a, err := vsock.ParseAddr(in)
		var ae *net.AddrError
		if !errors.As(err, &ae) || ae.Addr != in || !strings.Contains(err.Error(), want) || !a.IsZero() {
			t.Errorf("ParseAddr(%q) = %+v, %v, want an error with %q", in, a, err, want)
		}
	}
}

func TestAddrAsFlagAndText(t *testing.T) {
	var a vsock.Addr
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Var(&a, "agent", "")
	if err := fs.Parse([]string{"-agent", "vsock:3:1024"}); err != nil || a.CID != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := fs.Parse([]string{"-agent", "bad"}); err == nil || a.CID != 3 {
		t.Errorf("a bad flag: %+v, %v", a, err)
	}
	var zero vsock.Addr
	if zero.String() != "" || !zero.IsZero() {
		t.Errorf("zero prints as %q", zero)
	}

	type config struct{ Listen []vsock.Addr }
	in := config{Listen: []vsock.Addr{a, {Transport: vsock.Unix, Path: "/x"}}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Listen":["vsock:3:1024","unix:/x"]}`; string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
	var out config
	if err := json.Unmarshal(text, &out); err != nil || out.Listen[0] != in.Listen[0] || out.Listen[1] != in.Listen[1] {
		t.Errorf("%+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"Listen":["nonsense"]}`), &out); err == nil {
		t.Error("no error for a bad address in JSON")
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"vsock::1024", "vsock:host:1", "hybrid:/a:b:1", "unix:/x", "unix:@x", ":::", "vsock"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := vsock.ParseAddr(s)
		if err != nil {
			if !a.IsZero() || !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %+v, %v", s, a, err)
			}
			return
		}
		if b, err := vsock.ParseAddr(a.String()); err != nil || b != a {
			t.Errorf("%q: %+v prints as %q, which is %+v, %v", s, a, a, b, err)
		}
	})
}
