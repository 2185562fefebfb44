//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/microvm"
	"github.com/guestd/guestd/internal/nsbox"
	"github.com/guestd/guestd/vsock"
)

// endTime bounds the orderly end of a sandbox.
const endTime = 30 * time.Second

// sandbox is a running guest with a client whose connection can be cut.
type sandbox struct {
	*client.Client
	address string
	console func() string
	stop    func(context.Context) error
	wire    *wire
}

// start starts the best sandbox that this machine has, or the asked-for one,
// and says which.
func (s *show) start(ctx context.Context, guestd, kind string) (*sandbox, error) {
	s.title("A sandbox")
	missing := microvm.Available()
	switch {
	case kind == "microvm" && missing != nil:
		return nil, missing
	case kind == "microvm", kind == "auto" && missing == nil:
		return s.startVM(ctx, guestd)
	case kind == "namespaces", kind == "auto":
		return s.startBox(ctx, guestd, missing)
	}
	return nil, fmt.Errorf("-sandbox %s: want microvm, namespaces or auto", kind)
}

func (s *show) startVM(ctx context.Context, guestd string) (*sandbox, error) {
	s.say("guestd becomes /init of a microVM; nothing else but busybox and bash is in it.")
	var vm *microvm.VM
	err := s.timed("boot a microVM until its agent accepts", func() (err error) {
		vm, err = microvm.Start(ctx, microvm.Config{Guestd: guestd})
		return err
	})
	if err != nil {
		return nil, err
	}
	s.say("Running: a QEMU microVM (%s), its agent at %s", vm.AccelDescription(), vm.Addr(microvm.PortAgent))
	return connect(ctx, &sandbox{address: vm.Addr(microvm.PortAgent), console: vm.Console, stop: vm.Stop})
}

func (s *show) startBox(ctx context.Context, guestd string, missing error) (*sandbox, error) {
	if missing != nil {
		s.say("No microVM here: %v.", missing)
	}
	s.say("guestd becomes PID 1 of user, pid, mount and network namespaces of its own: good for a")
	s.say("demonstration, but no boundary like a virtual machine's.")
	var box *nsbox.Box
	err := s.timed("start the namespaces until their agent accepts", func() (err error) {
		box, err = nsbox.Start(ctx, nsbox.Config{Guestd: guestd})
		return err
	})
	if err != nil {
		return nil, err
	}
	s.say("Running: %s, its agent at %s", box.Description(), box.Addr(nsbox.PortAgent))
	return connect(ctx, &sandbox{address: box.Addr(nsbox.PortAgent), console: box.Console, stop: box.Stop})
}

// connect makes the client of a sandbox that was started.
func connect(ctx context.Context, s *sandbox) (*sandbox, error) {
	address, err := vsock.ParseAddr(s.address)
	if err == nil {
		s.wire = &wire{address: address}
		s.Client, err = client.New(s.wire.dial, client.Config{Name: s.address})
	}
	if err != nil {
		return nil, errors.Join(err, s.stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *sandbox) end(ctx context.Context) {
	s.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := s.stop(ctx); err != nil {
		fmt.Println("  the sandbox did not end in order:", err)
	}
}

// wire dials the agent and can cut its own connections.
type wire struct {
	address vsock.Addr

	mu    sync.Mutex
	conns []net.Conn
}

func (w *wire) dial(ctx context.Context) (net.Conn, error) {
	conn, err := vsock.Dial(ctx, w.address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, conn)
	return conn, nil
}

// cut closes every connection under the client's feet and says how many.
func (w *wire) cut() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.conns)
	for _, conn := range w.conns {
		conn.Close()
	}
	w.conns = nil
	return n
}
