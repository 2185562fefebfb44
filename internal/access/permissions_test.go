//go:build linux

package access

import (
	"path"
	"strings"
	"testing"
)

func TestPermitsTCP(t *testing.T) {
	none, any := Forwarding{}, Forwarding{Allowed: true}
	some := Forwarding{true, []string{"localhost:3000", "[::1]:*", "10.0.0.1:80", "*:443"}}
	for _, test := range []struct {
		f    Forwarding
		host string
		port uint32
		want bool
	}{
		{none, "localhost", 1, false},
		{Forwarding{false, []string{"*:*"}}, "localhost", 1, false},
		{any, "localhost", 1, true},
		{any, "", 0, true},
		{any, "localhost", 65536, false},
		{some, "localhost", 3000, true},
		{some, "LocalHost", 3000, true},
		{some, "localhost", 3001, false},
		{some, "localhost.example", 3000, false},
		{some, "127.0.0.1", 3000, false}, // names are not looked up
		{some, "::1", 7, true},
		{some, "0:0:0:0:0:0:0:1", 7, true},
		{some, "::2", 7, false},
		{some, "::ffff:10.0.0.1", 80, true},
		{some, "10.0.0.1", 81, false},
		{some, "anything at all", 443, true},
		{some, "", 443, true},
		{some, "", 3000, false},
		{some, "*", 3000, false},
	} {
		if got := test.f.PermitsTCP(test.host, test.port); got != test.want {
			t.Errorf("%v to %s port %d: %v", test.f, test.host, test.port, got)
		}
	}
}

func TestPermitsUnix(t *testing.T) {
	some := Forwarding{true, []string{"/run/app.sock", "/tmp/vscode-*/*.sock"}}
	for name, want := range map[string]bool{
		"/run/app.sock":                     true,
		"/run/app.sock2":                    false,
		"/run/./app.sock":                   false,
		"/tmp/vscode-1/a.sock":              true,
		"/tmp/vscode-1/x/a.sock":            false,
		"/tmp/vscode-1/../../run/d.sock":    false,
		"/tmp/vscode-1/..":                  false,
		"tmp/vscode-1/a.sock":               false,
		"@abstract":                         false,
		"":                                  false,
		"/tmp/vscode-\x00/a.sock":           true, // the kernel refuses it
		"/tmp/vscode-1/" + "\xff" + ".sock": true,
	} {
		if got := some.PermitsUnix(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if (Forwarding{}).PermitsUnix("/run/app.sock") || !(Forwarding{Allowed: true}).PermitsUnix("anything") {
		t.Error("without targets it is everything or nothing")
	}
}

// No path gets past its targets by being written in another way.
func FuzzPermitsUnix(f *testing.F) {
	f.Add("/run/*/s", "/run/../s")
	f.Add("/run/[a-z]*", "/run/a/../../etc")
	f.Fuzz(func(t *testing.T, target, name string) {
		permissions := Permissions{LocalUnix: Forwarding{true, []string{target}}}
		if permissions.check() != nil {
			return
		}
		if !permissions.LocalUnix.PermitsUnix(name) {
			return
		}
		if !path.IsAbs(name) || path.Clean(name) != name || strings.Count(name, "/") < 1 {
			t.Errorf("%q permits %q", target, name)
		}
	})
}

func FuzzPermitsTCP(f *testing.F) {
	f.Add("localhost:80", "localhost", uint32(80))
	f.Add("[::1]:*", "::1", uint32(1))
	f.Fuzz(func(t *testing.T, target, host string, port uint32) {
		permissions := Permissions{LocalTCP: Forwarding{true, []string{target}}}
		if permissions.check() != nil {
			return
		}
		if permissions.LocalTCP.PermitsTCP(host, port) && port > 65535 {
			t.Errorf("port %d is permitted", port)
		}
	})
}
