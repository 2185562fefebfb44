//go:build linux

package boot

import (
	"slices"
	"testing"
)

func TestModuleOrder(t *testing.T) {
	index := parseModulesDep(`kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko
kernel/net/vsock.ko:
kernel/net/virtio-transport.ko.zst: kernel/net/vsock.ko kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko
kernel/a.ko: kernel/b.ko
kernel/b.ko: kernel/a.ko

broken line
`)
	tests := []struct {
		names, want []string
	}{
		{[]string{"virtio_transport"}, []string{
			"kernel/net/vsock.ko", "kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko.xz",
			"kernel/net/virtio-transport.ko.zst",
		}},
		{[]string{"virtio-ring", "virtio_ring", "builtin"},
			[]string{"kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko.xz"}},
		{[]string{"a"}, []string{"kernel/b.ko", "kernel/a.ko"}}, // a cycle ends
		{nil, nil},
	}
	for _, tt := range tests {
		if got := index.order(tt.names); !slices.Equal(got, tt.want) {
			t.Errorf("%v\n got %v\nwant %v", tt.names, got, tt.want)
		}
	}
}

// Whatever the file says, each module comes once and after what it needs,
// unless that needs it in turn.
func FuzzModuleOrder(f *testing.F) {
	f.Add("k/a.ko: k/b.ko\nk/b.ko:\n", "a")
	f.Add("a.ko: a.ko\n", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		files := parseModulesDep(text).order([]string{name, name})
		seen := make(map[string]bool)
		for _, file := range files {
			if seen[moduleName(file)] {
				t.Fatalf("%s twice in %v", file, files)
			}
			seen[moduleName(file)] = true
		}
	})
}
