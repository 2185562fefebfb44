//go:build linux

package proc

import (
	"os"
	"strings"
	"testing"
)

const hybridMountinfo = `24 30 0:22 / /proc rw,nosuid shared:13 - proc proc rw
31 23 0:27 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
32 31 0:28 /some/part /sys/fs/cgroup/uni\040fied rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
33 31 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory
`

func TestCgroup2Mount(t *testing.T) {
	root, point, err := cgroup2Mount(strings.NewReader(hybridMountinfo))
	if err != nil || root != "/some/part" || point != "/sys/fs/cgroup/uni fied" {
		t.Errorf("%q, %q, %v", root, point, err)
	}
	if _, _, err := cgroup2Mount(strings.NewReader("garbage - cgroup2 \n")); err == nil {
		t.Error("no error for garbage")
	}
}

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
// names, their mount points); nothing of it may make a parser fail badly.
func FuzzParsers(f *testing.F) {
	f.Add(hybridMountinfo)
	f.Add("12 (a) b (c) S 1 34 56 0 -1")
	f.Add("populated 1\nfrozen 0\n")
	f.Add(`\040\`)
	f.Fuzz(func(t *testing.T, s string) {
		if root, point, err := cgroup2Mount(strings.NewReader(s)); err == nil && (root == "" || point == "") {
			t.Error("a mount without a place")
		}
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
