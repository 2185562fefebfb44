//go:build linux

package sftp

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkPair measures OpenSSH's server and ours in one run: it is the ratio
// of the two that means something.
func BenchmarkPair(b *testing.B) {
	const inFlight = 16
	for _, size := range []int{0, 4 << 10, 32 << 10, maxTransfer} {
		name := map[int]string{0: "stat", 4 << 10: "4K", 32 << 10: "32K", maxTransfer: "255K"}[size]
		for _, kind := range []byte{typeRead, typeWrite} {
			op := map[byte]string{typeRead: "read", typeWrite: "write"}[kind]
			if size == 0 {
				if kind == typeWrite {
					continue
				}
				op = "one"
			}
			for _, server := range []string{"openssh", "guestd"} {
				b.Run(name+"/"+op+"/"+server, func(b *testing.B) {
					dir := b.TempDir()
					writeFile(b, filepath.Join(dir, "f"), strings.Repeat("x", maxTransfer))
					var c *client
					if server == "openssh" {
						c = newOpenSSH(b, dir)
					} else {
						c, _ = startServer(b, dir, Server{})
					}
					c.hello()
					if size == 0 {
						for b.Loop() {
							c.call(typeStat, "f")
						}
						return
					}
					h := c.open("f", openRead|openWrite)
					request := packet(kind, uint32(1), h, uint64(0), uint32(size))
					reply := int64(13 + size)
					if kind == typeWrite {
						request = packet(kind, uint32(1), h, uint64(0), strings.Repeat("y", size))
						reply = int64(len(appendStatus(nil, 1, nil)))
					}
					b.SetBytes(int64(size))
					tokens := make(chan struct{}, inFlight)
					done := make(chan error, 1)
					go func() {
						for range tokens {
							if _, err := io.CopyN(io.Discard, c.conn, reply); err != nil {
								done <- err
								return
							}
						}
						done <- nil
					}()
					for b.Loop() {
						tokens <- struct{}{}
						c.write(request)
					}
					close(tokens)
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				})
			}
		}
	}
}
