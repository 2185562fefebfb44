package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/guestd/guestd/client"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünï 日本":     "plain ünï 日本",
		"a\x1b[31m":        `a\x1b[31m`,
		"a\nb\tc\x00":      `a\nb\tc\x00`,
		"\xff\x9b\u009b":   `\xff\x9b\u009b`,
		"\u202egnp.exe":    `\u202egnp.exe`,
		"\x7f":             `\x7f`,
		"real \ufffd rune": `real \ufffd rune`,
		"":                 "",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, not %q", in, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[31m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := escape(s)
		if !utf8.ValidString(got) {
			t.Errorf("escape(%q) is not UTF-8", s)
		}
		for _, r := range got {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\u2028' {
				t.Errorf("escape(%q) has %q", s, r)
			}
		}
		var b bytes.Buffer
		if err := writeJSON(&b, s, ""); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(strings.TrimSuffix(b.String(), "\n"), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("JSON of %q is %q", s, b.String())
		}
	})
}

func TestDetachKeys(t *testing.T) {
	for _, c := range []struct {
		text   string
		wanted bool
		keys   string
		bad    bool
	}{
		{"", false, "", false},
		{"", true, "\x10\x11", false},
		{"none", true, "", false},
		{"ctrl-a,d", true, "\x01d", false},
		{"Ctrl-],ctrl-@", true, "\x1d\x00", false},
		{"ctrl-1", true, "", true},
		{"ctrl-", true, "", true},
		{"ab", true, "", true},
		{"a,", true, "", true},
		{"ü", true, "", true},
	} {
		keys, err := detachKeys(c.text, c.wanted)
		if string(keys) != c.keys || (err != nil) != c.bad {
			t.Errorf("detachKeys(%q, %v) = %q, %v", c.text, c.wanted, keys, err)
		}
	}
}

func TestDetachReader(t *testing.T) {
	for _, c := range []struct {
		keys, typed, passed string
		detached            bool
	}{
		{"", "\x10\x11abc", "\x10\x11abc", false},
		{"\x10\x11", "abc", "abc", false},
		{"\x10\x11", "a\x10\x11b", "a", true},
		{"\x10\x11", "a\x10b\x10\x10\x11", "a\x10b\x10", true},
		{"\x10\x11", "a\x10", "a\x10", false},
		{"aab", "aaaab", "aa", true},
		{"aab", "aacaa", "aacaa", false},
		{"x", "x", "", true},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "end": iotest.DataErrReader,
		} {
			r := newDetachReader(wrap(strings.NewReader(c.typed)), []byte(c.keys))
			go func() {
				<-r.detached
				r.release()
			}()
			passed, err := io.ReadAll(r)
			detached := false
			select {
			case <-r.detached:
				detached = true
			default:
				close(r.detached) // ends the goroutine
			}
			if string(passed) != c.passed || detached != c.detached || err != nil {
				t.Errorf("%s: keys %q in %q: passed %q, detached %v, %v", name, c.keys, c.typed, passed, detached, err)
			}
		}
	}
}

func FuzzDetachReader(f *testing.F) {
	f.Add([]byte("aab"), []byte("aaaaab"))
	f.Add([]byte("keys"), bytes.Repeat([]byte("k"), 5000)) // more than io.ReadAll has room for at once
	f.Fuzz(func(t *testing.T, keys, typed []byte) {
		if len(keys) == 0 || len(keys) > 100 {
			return
		}
		r := newDetachReader(bytes.NewReader(typed), keys)
		r.release()
		passed, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want := typed
		if at := bytes.Index(typed, keys); at >= 0 {
			want = typed[:at]
		}
		if !bytes.Equal(passed, want) {
			t.Errorf("keys %q in %q: passed %q", keys, typed, passed)
		}
	})
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "0": 0, "512": 512, "512B": 512, "64K": 64 << 10, "64k": 64 << 10, "1.5M": 3 << 19,
		"2GiB": 2 << 30, "2gb": 2 << 30, "1T": 1 << 40, "x": -1, "-1": -1, "1X": -1, "1KK": -1,
		"1e30": -1, "NaN": -1, "K": -1, "1iB": -1, "9999999T": -1,
	} {
		got, err := parseSize("--memory", text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, %v; not %d", text, got, err, want)
		}
	}
}

