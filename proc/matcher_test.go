//go:build linux

package proc

import (
	"regexp"
	"testing"
	"time"
)

// earliest is the shortest prefix of data in which re matches, found slowly.
func earliest(re *regexp.Regexp, data []byte) int {
	for n := range len(data) + 1 {
		if re.Match(data[:n]) {
			return n
		}
	}
	return -1
}

// FuzzMatcher compares the matcher, fed in pieces, with regexp.
func FuzzMatcher(f *testing.F) {
	f.Add(`a+b`, []byte("xaaab"), byte(2))
	f.Add(`(?m)^ready$`, []byte("not ready\nready\nx"), byte(3))
	f.Add(`\bw\xf6rd\b`, []byte("aw\xc3\xb6rd w\xc3\xb6rd!"), byte(1))
	f.Add(`\$ $`, []byte("root$ ls\nroot$ "), byte(4))
	f.Add(`(?i)listening on \S+:(\d+)`, []byte("LISTENING on x:80"), byte(5))
	f.Add(`[^a]\xff`, []byte("\xff\xff\xc3\xff"), byte(1))
	f.Add(`^$|x{2,3}`, []byte("yxxx"), byte(1))
	f.Fuzz(func(t *testing.T, expr string, data []byte, piece byte) {
		re, err := regexp.Compile(expr)
		if err != nil || len(expr) > 50 || len(data) > 300 {
			t.Skip()
		}
		m, err := newMatcher(re, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		for rest := data; got < 0 && len(rest) > 0; {
			n := min(len(rest), 1+int(piece))
			if m.write(rest[:n]) {
				got = int(m.offset)
			}
			rest = rest[n:]
		}
		// Where a piece ends the text seems to end, and there $ may match:
		// what was found must be a match of that prefix, and nothing that
		// the whole text has may be missed.
		if got >= 0 && !re.Match(data[:got]) && !re.Match(data[:min(len(data), got+1)]) {
			t.Errorf("%q in %q: matched at %d", expr, data, got)
		}
		if got < 0 && len(data) > 0 && len(m.partial) == 0 && re.Match(data) {
			t.Errorf("%q in %q: no match, want %d", expr, data, earliest(re, data))
		}
	})
}

// A pattern with a literal beginning skips what cannot begin it.
func TestMatcherOffsets(t *testing.T) {
	for _, tc := range []struct {
		expr   string
		pieces []string
		want   int // -1: no match
	}{
		{"ready", []string{"rea", "d", "y and on"}, 5},
		{"ready", []string{"rearea", "dready"}, 12},
		{`password: $`, []string{"login\n", "password:", " "}, 16},
		{"é!", []string{"\xc3", "\xa9", "!"}, 3},
		{"é!", []string{"xxxxx\xc3", "\xa9!"}, 8},
		{`\bfoo`, []string{"xfoo", " foo"}, 8},
		{`a.*z`, []string{"a123", "45z6z"}, 7},
		{"x", []string{"yyyy", "\xff\xfe"}, -1},
	} {
		m, err := newMatcher(regexp.MustCompile(tc.expr), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		for _, p := range tc.pieces {
			if m.write([]byte(p)) {
				got = int(m.offset)
				break
			}
		}
		if got != tc.want {
			t.Errorf("%q in %q: %d, want %d", tc.expr, tc.pieces, got, tc.want)
		}
	}
}

// An expression that makes a backtracking engine explode costs nothing special.
func TestMatcherIsLinear(t *testing.T) {
	m, err := newMatcher(regexp.MustCompile(`(a*)*(a|aa)*b`), 0)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = 'a'
	}
	begin := time.Now()
	if m.write(data[:len(data)/16]) {
		t.Fatal("matched")
	}
	small := time.Since(begin)
	begin = time.Now()
	if m.write(data) {
		t.Fatal("matched")
	}
	if large := time.Since(begin); large > 200*small+time.Second {
		t.Errorf("%v for 1 MiB, %v for 64 KiB", large, small)
	}
}
