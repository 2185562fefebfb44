//go:build linux

package boot

import (
	"slices"
	"strings"
	"testing"
)

func TestParseMounts(t *testing.T) {
	got := parseMounts(`22 1 0:20 / / rw - rootfs none rw
23 22 0:21 / /a\040b\134 rw,relatime shared:1 master:2 - ext4 /dev/vda rw
short line - x
24 22 0:22 / /proc rw
25 22 0:22 / /x\04 rw - tmpfs tmpfs rw,size=1k
`)
	want := []mountEntry{{"/", "rootfs"}, {`/a b\`, "ext4"}, {`/x\04`, "tmpfs"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReadMounts(t *testing.T) {
	mounts, err := readMounts()
	if err != nil || !slices.ContainsFunc(mounts, func(m mountEntry) bool { return m.target == "/" }) {
		t.Errorf("no root in %v, %v", mounts, err)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(`23 22 0:21 / /a\040b rw shared:1 - ext4 /dev/vda rw`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			if m.target == "" || m.kind == "" {
				t.Errorf("empty %+v", m)
			}
			if len(m.target) > len(text) || strings.ContainsAny(m.kind, " ") {
				t.Errorf("%+v", m)
			}
		}
	})
}
