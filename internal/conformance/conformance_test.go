//go:build linux

package conformance_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/conformance"
	"github.com/guestd/guestd/internal/muxtest"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/vsock"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "exec-shim" {
		_ = proc.ExecShim()
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// target is an agent in this process, reached by dial.
func target(dial func(context.Context) (net.Conn, error)) conformance.Target {
	t := conformance.Target{Dial: dial}
	if os.Geteuid() == 0 {
		t.User, t.Mounts = "4242:4243", canMount()
	}
	return t
}

func TestUnixSocket(t *testing.T) {
	address := vsock.Addr{Transport: vsock.Unix, Path: filepath.Join(shortDir(t), "agent.sock")}
	l, err := vsock.Listen(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, vsock.HostOnly(l, vsock.Policy{}))
	conformance.Run(t, target(func(ctx context.Context) (net.Conn, error) { return vsock.Dial(ctx, address) }))
}

func TestPipe(t *testing.T) {
	l := newPipeListener()
	serve(t, l)
	conformance.Run(t, target(l.dial))
}

// TestFirecrackerMuxer goes through a VMM's multiplexer with its faults: no
// half-close, small buffers, answers in pieces.
func TestFirecrackerMuxer(t *testing.T) {
	mux := muxtest.Start(t, muxtest.Config{SplitReply: true})
	serve(t, mux.Listen(1024))
	conformance.Run(t, target(mux.Dialer(1024)))
}

// serve serves an agent on l until the test ends.
func serve(t *testing.T, l net.Listener) {
	t.Helper()
	table, err := proc.NewTable(proc.Config{Shim: []string{"/proc/self/exe", "exec-shim"}})
	if err != nil {
		t.Fatal(err)
	}
	files, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := agent.New(agent.Config{Processes: table, Files: files, Version: "conformance"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error("shut down:", err)
		}
		if err := <-done; !errors.Is(err, agent.ErrServerClosed) {
			t.Error("serve:", err)
		}
		if err := errors.Join(server.Close(), table.Shutdown(ctx)); err != nil {
			t.Error("close:", err)
		}
	})
}

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "conf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
