package client

import (
	"errors"
	"testing"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// What a guest leaves out or invents is no reason to fall over.
func TestAccessFromAHostileAgent(t *testing.T) {
	for _, text := range []string{"", "nonsense", "ssh-ed25519 AAAA", "ssh-ed25519 \x1b[2J", "\n\n"} {
		if key, err := hostKeyFromWire(&guestdv1.HostKey{AuthorizedKey: text}); !errors.Is(err, ErrProtocol) {
			t.Errorf("host key of %q: %v, %v", text, key, err)
		}
	}
	if _, err := hostKeyFromWire(nil); !errors.Is(err, ErrProtocol) {
		t.Errorf("no host key: %v", err)
	}
	if info := grantInfoFromWire(nil); info.Client.IsValid() || !info.Expires.IsZero() {
		t.Errorf("no grant: %+v", info)
	}
	e := sshEventFromWire(&guestdv1.SessionEvent{
		Type: 99, ClientAddress: "nowhere",
		Terminal: &guestdv1.TerminalData{Size: &guestdv1.TerminalSize{Rows: 1 << 20}},
	})
	if e.Type.String() != "unknown" || e.Client.IsValid() || e.Terminal.Size.Rows != 0xffff || SSHEventType(-1).String() != "unknown" {
		t.Errorf("event: %+v", e)
	}
}

// The zone of an address is what the guest says, and is printed.
func TestAddressesArePrintable(t *testing.T) {
	const zone = "fe80::1%\x1b[2J"
	ports := portsFromWire([]*guestdv1.Port{{Network: "tcp6", Address: zone, Port: 80}})
	for _, text := range []string{ports[0].Addr.String(), addressFromWire("[" + zone + "]:80").String()} {
		if text != printable(text) {
			t.Errorf("%q", text)
		}
	}
}

// Both sides number the kinds of events in the same order.
func TestEventTypesAgree(t *testing.T) {
	for number, name := range guestdv1.SessionEventType_name {
		got := SSHEventType(number).String()
		want := map[string]string{
			"SESSION_EVENT_TYPE_UNSPECIFIED": "unknown", "SESSION_EVENT_TYPE_CONNECTED": "connected",
			"SESSION_EVENT_TYPE_REFUSED": "refused", "SESSION_EVENT_TYPE_EXEC": "exec", "SESSION_EVENT_TYPE_SHELL": "shell",
			"SESSION_EVENT_TYPE_SUBSYSTEM": "subsystem", "SESSION_EVENT_TYPE_CHANNEL_ENDED": "ended",
			"SESSION_EVENT_TYPE_FORWARD": "forward", "SESSION_EVENT_TYPE_LISTEN": "listen", "SESSION_EVENT_TYPE_FILE": "file",
			"SESSION_EVENT_TYPE_TERMINAL": "terminal", "SESSION_EVENT_TYPE_CLOSED": "closed",
			"SESSION_EVENT_TYPE_GRANTED": "granted", "SESSION_EVENT_TYPE_REVOKED": "revoked",
		}[name]
		if got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
}