func TestOperands(t *testing.T) {
	for text, want := range map[string]operand{
		"-":      {text: "-", side: stdStream},
		"a":      {text: "a", path: "a"},
		"./-":    {text: "./-", path: "./-"},
		"./:a":   {text: "./:a", path: "./:a"},
		":/a":    {text: ":/a", side: guestSide, path: "/a"},
		":":      {text: ":", side: guestSide, path: "."},
		":~x/y":  {text: ":~x/y", side: guestSide, path: "~x/y"},
		"::a":    {text: "::a", side: guestSide, path: ":a"},
		"C:/x/y": {text: "C:/x/y", path: "C:/x/y"},
	} {
		if got := parseOperand(text); got != want {
			t.Errorf("parseOperand(%q) = %+v", text, got)
		}
	}
	for path, want := range map[string]string{
		"a": "a", "/a/b": "b", "/a/b/": "b", "/": "", ".": "", "..": "", "a/..": "", "a/.": "", "": "", "~": "", "~ann": "~ann", "a/~": "~",
	} {
		if got := baseName(path); got != want {
			t.Errorf("baseName(%q) = %q, not %q", path, got, want)
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		pieces []string
		limit  int
		want   string
	}{
		{[]string{"a\nb\nc\n"}, 2, "b\nc\n"},
		{[]string{"a\nb", "b", "b\nc"}, 2, "bbb\nc"},
		{[]string{"a\n"}, 5, "a\n"},
		{[]string{"a\nb\n"}, 0, ""},
		{nil, 3, ""},
		{[]string{"a", "\n", "b", "\n"}, 1, "b\n"},
	} {
		tail := lastLines{limit: c.limit}
		offset := uint64(0)
		for _, piece := range c.pieces {
			tail.add(client.OutputEvent{Stream: client.Stdout, Offset: offset, Data: []byte(piece)})
			offset += uint64(len(piece))
		}
		got := ""
		for _, line := range tail.lines() {
			got += string(line.Data)
		}
		if got != c.want {
			t.Errorf("last %d of %q: %q, not %q", c.limit, c.pieces, got, c.want)
		}
	}
}

func TestModeString(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o644:                              "-rw-r--r--",
		0o755 | fs.ModeDir:                 "drwxr-xr-x",
		0o4755&0o777 | fs.ModeSetuid:       "-rwsr-xr-x",
		0o644 | fs.ModeSetuid:              "-rwSr--r--",
		0o777 | fs.ModeDir | fs.ModeSticky: "drwxrwxrwt",
		0o770 | fs.ModeSetgid | fs.ModeDir: "drwxrws---",
		0o777 | fs.ModeSymlink:             "lrwxrwxrwx",
		fs.ModeNamedPipe:                   "p---------",
		fs.ModeDevice | fs.ModeCharDevice:  "c---------",
		fs.ModeDevice:                      "b---------",
		fs.ModeSocket:                      "s---------",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("modeString(%v) = %s, not %s", mode, got, want)
		}
		back, err := parseMode(octalMode(mode))
		if err != nil || back != mode&^fs.ModeType {
			t.Errorf("parseMode(%s) = %v, %v", octalMode(mode), back, err)
		}
	}
}

func TestRoff(t *testing.T) {
	for in, want := range map[string]string{
		"a-b": `a\-b`, `a\b`: `a\eb`, ".x": `\&.x`, "'x": `\&'x`, "x.": "x.",
	} {
		if got := roff(in); got != want {
			t.Errorf("roff(%q) = %q, not %q", in, got, want)
		}
	}
}

// TestStdoutFails: a command whose output cannot be written fails and says so.
func TestStdoutFails(t *testing.T) {
	var stderr bytes.Buffer
	a := newApp(strings.NewReader(""), failingWriter{}, &stderr, func(string) (string, bool) { return "", false })
	if code := a.run(t.Context(), []string{"version"}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); got != "guestctl: write standard output: disk is full\n" {
		t.Errorf("stderr: %q", got)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk is full") }

// TestEveryCommandTeaches: each has a help text that says more than its name,
// and an example where it does something.
func TestEveryCommandTeaches(t *testing.T) {
	root := newRoot(newApp(nil, io.Discard, io.Discard, func(string) (string, bool) { return "", false }))
	exempt := []string{"version", "completion", "gen-man", "help"}
	for _, cmd := range root.Commands() {
		if !cmd.Hidden && cmd.Short == "" || !cmd.Hidden && cmd.Long == "" {
			t.Errorf("%s: no help text", cmd.Name())
		}
		if cmd.Runnable() && !slices.Contains(exempt, cmd.Name()) && cmd.Example == "" {
			t.Errorf("%s: no example", cmd.Name())
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			if len([]rune(line)) > 88 {
				t.Errorf("%s: %d columns: %s", cmd.Name(), len([]rune(line)), line)
			}
		}
	}
}

// TestJSONIsDocumented: 'help json' names every field that is printed.
func TestJSONIsDocumented(t *testing.T) {
	words := strings.FieldsFunc(jsonHelp, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
	for _, value := range []any{
		jsonFile{}, jsonProcess{}, jsonRange{}, jsonExit{}, jsonOOM{}, logEntry{}, jsonGap{}, jsonEvent{}, waited{},
		jsonCopy{}, jsonSkip{}, jsonFilesystem{}, jsonInfo{}, jsonAbility{}, jsonMetrics{},
		jsonGrant{}, jsonSession{}, jsonAudit{}, jsonTerminal{},
	} {
		kind := reflect.TypeOf(value)
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			plain := strings.TrimPrefix(name, "raw_")
			if !slices.Contains(words, name) && !slices.Contains(words, plain) {
				t.Errorf("%s.%s is not in 'guestctl help json'", kind.Name(), name)
			}
		}
	}
}
