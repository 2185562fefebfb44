//go:build linux

package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestParseShim(t *testing.T) {
	for _, test := range []struct {
		args string
		want shim
		fail bool
	}{
		{args: "-t -f /etc/x", want: shim{config: "/etc/x", test: true}},
		{args: "-i -f /etc/x -E/tmp/log", want: shim{config: "/etc/x", inetd: true}},
		{args: "-f/etc/x -E log", want: shim{config: "/etc/x"}},
		{args: "-D -o Port=22 -f x", want: shim{config: "x", debug: true, extra: []string{"Port=22"}}},
		{args: "-f", fail: true},
		{args: "stray", fail: true},
	} {
		got, err := parseShim(strings.Fields(test.args))
		if test.fail {
			if err == nil {
				t.Errorf("%q: no error", test.args)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %+v, %v, want %+v", test.args, got, err, test.want)
		}
	}
}

func TestParseConfig(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want shimConfig
	}{
		"as the tests write it": {
			"\tStrictModes\t\tno\n\tPort\t\t\t4242\n\tPidFile\t\t\t/x/pidfile\n\tAuthorizedKeysFile\t/x/keys_%u\n",
			shimConfig{4242, "/x/pidfile", "/x/keys_%u"},
		},
		"the first counts":   {"Port 1\nPort 2\n", shimConfig{port: 1}},
		"equals and quotes":  {"Port=1\nPidFile \"/x y\"\n", shimConfig{port: 1, pidFile: "/x y"}},
		"no Match blocks":    {"Port 1\nMatch User x\nPidFile /x\n", shimConfig{port: 1}},
		"one file of many":   {"AuthorizedKeysFile a b\n", shimConfig{authorizedKeys: "a"}},
		"comments and blank": {"#Port 1\n\n  \nport 2", shimConfig{port: 2}},
	} {
		if got := parseConfig(test.text); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestModpipe(t *testing.T) {
	for _, test := range []struct{ spec, in, want string }{
		{"xor:2:1", "aaaa", "aa`a"},
		{"xor:0:1", "aaaa", "`aaa"},
		{"xor:4:1", "aaaa", "aaaa"},
		{"xor:9:1", "aaaa", "aaaa"},
	} {
		var out bytes.Buffer
		if err := modpipe(&out, strings.NewReader(test.in), []string{"-wm", test.spec}); err != nil || out.String() != test.want {
			t.Errorf("%s of %s: %q, %v, want %q", test.spec, test.in, out.String(), err, test.want)
		}
	}
	for _, args := range [][]string{nil, {"-wm"}, {"-wm", "or:1:1"}, {"-m", "xor:1:1"}} {
		if err := modpipe(new(bytes.Buffer), strings.NewReader(""), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
