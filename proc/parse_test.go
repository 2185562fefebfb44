//go:build linux

package proc

import (
	"os"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	st, ok := parseStat([]byte("12 (a) b (c) S 1 34 56 0 -1"))
	if !ok || st != (stat{state: 'S', pgrp: 34, session: 56}) || !st.alive() {
		t.Errorf("%+v, %v", st, ok)
	}
	self, ok := readStat(os.Getpid())
	if !ok || !self.alive() {
		t.Errorf("%+v, %v", self, ok)
	}
	if st, ok := parseStat([]byte("1 (x) Z 1 2 3")); !ok || st.alive() {
		t.Errorf("%+v, %v", st, ok)
	}
}

// FuzzParsers: what the kernel writes is partly what processes write (their
// names); nothing of it may make a parser fail badly.
func FuzzParsers(f *testing.F) {
	f.Add("12 (a) b (c) S 1 34 56 0 -1")
	f.Add("populated 1\nfrozen 0\n")
	f.Fuzz(func(t *testing.T, s string) {
		parseStat([]byte(s))
		flatKey(s, "populated")
		if sig, ok := ParseSignal(s); ok && (sig <= 0 || sig > maxSignals) {
			t.Errorf("signal %d of %q", sig, s)
		}
		if validID("id", s) == nil && (strings.ContainsAny(s, "/\x00\n ") || s[0] == '.') {
			t.Errorf("%q is an id", s)
		}
		keys := map[string]bool{}
		for _, kv := range dedup(strings.Split(s, "\n")) {
			key, _, _ := strings.Cut(kv, "=")
			if keys[key] {
				t.Errorf("%q is there twice", key)
			}
			keys[key] = true
		}
	})
}
