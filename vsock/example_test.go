package vsock_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/guestd/guestd/vsock"
)

// A guest's server: it waits at boot until AF_VSOCK is there, and talks to the
// host alone.
func ExampleHostOnly() {
	serve := func(addr vsock.Addr) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		lc := vsock.ListenConfig{WaitForDevice: true, Logger: slog.Default()}
		l, err := lc.Listen(ctx, addr)
		if err != nil {
			return err
		}
		host := vsock.HostOnly(l, vsock.Policy{Logger: slog.Default()})
		defer func() { _ = host.Close() }()
		for {
			c, err := host.Accept()
			if err != nil {
				return err
			}
			_ = c.Close()
		}
	}
	_ = serve // with vsock::1024
}

// A host's client: the address says which transport it takes.
func ExampleDial() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	addr, err := vsock.ParseAddr("unix:" + filepath.Join(dir, "guestd.sock"))
	if err != nil {
		log.Fatal(err)
	}
	l, err := vsock.Listen(ctx, addr)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = l.Close() }()

	c, err := vsock.Dial(ctx, addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.RemoteAddr().Network(), c.RemoteAddr() == net.Addr(addr))
	_ = c.Close()
	// Output: unix true
}

func ExampleParseAddr() {
	for _, s := range []string{"vsock::1024", "vsock:host:1025", "hybrid:/run/vm.sock:22", "localhost:1024"} {
		a, err := vsock.ParseAddr(s)
		fmt.Println(a, err)
	}
	// Output:
	// vsock::1024 <nil>
	// vsock:2:1025 <nil>
	// hybrid:/run/vm.sock:22 <nil>
	//  address localhost:1024: want vsock:CID:PORT, hybrid:PATH:PORT or unix:PATH
}
