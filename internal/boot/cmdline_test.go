package boot

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseCommandLine(t *testing.T) {
	tests := []struct {
		name, line string
		want       Options
	}{
		{"nothing of ours", "console=ttyS0 quiet root=/dev/vda", Options{}},
		{"all", "ro guestd.listen=vsock::1024 guestd.listen=vsock::25 guestd.ssh=vsock::22 guestd.ssh=vsock::23 guestd.config=/etc/guestd.json " +
			"guestd.hostname=box-7 guestd.modules=a,b guestd.modules=c guestd.poweroff=reboot\n",
			Options{
				Listen: []string{"vsock::1024", "vsock::25"}, SSH: []string{"vsock::22", "vsock::23"}, Config: "/etc/guestd.json", Hostname: "box-7",
				Modules: []string{"a", "b", "c"}, PowerOffByReboot: true,
			}},
		{"the last one counts", "guestd.hostname=a guestd.hostname=b", Options{Hostname: "b"}},
		{"quoted value", `guestd.config="/etc/a b" x`, Options{Config: "/etc/a b"}},
		{"quoted parameter", `"guestd.config=/etc/a b" x`, Options{Config: "/etc/a b"}},
		{"quote not closed", `guestd.config="/etc/a b`, Options{Config: "/etc/a b"}},
		{"quote inside", `guestd.config=/etc/"a b"`, Options{Config: `/etc/"a b"`}},
		{"after the double dash", "-- guestd.hostname=a", Options{}},
		{"unknown", "guestd.new=1 guestd.hostname", Options{Unknown: []string{"guestd.new=1", "guestd.hostname"}}},
		{"bad host name", "guestd.hostname=a/b guestd.poweroff=maybe",
			Options{Unknown: []string{"guestd.hostname=a/b", "guestd.poweroff=maybe"}}},
		{"tabs and newlines", "a\tguestd.hostname=x\n\n", Options{Hostname: "x"}},
		{"another's prefix", "xguestd.hostname=x guestdx.hostname=x", Options{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ParseCommandLine(tt.line); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("ParseCommandLine(%q)\n got %+v\nwant %+v", tt.line, got, tt.want)
			}
		})
	}
}

// Whatever the line is, the parser invents nothing: every value is text of the
// line, the host name is one the kernel takes, and no list holds empty names.
func FuzzParseCommandLine(f *testing.F) {
	f.Add(`console=ttyS0 guestd.listen=vsock::1024 guestd.config="/a b" -- x`)
	f.Add(`"guestd.hostname=a`)
	f.Add("guestd.modules=,,a\x00b,")
	f.Fuzz(func(t *testing.T, line string) {
		o := ParseCommandLine(line)
		values := append([]string{o.Config, o.Hostname}, append(o.Listen, o.SSH...)...)
		for _, value := range append(append(values, o.Modules...), o.Unknown...) {
			if !strings.Contains(line, value) {
				t.Errorf("%q is not part of %q", value, line)
			}
		}
		if o.Hostname != "" && !validHostname(o.Hostname) {
			t.Errorf("host name %q", o.Hostname)
		}
		for _, list := range [][]string{o.Listen, o.Modules, o.Unknown} {
			for _, value := range list {
				if value == "" {
					t.Errorf("empty entry in %+v", o)
				}
			}
		}
	})
}
