package client

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"unicode/utf8"
)

func TestNamesKeepTheirBytes(t *testing.T) {
	for _, s := range []string{"", "plain", "späße", "b\xffd", "\xc3", "a\x00b"} {
		text, raw := toWire(s)
		if !utf8.ValidString(text) {
			t.Errorf("%q goes into a string field as %q", s, text)
		}
		if text != "" && len(raw) > 0 {
			t.Errorf("%q is in both fields", s)
		}
		if got := fromWire(text, raw); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
	}
	if got := fromWire(`b\xffd`, []byte("b\xffd")); got != "b\xffd" {
		t.Errorf("the rendering for people wins: %q", got)
	}
}

func TestArgs(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"a", "\xff"}, {"", "\xff", ""}} {
		text, raw := argsToWire(args)
		if text != nil && raw != nil {
			t.Errorf("%q is in both fields", args)
		}
		for _, s := range text {
			if !utf8.ValidString(s) {
				t.Errorf("%q in a string field", s)
			}
		}
		if got := argsFromWire(text, raw); !slices.Equal(got, args) {
			t.Errorf("%q comes back as %q", args, got)
		}
	}
}

func TestEnv(t *testing.T) {
	text, raw, err := envToWire([]string{"A=1", "B=x=y", "C=\xff", "A=2", "D=\xfe", "D=plain", "E=plain", "E=\xfd", "F="})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"A": "2", "B": "x=y", "D": "plain", "F": ""}; !maps.Equal(text, want) {
		t.Errorf("env %q, want %q", text, want)
	}
	want := map[string][]byte{"C": {0xff}, "E": {0xfd}}
	if !maps.EqualFunc(raw, want, bytes.Equal) {
		t.Errorf("raw env %q, want %q", raw, want)
	}
	for _, bad := range []string{"A", "=x", "\xff=x"} {
		if _, _, err := envToWire([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain späße": "plain späße",
		`a "b" \c`:    `a "b" \c`,
		"a\nb":        `a\nb`,
		"\x1b[0m":     `\x1b[0m`,
		"\u009b2J":    `\u009b2J`,
		"b\xffd":      `b\xffd`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b\n\xff\u009b\\\"")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range printable(s) {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
				t.Errorf("%q becomes %q", s, printable(s))
			}
		}
	})
}

func TestIsBelow(t *testing.T) {
	for path, want := range map[string]bool{
		".": true, "a": true, "a/b": true, "b\xff/c": true, "...": true,
		"": false, "/": false, "/a": false, "..": false, "a/..": false, "a/../b": false, "a//b": false, "./a": false, "a/": false,
	} {
		if got := isBelow(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
