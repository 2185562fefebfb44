//go:build linux

package mountinfo

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got := Parse(`22 1 0:20 / / rw - rootfs none rw
23 22 0:21 / /a\040b\134 rw,relatime shared:1 master:2 - ext4 /dev/vda rw
short line - x
24 22 0:22 / /proc rw
32 31 0:28 /some/pa\040rt /sys/fs/cgroup/uni\040fied rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
garbage - cgroup2
25 22 0:22 / /x\04 rw - tmpfs tmpfs rw,size=1k
`)
	want := []Mount{{"/", "/", "rootfs"}, {"/", `/a b\`, "ext4"}, {"/some/pa rt", "/sys/fs/cgroup/uni fied", "cgroup2"}, {"/", `/x\04`, "tmpfs"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRead(t *testing.T) {
	mounts, err := Read()
	if err != nil || !slices.ContainsFunc(mounts, func(m Mount) bool { return m.Point == "/" }) {
		t.Errorf("no root in %v, %v", mounts, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`23 22 0:21 / /a\040b rw shared:1 - ext4 /dev/vda rw`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range Parse(text) {
			if m.Root == "" || m.Point == "" || m.Type == "" {
				t.Errorf("empty %+v", m)
			}
			if len(m.Point) > len(text) || strings.ContainsAny(m.Type, " ") {
				t.Errorf("%+v", m)
			}
		}
	})
}
